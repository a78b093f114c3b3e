"""What a search does, from its mask's size alone: no clock, so one request is answered in one way everywhere.

Costs are nanoseconds on one core, fitted by `tests/benchmarks/index_costs.py` (200,000 rows, d=384, on 2 busy cores
with AVX-512) and rounded; their ratios count. Exact over the survivors is right for any mask, so it takes ties, and all
masks below `EXACT_ROWS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from retrieval.index.meta import INVERTED, SCANNED, IndexMeta

How = Literal["whole", "exact", "scan", "lists", "graph"]

# Gathering 2,000 rows of 384 floats takes about a millisecond.
EXACT_ROWS: Final = 2_000
_GATHER_NS: Final = 1.2  # a value of an exact row, read from anywhere: 1.21
_CHECK_NS: Final = 5.0  # a row that the selector is asked about: 3.3 in a scan, 5.1 to 7.1 in lists
_CODE_NS: Final = 0.5  # a value of a row that it lets through: .95 fp16, .49 SQ8, .33 PQ
_KEEP_NS: Final = 100.0  # a candidate put in order, beside its gather: 493 in all
# A value of a row of a graph's breadth, each of which visits some ten neighbours, and the breadth's square, since FAISS
# goes through its whole queue for each row: 2.1 and .24 in a graph of 20,000, which half fits the cache, so more here.
_GRAPH_NS: Final = 3.0
_QUEUE_NS: Final = 0.5

TUNED_K: Final = 200  # probes and breadth are measured for this k and grow with a larger one
# Times the usual candidates, where those were too few; where that is too few again, scores lie so close together that a
# third scan and its queue would take longer than all exact scores (PQ, far masks: 123 ms beside 59).
MORE: Final = 4
# What knows no masks is asked for this many more than would hold k allowed ones on average, so that few queries are
# asked again.
_MARGIN: Final = 1.25
_SPARE: Final = 16


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
    usual = math.ceil(k * meta.widen)
    if allowed <= max(EXACT_ROWS, 2 * keep) or keep > MORE * usual:
        return Plan(how="exact")
    dim = meta.prefix or meta.dim
    gather = allowed * meta.dim * _GATHER_NS
    again = keep * (_KEEP_NS + meta.dim * _GATHER_NS) if meta.rescored else 0.0
    scan = meta.count * _CHECK_NS + allowed * dim * _CODE_NS
    if meta.type in INVERTED:
        # More candidates than usual were asked for because answers lie far off: then all lists may be looked into.
        far = keep > usual
        share = 1.0 if far else min(1.0, _effort(meta, k) / meta.lists * meta.count / allowed)
        return Plan(how="exact" if gather <= share * scan + again else "lists")
    if meta.type == "hnsw":
        ask = ask_of_all(keep, meta.count, allowed)
        effort = max(meta.ef_search, math.ceil(ask * max(1.0, meta.ef_search / TUNED_K)))
        walk = effort * (dim * _GRAPH_NS + effort * _QUEUE_NS)
        if ask < meta.count and walk + again < min(gather, scan + again):
            return Plan(how="graph", effort=effort, ask=ask)
    return Plan(how="exact" if gather <= scan + again else "scan")


def ask_of_all(keep: int, count: int, allowed: int) -> int:
    """Return how many of all `count` items to ask for, so that `keep` of the `allowed` ones are likely among them."""
    return math.ceil(keep * count / allowed * _MARGIN) + _SPARE


def _effort(meta: IndexMeta, k: int) -> int:
    """Return probes or breadth for k items without a mask."""
    more = max(1.0, k / TUNED_K)
    if meta.type in INVERTED:
        return min(meta.lists, math.ceil(meta.probes * more))
    return math.ceil(meta.ef_search * more) if meta.type == "hnsw" else 1
