"""What can be chosen about an index in Milvus, and what a release says of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.index.config import IndexConfig


class MilvusConfig(BaseModel):
    """An index in Milvus, at POLYRANK_MILVUS_URI.

    Attributes:
        kind: Milvus' own index; `AUTOINDEX` leaves it and its effort to the server.
        links: HNSW: edges a node.
        ef_construction: HNSW: breadth of the search while building.
        ef_search: HNSW: breadth of a search, raised to k where k is larger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["milvus"] = "milvus"
    kind: Literal["HNSW", "FLAT", "AUTOINDEX"] = "HNSW"
    links: int = Field(32, ge=2, le=2048)
    ef_construction: int = Field(200, ge=8)
    ef_search: int = Field(256, ge=8, le=32_768)

    @property
    def local(self) -> IndexConfig:
        """What the scenes of training use, which serve nobody."""
        return IndexConfig()


class MilvusMeta(BaseModel):
    """`index.json` of an index in Milvus.

    Attributes:
        collection: its name there.
        dim, count: of its vectors.
        config: as built.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["milvus"] = "milvus"
    collection: str
    dim: int
    count: int
    config: MilvusConfig
