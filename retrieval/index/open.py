"""The one place that knows which kind of index a configuration or a folder is of."""

from __future__ import annotations

import json
from pathlib import Path

from features.schema import Float32, Int32
from infra.settings import Settings
from retrieval.index.config import IndexConfig
from retrieval.index.milvus import MilvusIndex
from retrieval.index.milvus_config import MilvusConfig, MilvusMeta
from retrieval.index.vector_index import VectorIndex
from retrieval.layout import INDEX_META

AnyIndexConfig = IndexConfig | MilvusConfig
AnyIndex = VectorIndex | MilvusIndex


def build_index(
    vectors: Float32, positions: Int32, config: AnyIndexConfig, queries: Float32 | None = None, *, owner: str
) -> AnyIndex:
    """Index the items at `positions`; arguments and errors as `VectorIndex.build` and `MilvusIndex.build`."""
    if isinstance(config, MilvusConfig):
        return MilvusIndex.build(vectors, positions, config, settings=Settings(), owner=owner)
    return VectorIndex.build(vectors, positions, config, queries)


def load_index(directory: Path, vectors: Float32, config: IndexConfig | None = None) -> AnyIndex:
    """Read what an index's `save` wrote; arguments and errors as `VectorIndex.load` and `MilvusIndex.load`."""
    if json.loads((directory / INDEX_META).read_bytes())["type"] == "milvus":
        return MilvusIndex.load(directory, vectors, Settings())
    return VectorIndex.load(directory, vectors, config)


def collection_of(directory: Path) -> str | None:
    """Return the name of the Milvus collection that a folder of an index is about; None of another kind."""
    found = json.loads((directory / INDEX_META).read_bytes())
    return MilvusMeta.model_validate(found).collection if found["type"] == "milvus" else None
