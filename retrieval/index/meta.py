"""What an index says of itself: `index.json` beside it."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from retrieval.index.config import IndexType, Storage

SCANNED: Final[frozenset[IndexType]] = frozenset({"flat", "flat_fp16"})
INVERTED: Final[frozenset[IndexType]] = frozenset({"ivf_sq8", "ivf_pq"})


class IndexMeta(BaseModel):
    """What `index.json` says about the index beside it.

    Attributes:
        version: 1 wrote scanned types alone as they still are.
        type, storage: as built, and where `load` puts it.
        dim: of the item vectors.
        prefix: how many of them are indexed; None for all.
        count: vectors held.
        lists: IVF: inverted lists.
        probes: IVF: lists that a search without a mask looks into.
        slack: IVF: how far above its centroid's score a list may hold an answer, in standard deviations.
        ef_search: HNSW: breadth.
        widen: candidates a result that are scored again by the exact vectors.
        doubt: how far below the exact k-th score an answer's code may score; candidates under a mask reach down to it.
        recall: share of the exact nearest found at that effort, on sampled queries; None where it wasn't measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1, 2] = 2
    type: IndexType
    storage: Storage = "memory"
    dim: int
    prefix: int | None = None
    count: int
    lists: int = 0
    probes: int = 1
    slack: float = 0.0
    ef_search: int = 256
    widen: float = 1.0
    doubt: float = 0.0
    recall: float | None = None

    @property
    def rescored(self) -> bool:
        """Whether FAISS's scores are too coarse to answer with."""
        return self.type not in SCANNED or self.prefix is not None
