"""The sources of candidates by name and bit, and how many candidates each may name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from enum import IntFlag
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from retrieval.contract import SourceName


class Source(IntFlag):
    """One bit per source, so that a candidate's provenance is one uint8."""

    SEMANTIC = 1
    COLLABORATIVE = 2
    REPEAT = 4
    TRENDING = 8
    SEQUENCE = 16
    CAMPAIGN = 32

    @classmethod
    def named(cls, name: SourceName) -> Source:
        """Return the flag of `name`."""
        return cls[name.upper()]


# What every release with users has, and all that are merged by rank; in the order of their bits and of a learnt merge's
# ranks. Campaigns have places of their own instead.
ALWAYS: Final[tuple[SourceName, ...]] = ("semantic", "collaborative", "repeat", "trending")
SOURCES: Final[tuple[SourceName, ...]] = (*ALWAYS, "sequence")
_ALL: Final[tuple[SourceName, ...]] = (*SOURCES, "campaign")

# By provenance bits: 500 candidates an answer would spend 6 ms on reading enum flags.
_NAMES: Final[tuple[tuple[SourceName, ...], ...]] = tuple(
    tuple(name for name in _ALL if bits & Source.named(name)) for bits in range(2 ** len(_ALL))
)


def held_sources(*, users: bool, sequence: bool) -> tuple[SourceName, ...]:
    """Return the sources merged by rank of a release that has users or not, and a sequence model or not."""
    if not users:
        return ("semantic",)
    return SOURCES if sequence else ALWAYS


def source_names(bits: int) -> Sequence[SourceName]:
    """Return the names behind provenance bits, in the order of the bits."""
    return _NAMES[bits]


# Quotas are for this many candidates; they sum to more because sources overlap.
PER: Final = 500


class SourceQuota(BaseModel):
    """How many candidates each source may name per `PER` asked for, and how much its ranks count.

    On Complete Journey before 2017-11-06, without the semantic source, 250 + 200 + 50 hold .452 of all items bought in
    the next 28 days and .167 of those never bought before; letting the collaborative list spend its places on items
    that the repeat list already names, .426 and .107. The fused order alone then reaches NDCG@10 .408 there, and .052
    for items never bought before; a repeat weight below 10 lets items deep in the repeat list overtake its head when
    another source names them too (.379 at k = 100 with 4, .067 with 1).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    semantic: int = Field(150, ge=0)
    collaborative: int = Field(200, ge=0)
    repeat: int = Field(250, ge=0)
    trending: int = Field(50, ge=0)
    sequence: int = Field(150, ge=0)
    semantic_weight: float = Field(1.0, ge=0)
    collaborative_weight: float = Field(1.0, ge=0)
    repeat_weight: float = Field(10.0, ge=0)
    trending_weight: float = Field(0.5, ge=0)
    sequence_weight: float = Field(1.0, ge=0)

    def counts(self, k: int, active: Collection[SourceName]) -> dict[SourceName, int]:
        """Return how many each active source may name for `k` candidates; together they reach k, or all are zero.

        Quotas scale with k. When the active ones sum to less than `PER`, they are raised to fill k alone.
        """
        quotas: dict[SourceName, int] = {name: getattr(self, name) for name in SOURCES if name in active}
        total = min(PER, sum(quotas.values()))
        return {name: math.ceil(quota * k / total) if total else 0 for name, quota in quotas.items()}

    def weights(self) -> Mapping[SourceName, float]:
        """Return the weight of each source's ranks."""
        return {name: getattr(self, f"{name}_weight") for name in SOURCES}
