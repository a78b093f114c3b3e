"""How to index, and what `auto` makes of the data's size, the memory and the recall asked for.

Measured on one busy AVX2 core, 24,480 clustered vectors, d=384, k=150 (median ms a query, recall): flat fp32 11.6
(3.0 at best: the scan of 37 MB is bound by memory), flat fp16 2.0 (1.000), SQ8 2.0 (.994), IVF256-SQ8 0.3 (.83 with 16
probes) and 0.5 (.91 with 32). So `auto` takes flat as long as a scan is short, halves its bytes above `_FP32_BYTES`,
and takes IVF-SQ8 beyond; IVF-PQ where that doesn't fit the memory. HNSW only when asked for: the graph nearly doubles
the bytes and takes several times as long to build.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.machine import memory_limit

IndexType = Literal["flat", "flat_fp16", "ivf_sq8", "ivf_pq", "hnsw"]
Storage = Literal["memory", "mapped"]

_FP32_BYTES: Final = 8_000 * 384 * 4  # a scan of about 1 ms
_FLAT_BYTES: Final = 50_000 * 384 * 2  # in fp16: a scan of about 4 ms
# Approximate types learn ranges, centroids or a graph: from fewer vectors than a byte has values, PQ can't, and a scan
# of so few takes 10 us.
_LEARNABLE: Final = 256
# Above it no type but a scan is sure to reach the target.
_EXACT_TARGET: Final = 0.999
# Half of the machine's memory is for the index: the rest is for the item vectors' pages, the encoder and the models.
_INDEX_SHARE: Final = 0.5
# Eight workers that each hold a copy still fit the budget; a larger index is mapped, one copy for all.
_COPIES: Final = 8
_ID_BYTES: Final = 8  # an inverted list stores each row's number as int64


@dataclass(frozen=True, kw_only=True)
class IndexChoice:
    """What is built: `type` and `storage`, the bytes that FAISS holds, and the reason for the log."""

    type: IndexType
    storage: Storage
    bytes: int
    reason: str


class IndexConfig(BaseModel):
    """How to index.

    Attributes:
        type: `auto` picks by size, memory and `recall_target`; `flat` is exact, `flat_fp16` exact but for rounding. The
            candidates of the others are scored again by the exact vectors.
        storage: where a loaded index lies: `memory`, or `mapped` from the release's file, whose pages all workers of a
            machine share. `auto` maps what is large against the memory.
        memory_gib: GiB that the index may take; None takes half of what the machine or the container has.
        recall_target: probes, breadth and number of candidates are the fewest that reach it on sampled queries.
        prefix: index the first dimensions alone (of a Matryoshka encoder); candidates are scored again by all.
        lists: IVF: number of lists; None takes 4 * sqrt(n).
        probes: IVF: fixes the number of probes instead of measuring it.
        code_bytes: IVF-PQ: bytes of a vector, a divisor of its dimensions; None takes a quarter of the dimensions.
        links: HNSW: edges a node.
        ef_construction: HNSW: breadth of the search while building.
        ef_search: HNSW: fixes the breadth of a search instead of measuring it; raised to k where k is larger.
        gpu: `auto` searches on the first GPU where this FAISS has one and the type can (all but HNSW).
        seed: of k-means and of the samples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["auto", "flat", "flat_fp16", "ivf_sq8", "ivf_pq", "hnsw"] = "auto"
    storage: Literal["auto", "memory", "mapped"] = "auto"
    memory_gib: float | None = Field(None, gt=0)
    recall_target: float = Field(0.99, gt=0, le=1)
    prefix: int | None = Field(None, ge=1)
    lists: int | None = Field(None, ge=1)
    probes: int | None = Field(None, ge=1)
    code_bytes: int | None = Field(None, ge=1)
    links: int = Field(32, ge=4)
    ef_construction: int = Field(80, ge=8)
    ef_search: int | None = Field(None, ge=8)
    gpu: Literal["auto", "never"] = "auto"
    seed: int = 0

    @property
    def local(self) -> IndexConfig:
        """What the scenes of training use: the same."""
        return self

    def resolve(self, count: int, dim: int) -> IndexChoice:
        """Return what to build for `count` vectors of `dim` indexed dimensions."""
        budget = int(memory_limit() * _INDEX_SHARE if self.memory_gib is None else self.memory_gib * 2**30)
        kind, reason = self._type(count, dim, budget)
        size = count * self._row_bytes(kind, dim)
        storage: Storage = self.storage if self.storage != "auto" else "mapped" if size * _COPIES > budget else "memory"
        return IndexChoice(type=kind, storage=storage, bytes=size, reason=reason)

    def _type(self, count: int, dim: int, budget: int) -> tuple[IndexType, str]:
        if count < _LEARNABLE:
            return "flat", f"{count} vectors are too few to learn from"
        return self._automatic(count, dim, budget) if self.type == "auto" else (self.type, "asked for")

    def _automatic(self, count: int, dim: int, budget: int) -> tuple[IndexType, str]:
        if count * dim * 4 <= _FP32_BYTES:
            return "flat", "a scan is short"
        if count * dim * 2 <= _FLAT_BYTES:
            return "flat_fp16", "a scan is short in half precision"
        if self.recall_target > _EXACT_TARGET:
            return "flat_fp16", f"recall of {self.recall_target} needs a scan"
        need = count * self._row_bytes("ivf_sq8", dim)
        if need <= budget:
            return "ivf_sq8", f"{need / 2**30:.2f} GiB fit the budget of {budget / 2**30:.2f}"
        return "ivf_pq", f"ivf_sq8 takes {need / 2**30:.2f} GiB of a budget of {budget / 2**30:.2f}"

    def _row_bytes(self, kind: IndexType, dim: int) -> int:
        """Return the bytes that FAISS takes for one vector."""
        if kind == "flat":
            return 4 * dim
        if kind == "flat_fp16":
            return 2 * dim
        if kind == "ivf_sq8":
            return dim + _ID_BYTES
        if kind == "ivf_pq":
            return self.pq_bytes(dim) + _ID_BYTES
        return dim + 2 * self.links * 4 + 16  # int32 edges, 2 * links of them on the ground level; offsets and levels

    def pq_bytes(self, dim: int) -> int:
        """Return the bytes of a product-quantised vector: as asked, or the largest divisor of `dim` up to a quarter."""
        if self.code_bytes is not None:
            return self.code_bytes
        return next(size for size in range(max(1, dim // 4), 0, -1) if dim % size == 0)

    def list_count(self, count: int) -> int:
        """Return the number of inverted lists: k-means wants 39 vectors a centroid, 4 * sqrt(n) is FAISS's own rule."""
        return self.lists or max(1, min(round(4 * math.sqrt(count)), count // 39))
