"""What a search does, from its mask's size alone: no clock, so one request is answered in one way everywhere.

Costs are nanoseconds on one core: ratios of `tests/benchmarks/index.py`, whose table names the machine. Exact over
the survivors is right for any mask, so it takes ties, and all masks below `_EXACT_ROWS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from retrieval.index.meta import INVERTED, SCANNED, IndexMeta

How = Literal["whole", "exact", "scan", "lists", "graph"]

# Gathering 2,000 rows of 384 floats takes about half a millisecond.
_EXACT_ROWS: Final = 2_000
_GATHER_NS: Final = 1.0  # a value of an exact row, read from anywhere
_CHECK_NS: Final = 4.0  # a row that the selector is asked about
_CODE_NS: Final = 0.4  # a value of a row that it lets through
_KEEP_NS: Final = 300.0  # a candidate, kept in order and sorted again, without its gather
_GRAPH_NS: Final = 4.0  # a value of a row of a graph's breadth: each visits some ten neighbours

TUNED_K: Final = 200  # probes and breadth are measured for this k and grow with a larger one
_BREADTH_LIMIT: Final = 4_096  # beyond it FAISS's queue takes longer than the distances
# A graph is asked for this many more than would hold k allowed ones on average, so that few queries are asked again.
_GRAPH_MARGIN: Final = 1.25
_GRAPH_SPARE: Final = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to search.

    Attributes:
        how: `whole` is FAISS without a mask; `exact` scores the allowed items by their vectors; `scan` goes through all
            codes with a selector; `lists` through those lists that can hold an answer (lists.py); `graph` asks for
            the nearest of all items and takes the allowed among them, and scans where they are too few.
        effort: probes or breadth, for `whole` and `graph`.
        ask: `graph`: how many of all items to ask for.
    """

    how: How
    effort: int = 1
    ask: int = 0


def plan_search(meta: IndexMeta, k: int, keep: int, allowed: int | None) -> Plan:
    """Return how to find `k` items among `keep` candidates.

    Args:
        meta: of the index.
        k: how many, at most those allowed.
        keep: candidates to score again, at least k and at most the allowed; k where none are.
        allowed: how many of the index's items the mask allows; None without a mask.
    """
    scanned = meta.type in SCANNED
    if allowed is None:
        if not scanned and meta.count <= 2 * k:
            return Plan(how="exact")
        return Plan(how="whole", effort=_effort(meta, k))
    if allowed <= max(_EXACT_ROWS, 2 * keep):
        return Plan(how="exact")
    dim = meta.prefix or meta.dim
    gather = allowed * meta.dim * _GATHER_NS
    again = keep * (_KEEP_NS + meta.dim * _GATHER_NS) if meta.rescored else 0.0
    scan = meta.count * _CHECK_NS + allowed * dim * _CODE_NS
    if meta.type in INVERTED:
        # More candidates than usual were asked for because answers lie far off: then all lists may be looked into.
        far = keep > math.ceil(k * meta.widen)
        share = 1.0 if far else min(1.0, _effort(meta, k) / meta.lists * meta.count / allowed)
        return Plan(how="exact" if gather <= share * scan + again else "lists")
    if meta.type == "hnsw":
        ask = math.ceil(keep * meta.count / allowed * _GRAPH_MARGIN) + _GRAPH_SPARE
        effort = max(meta.ef_search, math.ceil(ask * max(1.0, meta.ef_search / TUNED_K)))
        if effort <= min(_BREADTH_LIMIT, meta.count) and effort * dim * _GRAPH_NS + again < min(gather, scan + again):
            return Plan(how="graph", effort=effort, ask=ask)
    return Plan(how="exact" if gather <= scan + again else "scan")


def _effort(meta: IndexMeta, k: int) -> int:
    """Return probes or breadth for k items without a mask."""
    more = max(1.0, k / TUNED_K)
    if meta.type in INVERTED:
        return min(meta.lists, math.ceil(meta.probes * more))
    return math.ceil(meta.ef_search * more) if meta.type == "hnsw" else 1
