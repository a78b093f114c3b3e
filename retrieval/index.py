"""One factory for FAISS indices over normalised item vectors: build, search under a mask, save, load, measure.

Scores are inner products, which are cosines because the vectors have length 1. An index holds eligible items alone;
`positions` maps its rows to item positions, so a caller never sees a row of the index.

Measured on one busy AVX2 core, 24,480 clustered vectors, d=384, k=150 (median ms a query, recall): flat fp32 11.6
(3.0 at best: the scan of 37 MB is bound by memory), flat fp16 2.0 (1.000), SQ8 2.0 (.994), IVF256-SQ8 0.3 (.83 with 16
probes) and 0.5 (.91 with 32), HNSW32 0.9 (.85) and 1.8 (.93). Build: IVF 2.6 s, HNSW 33 s. So `auto` takes flat as long
as a scan is short, halves its bytes above `_FP32_LIMIT`, and IVF-SQ8 beyond; HNSW only when asked for.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

import faiss
import numpy as np
import numpy.typing as npt
import structlog
from pydantic import BaseModel, ConfigDict, Field

from features.schema import Float32, Int32
from infra.errors import InvalidInputError
from infra.files import atomic_directory
from retrieval.layout import INDEX_FILE, INDEX_META, INDEX_POSITIONS

log = structlog.get_logger(__name__)
# The stubs of faiss 1.15 know neither the Python constructors (selectors, search parameters) nor the GPU build.
_faiss: Any = faiss

Mask = npt.NDArray[np.bool_]
IndexType = Literal["flat", "flat_fp16", "ivf_sq8", "hnsw"]

_FP32_LIMIT: Final = 8_000  # 12 MB at d=384: a scan of about 1 ms
_FLAT_LIMIT: Final = 50_000  # 38 MB in fp16: a scan of about 4 ms
# At most this many allowed items are scored exactly at once: gathering 2,000 rows of 384 floats takes about 1 ms,
# and an approximate search under so narrow a mask finds too few (faiss#3186).
_EXACT_LIMIT: Final = 2_000
_EXACT_BLOCK: Final = 16_384
_TUNED_K: Final = 200  # IVF's probes are tuned for this k and grow with a larger one
_PARALLEL_QUERIES: Final = 8
_EF_LIMIT: Final = 4_096


class VectorIndexError(InvalidInputError):
    """Vectors, positions or queries don't fit the index."""


class IndexConfig(BaseModel):
    """How to index.

    Attributes:
        type: `auto` picks by size; `flat` is exact, `flat_fp16` exact but for rounding.
        recall_target: IVF: probes are the fewest that reach it on sampled items at build time.
        lists: IVF: number of lists; None takes 4 * sqrt(n).
        probes: IVF: fixes the number of probes instead of measuring it.
        links: HNSW: edges a node.
        ef_construction: HNSW: breadth of the search while building.
        ef_search: HNSW: breadth of a search, raised to k where k is larger.
        gpu: `auto` searches on the first GPU where this FAISS has one and the type can (all but HNSW).
        seed: of k-means and of the sample that measures recall.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["auto", "flat", "flat_fp16", "ivf_sq8", "hnsw"] = "auto"
    recall_target: float = Field(0.97, gt=0, le=1)
    lists: int | None = Field(None, ge=1)
    probes: int | None = Field(None, ge=1)
    links: int = Field(32, ge=4)
    ef_construction: int = Field(80, ge=8)
    ef_search: int = Field(256, ge=8)
    gpu: Literal["auto", "never"] = "auto"
    seed: int = 0

    def resolve(self, count: int) -> IndexType:
        """Return the type for `count` vectors."""
        if self.type != "auto":
            return self.type
        if count <= _FP32_LIMIT:
            return "flat"
        return "flat_fp16" if count <= _FLAT_LIMIT else "ivf_sq8"


class IndexMeta(BaseModel):
    """What `index.json` says about the index beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    type: IndexType
    dim: int
    count: int
    probes: int = 1
    ef_search: int = 256


@dataclass(kw_only=True, eq=False)
class VectorIndex:
    """A FAISS index with the exact vectors at hand; safe to search from many threads.

    Attributes:
        meta: type, size and search effort.
        positions: int32 `[count]` item position of each row, ascending.
        vectors: float32 `[n_items, dim]` all item vectors (may be memory-mapped): the exact fallback reads them.
        cpu: the FAISS index, rows in the order of `positions`.
        gpu: the same index on a GPU, for searches without a mask; None elsewhere.
    """

    meta: IndexMeta
    positions: Int32
    vectors: Float32
    cpu: Any
    gpu: Any = None
    _gpu_lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return self.meta.count

    @classmethod
    def build(cls, vectors: Float32, positions: Int32, config: IndexConfig) -> Self:
        """Index the items at `positions`.

        Args:
            vectors: float32 `[n_items, dim]`, rows of length 1.
            positions: int32 `[count]` items to hold, ascending and distinct.
            config: see there.

        Raises:
            VectorIndexError: a shape, an order or a position is wrong.
        """
        if vectors.ndim != 2:
            raise VectorIndexError(f"index: expected vectors [n_items, dim], found shape {list(vectors.shape)}")
        if len(positions) and (np.any(np.diff(positions) <= 0) or positions[0] < 0 or positions[-1] >= len(vectors)):
            raise VectorIndexError(f"index: expected ascending distinct positions in [0, {len(vectors)}), found others")
        rows = np.ascontiguousarray(vectors[positions], dtype=np.float32)
        kind = config.resolve(len(rows))
        cpu = _train(kind, rows, config)
        cpu.add(rows)
        meta = IndexMeta(type=kind, dim=vectors.shape[1], count=len(rows), ef_search=config.ef_search)
        index = cls(meta=meta, positions=positions.astype(np.int32), vectors=vectors, cpu=cpu)
        if kind == "ivf_sq8":
            index._tune_probes(config)
        log.info("index_built", type=kind, count=len(rows), dim=meta.dim, probes=index.meta.probes)
        index.gpu = _to_gpu(cpu, index.meta, config)
        return index

    def search(self, queries: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        """Return the nearest allowed items of each query, best first.

        Args:
            queries: float32 `[q, dim]`, rows of length 1.
            k: how many; more than there are is clipped.
            allowed: bool `[n_items]`; None allows all.

        Returns:
            positions int32 `[q, k']` and inner products float32 `[q, k']` with k' = min(k, allowed items held): a
            position is never -1, since a query that finds too few is answered exactly.

        Raises:
            VectorIndexError: a shape is wrong.
        """
        if queries.ndim != 2 or queries.shape[1] != self.meta.dim:
            raise VectorIndexError(f"index: expected queries [q, {self.meta.dim}], found shape {list(queries.shape)}")
        if allowed is not None and allowed.shape != (len(self.vectors),):
            raise VectorIndexError(f"index: expected a mask [{len(self.vectors)}], found shape {list(allowed.shape)}")
        held = None if allowed is None else allowed[self.positions]
        count = len(self) if held is None else int(np.count_nonzero(held))
        k = min(k, count)
        if k <= 0 or not len(queries):
            return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if held is not None and count <= max(_EXACT_LIMIT, 2 * k):
            return _exact(self.vectors, self.positions[held], queries, k)
        scores, rows = self._approximate(queries, k, held, count)
        short = np.flatnonzero((rows < 0).any(axis=1))
        found = self.positions[np.maximum(rows, 0)]
        if len(short):
            members = self.positions if held is None else self.positions[held]
            found[short], scores[short] = _exact(self.vectors, members, queries[short], k)
        return found, scores

    def _approximate(
        self, queries: Float32, k: int, held: Mask | None, count: int
    ) -> tuple[Float32, npt.NDArray[np.int64]]:
        """Search FAISS; the fewer of its rows are allowed, the harder it looks."""
        effort = len(self) / count * max(1, k / _TUNED_K)
        if len(queries) < _PARALLEL_QUERIES:
            # FAISS parallelises over queries; for one, waking its threads costs more than the search: 9.9 ms became 2.3
            # at 24,000 vectors on 2 cores. The setting holds for the calling thread alone.
            _faiss.omp_set_num_threads(1)
        if held is None and self.gpu is not None:
            with self._gpu_lock:  # a GPU index keeps scratch memory of its own and isn't safe to share
                return self.gpu.search(queries, k)  # type: ignore[no-any-return]
        selector = None if held is None else _faiss.IDSelectorBitmap(np.packbits(held, bitorder="little"))
        params: Any
        if self.meta.type == "ivf_sq8":
            probes = min(self.cpu.nlist, math.ceil(self.meta.probes * effort))
            params = _faiss.SearchParametersIVF(sel=selector, nprobe=probes)
        elif self.meta.type == "hnsw":
            breadth = min(_EF_LIMIT, math.ceil(self.meta.ef_search * effort))
            params = _faiss.SearchParametersHNSW(sel=selector, efSearch=max(breadth, k))
        else:
            params = _faiss.SearchParameters(sel=selector)
        return self.cpu.search(queries, k, params=params)  # type: ignore[no-any-return]

    def _tune_probes(self, config: IndexConfig) -> None:
        """Set the fewest probes (a power of two) whose recall on sampled items reaches the target.

        Measured below `search`, whose exact fallback would answer for probes that find too few.
        """
        probes = config.probes
        if probes is None:
            k = min(_TUNED_K, len(self))
            rng = np.random.default_rng(config.seed)
            sample = self.vectors[rng.choice(self.positions, min(256, len(self)), replace=False)]
            _, exact = _exact(self.vectors, self.positions, sample, k)
            probes = 1
            while probes < self.cpu.nlist:
                self.meta = self.meta.model_copy(update={"probes": probes})
                _, rows = self._approximate(sample, k, None, len(self))
                found = np.where(rows < 0, -1, self.positions[rows])
                if _recall(exact, _products(self.vectors, sample, found)) >= config.recall_target:
                    break
                probes *= 2
        self.meta = self.meta.model_copy(update={"probes": min(probes, self.cpu.nlist)})

    def save(self, directory: Path) -> None:
        """Write the index, its positions and `index.json` into `directory`, atomically; vectors lie elsewhere."""
        with atomic_directory(directory, replace=True) as folder:
            _faiss.write_index(self.cpu, str(folder / INDEX_FILE))
            np.save(folder / INDEX_POSITIONS, self.positions)
            (folder / INDEX_META).write_text(self.meta.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, vectors: Float32, config: IndexConfig | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            directory: the folder.
            vectors: float32 `[n_items, dim]` the item vectors that the index was built from.
            config: only `gpu` is read.

        Raises:
            VectorIndexError: the files and `vectors` disagree.
        """
        meta = IndexMeta.model_validate_json((directory / INDEX_META).read_text(encoding="utf-8"))
        cpu = _faiss.read_index(str(directory / INDEX_FILE))
        positions = np.load(directory / INDEX_POSITIONS, allow_pickle=False)
        top = int(positions[-1]) if len(positions) else -1
        if (cpu.d, cpu.ntotal) != (meta.dim, meta.count) or vectors.shape[1] != meta.dim or top >= len(vectors):
            raise VectorIndexError(
                f"{directory}: {INDEX_META} says {meta.count} x {meta.dim}, the index holds {cpu.ntotal} x {cpu.d} up "
                f"to position {top}, the item vectors are {list(vectors.shape)}"
            )
        gpu = _to_gpu(cpu, meta, config or IndexConfig())
        return cls(meta=meta, positions=positions, vectors=vectors, cpu=cpu, gpu=gpu)


def recall_against_exact(index: VectorIndex, vectors: Float32, queries: Float32, k: int) -> float:
    """Return the share of the exact top k that `index` finds, averaged over `queries` (float32 `[q, dim]`).

    An item found counts when it is as near as the k-th of exact search: items of one text have one vector, and which of
    them an exact search names is chance. Counted by name, a flat index found .94 of the demo's top 100.
    """
    found, _ = index.search(queries, k)
    _, exact = _exact(vectors, index.positions, queries, min(k, len(index)))
    return _recall(exact, _products(vectors, queries, found))


def _products(vectors: Float32, queries: Float32, found: Int32) -> Float32:
    """Return each query's inner products with the items at `found` (int32 `[q, k]`), -inf where it is -1."""
    products: Float32 = np.einsum("qd,qkd->qk", queries, vectors[np.maximum(found, 0)])
    return np.where(found < 0, np.float32(-np.inf), products)


def _recall(exact: Float32, found: Float32) -> float:
    """Return the share of products found (float32 `[q, k]`) that reach the last of the exact ones, best first.

    One for nothing to find. Two sums of one product, in another order, differ by a few 1e-7.
    """
    if not exact.size:
        return 1.0
    return float((found >= exact[:, -1:] - 1e-6).sum() / exact.size)


def _train(kind: IndexType, rows: Float32, config: IndexConfig) -> Any:
    """Return an empty FAISS index of `kind`, trained on `rows` (float32 `[count, dim]`) where it needs that."""
    dim = rows.shape[1]
    if kind == "flat":
        return _faiss.IndexFlatIP(dim)
    if kind == "flat_fp16":
        return _faiss.IndexScalarQuantizer(dim, _faiss.ScalarQuantizer.QT_fp16, _faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        graph = _faiss.IndexHNSWFlat(dim, config.links, _faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = config.ef_construction
        return graph
    # k-means wants some 39 vectors a centroid (FAISS warns below), and 4 * sqrt(n) lists is its usual rule.
    lists = config.lists or max(1, min(round(4 * math.sqrt(len(rows))), len(rows) // 39))
    ivf = _faiss.index_factory(dim, f"IVF{lists},SQ8", _faiss.METRIC_INNER_PRODUCT)
    ivf.cp.seed = config.seed + 1  # zero would mean "from the clock"
    ivf.train(rows)
    return ivf


def _to_gpu(cpu: Any, meta: IndexMeta, config: IndexConfig) -> Any:
    """Return a copy of `cpu` on the first GPU, or None where there is none; HNSW has no GPU form."""
    if config.gpu == "never" or meta.type == "hnsw" or getattr(_faiss, "get_num_gpus", int)() == 0:
        return None
    copy = _faiss.index_cpu_to_gpu(_faiss.StandardGpuResources(), 0, cpu)
    if meta.type == "ivf_sq8":
        copy.nprobe = meta.probes
    log.info("index_on_gpu", type=meta.type, count=meta.count)
    return copy


def _exact(vectors: Float32, members: Int32, queries: Float32, k: int) -> tuple[Int32, Float32]:
    """Return the exact top `k` of the items `members` (int32 `[m]`, m >= k): int32 and float32 `[q, k]`.

    Goes through `members` in blocks, keeping k a query, so that memory stays at a block however many there are.
    """
    best_items = np.empty((len(queries), 0), np.int32)
    best_scores = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(members), _EXACT_BLOCK):
        block = members[start : start + _EXACT_BLOCK]
        scores = np.concatenate([best_scores, queries @ vectors[block].T], axis=1)
        items = np.concatenate([best_items, np.broadcast_to(block, (len(queries), len(block)))], axis=1)
        if scores.shape[1] > k:
            keep = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, items = np.take_along_axis(scores, keep, 1), np.take_along_axis(items, keep, 1)
        best_scores, best_items = scores, items
    order = np.lexsort((best_items, -best_scores), axis=1)
    return np.take_along_axis(best_items, order, 1), np.take_along_axis(best_scores, order, 1)
