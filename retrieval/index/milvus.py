"""An index in Milvus, for vectors beyond one machine: a collection for each release, searched over the network.

The release keeps the item vectors and which of them the collection holds, so masks are made as for any other index, and
a query that Milvus can't answer fully is answered exactly. A collection never changes: its name is a hash of what is in
it, and one that was left half-filled is filled anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import structlog

from features.schema import Float32, Int32
from infra.files import atomic_directory
from infra.settings import Settings
from retrieval.index.errors import VectorIndexError
from retrieval.index.exact import exact
from retrieval.index.milvus_config import MilvusConfig, MilvusMeta
from retrieval.index.milvus_server import DIGITS, connect, prefix, reported
from retrieval.index.plan import EXACT_ROWS, ask_of_all
from retrieval.index.rows import Mask, Rows, check_asked
from retrieval.layout import INDEX_META, INDEX_POSITIONS

if TYPE_CHECKING:
    from pymilvus import MilvusClient  # type: ignore[import-untyped]

log = structlog.get_logger(__name__)

_ID: Final = "id"
_VECTOR: Final = "vector"
_METRIC: Final = "IP"
_INSERTED: Final = 2_000  # rows at once: 3 MB of 384 floats, and Milvus takes messages up to 64 MB
_MOST: Final = 16_384  # Milvus answers no more
# Ids that an expression may list: of 20,000 items, 10,000 ids took a second in Milvus Lite, whose parser is Python.
_LISTED: Final = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class MilvusIndex:
    """A collection and the exact vectors at hand; safe to search from many threads.

    Attributes:
        meta: see there.
        positions: int32 `[count]`, ascending: the items that the collection holds; they are its ids.
        vectors: float32 `[n_items, dim]` all item vectors (may be memory-mapped).
        client: of the server.
        timeout_s: that one call may take.
    """

    meta: MilvusMeta
    positions: Int32
    vectors: Float32
    client: MilvusClient
    timeout_s: float

    def __len__(self) -> int:
        return self.meta.count

    @classmethod
    def build(cls, vectors: Float32, positions: Int32, config: MilvusConfig, *, settings: Settings, owner: str) -> Self:
        """Fill a collection with the items at `positions`, unless there is one that holds just them.

        Args:
            vectors: float32 `[n_items, dim]`; read in blocks.
            positions: int32 `[count]`, ascending and distinct.
            config: see there.
            settings: where Milvus is.
            owner: the workspace's name, part of the collection's.

        Raises:
            VectorIndexError: a shape, an order or a position is wrong.
            MilvusNotInstalledError: its client isn't installed, or no address is set.
            IndexUnavailableError: it can't be reached, or refuses.
        """
        rows = Rows.checked(vectors, positions, None)
        name = f"{prefix(owner)}{_digest(vectors, rows.positions, config)}"
        meta = MilvusMeta(collection=name, dim=vectors.shape[1], count=len(rows), config=config)
        index = cls(
            meta=meta, positions=rows.positions, vectors=vectors, client=connect(settings), timeout_s=settings.timeout_s
        )
        with reported(name):
            if not index._whole():
                index._fill()
        return index

    def search(self, queries: Float32, k: int, allowed: Mask | None = None) -> tuple[Int32, Float32]:
        """Return the nearest allowed items of each query, best first; arguments and answer as `VectorIndex.search`.

        Raises:
            VectorIndexError: a shape is wrong.
            IndexUnavailableError: Milvus can't be reached, or refuses.
        """
        check_asked(queries, allowed, self.meta.dim, len(self.vectors))
        members = self.positions if allowed is None else self.positions[allowed[self.positions]]
        k = min(k, len(members))
        if k <= 0 or not len(queries):
            return np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
        queries = np.ascontiguousarray(queries, np.float32)
        if len(members) <= max(EXACT_ROWS, 2 * k) or k > _MOST:
            return exact(self.vectors, members, queries, k)
        return self._answered(queries, k, allowed, members)

    def _answered(self, queries: Float32, k: int, allowed: Mask | None, members: Int32) -> tuple[Int32, Float32]:
        """Return positions and scores `[q, k]` of the `members`, the items held that are allowed."""
        ask, expression = k, ""
        if len(members) < len(self):
            missing = np.setdiff1d(self.positions, members, assume_unique=True)
            if len(missing) <= _LISTED:
                expression = f"{_ID} not in {missing.tolist()}"
            elif len(members) <= _LISTED:
                expression = f"{_ID} in {members.tolist()}"
            else:
                ask = min(_MOST, ask_of_all(k, len(self), len(members)))
        found = np.full((len(queries), k), -1, np.int32)
        scores = np.empty((len(queries), k), np.float32)
        for row, hits in enumerate(self._hits(queries, ask, expression)):
            good = [hit for hit in hits if allowed is None or allowed[hit[0]]][:k]
            found[row, : len(good)] = [item for item, _ in good]
            scores[row, : len(good)] = [score for _, score in good]
        short = np.flatnonzero((found < 0).any(axis=1))
        if len(short):
            found[short], scores[short] = exact(self.vectors, members, queries[short], k)
        return found, scores

    def _hits(self, queries: Float32, ask: int, expression: str) -> list[list[tuple[int, float]]]:
        """Return by query ids and inner products, best first."""
        config = self.meta.config
        own = {"ef": max(config.ef_search, ask)} if config.kind == "HNSW" else {}
        with reported(self.meta.collection):
            answer = self.client.search(
                self.meta.collection, data=list(queries), anns_field=_VECTOR, limit=ask, filter=expression,
                search_params={"metric_type": _METRIC, "params": own}, timeout=self.timeout_s,
            )  # fmt: skip
        return [[(int(hit[_ID]), float(hit["distance"])) for hit in hits] for hits in answer]

    def save(self, directory: Path) -> None:
        """Write which collection it is and what it holds into `directory`, atomically."""
        with atomic_directory(directory, replace=True) as folder:
            np.save(folder / INDEX_POSITIONS, self.positions)
            (folder / INDEX_META).write_text(self.meta.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, vectors: Float32, settings: Settings) -> Self:
        """Read what `save` wrote, and check that Milvus holds it.

        Raises:
            VectorIndexError: files and vectors disagree, or the collection is gone or another.
            MilvusNotInstalledError: its client isn't installed, or no address is set.
            IndexUnavailableError: it can't be reached.
        """
        meta = MilvusMeta.model_validate_json((directory / INDEX_META).read_text(encoding="utf-8"))
        positions = np.load(directory / INDEX_POSITIONS, allow_pickle=False)
        top = int(positions[-1]) if len(positions) else -1
        if (len(positions), vectors.shape[1]) != (meta.count, meta.dim) or top >= len(vectors):
            raise VectorIndexError(
                f"{directory}: {INDEX_META} says {meta.count} x {meta.dim}, found {len(positions)} positions up to "
                f"{top} and item vectors {list(vectors.shape)}"
            )
        index = cls(
            meta=meta, positions=positions, vectors=vectors, client=connect(settings), timeout_s=settings.timeout_s
        )
        with reported(meta.collection):
            whole = index._whole()
            if whole:
                index.client.load_collection(meta.collection)
        if not whole:
            raise VectorIndexError(
                f"{directory}: expected collection {meta.collection} with {meta.count} vectors in Milvus, found none; "
                f"`polyrank refresh index` fills one"
            )
        return index

    def _whole(self) -> bool:
        """Return whether the collection is there with all its rows; the index over them comes last."""
        name = self.meta.collection
        if not self.client.has_collection(name) or not self.client.list_indexes(name):
            return False
        return int(self.client.get_collection_stats(name)["row_count"]) == self.meta.count

    def _fill(self) -> None:
        from pymilvus import DataType  # noqa: PLC0415 - an extra

        client, meta = self.client, self.meta
        if client.has_collection(meta.collection):
            client.drop_collection(meta.collection)
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_ID, DataType.INT64, is_primary=True)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=meta.dim)
        client.create_collection(meta.collection, schema=schema)
        for first in range(0, len(self), _INSERTED):
            block = self.positions[first : first + _INSERTED]
            rows = zip(block.tolist(), np.asarray(self.vectors[block], np.float32), strict=True)
            client.insert(meta.collection, [{_ID: item, _VECTOR: vector} for item, vector in rows])
        client.flush(meta.collection)
        config = meta.config
        own = {"M": config.links, "efConstruction": config.ef_construction} if config.kind == "HNSW" else {}
        parameters = client.prepare_index_params()
        parameters.add_index(_VECTOR, index_type=config.kind, metric_type=_METRIC, params=own)
        client.create_index(meta.collection, parameters)
        client.load_collection(meta.collection)
        log.info("milvus_filled", collection=meta.collection, count=meta.count, dim=meta.dim, kind=config.kind)


def _digest(vectors: Float32, positions: Int32, config: MilvusConfig) -> str:
    found = hashlib.sha256(config.model_dump_json(exclude={"ef_search"}).encode())
    for first in range(0, len(positions), _INSERTED):
        block = positions[first : first + _INSERTED]
        found.update(block.tobytes())
        found.update(np.asarray(vectors[block], np.float32).tobytes())
    return found.hexdigest()[:DIGITS]
