"""What a mask's size makes of a search; costs by hand at 1,000,000 rows of 384."""

from __future__ import annotations

import pytest

from retrieval.index.meta import IndexMeta
from retrieval.index.plan import plan_search

MILLION = {"dim": 384, "count": 1_000_000}
IVF = IndexMeta(type="ivf_sq8", lists=4_000, probes=16, widen=1.25, **MILLION)
HNSW = IndexMeta(type="hnsw", ef_search=256, widen=1.25, **MILLION)
FLAT = IndexMeta(type="flat_fp16", **MILLION)


@pytest.mark.parametrize("meta", [IVF, HNSW, FLAT])
def test_few_survivors_are_scored_exactly(meta: IndexMeta) -> None:
    for allowed in (1, 100, 1_000, 2_000):
        assert plan_search(meta, min(100, allowed), min(125, allowed), allowed).how == "exact"
    # Half of what is allowed is asked for.
    assert plan_search(meta, 300_000, 300_000, 600_000).how == "exact"


@pytest.mark.parametrize(("meta", "how"), [(IVF, "lists"), (HNSW, "graph"), (FLAT, "scan")])
def test_many_survivors_are_searched(meta: IndexMeta, how: str) -> None:
    for allowed in (200_000, 500_000, 999_999, 1_000_000):
        assert plan_search(meta, 100, 125, allowed).how == how


def test_lists_cost_the_share_that_is_looked_into() -> None:
    # 20,000 rows: exact 9.2 ms; 16 of 4,000 lists, 50 times as many for one row in fifty, are a fifth of the scan's
    # 5 + 3.8 ms. Far answers may be in any list: of 19,000 rows 8.6 ms, and 500 candidates .3, which
    # exact's 8.8 is no more than.
    assert plan_search(IVF, 100, 125, 20_000).how == "lists"
    # 4,000 rows: exact 1.8 ms; all lists 5.8.
    assert plan_search(IVF, 100, 125, 4_000).how == "exact"
    assert plan_search(IVF, 100, 500, 19_000).how == "exact"


def test_a_third_try_is_exact() -> None:
    assert plan_search(IVF, 100, 500, 500_000).how == "lists"  # four times the usual 125
    assert plan_search(IVF, 100, 501, 500_000).how == "exact"


def test_a_graph_is_asked_for_what_holds_enough() -> None:
    # 125 candidates, one row in two allowed: 250 hold them on average, 1.25 * 250 + 16 = 328.5 with the margin; the
    # breadth keeps its proportion, 256 for 200.
    plan = plan_search(HNSW, 100, 125, 500_000)
    assert (plan.how, plan.ask, plan.effort) == ("graph", 329, 422)
    # One in fifty: 7,829 by a breadth of 10,022, 62 ms, most of it the queue; the scan's 8.8 ms and candidates' .1 are
    # less than exact's 9.2.
    assert plan_search(HNSW, 100, 125, 20_000).how == "scan"


def test_effort_grows_with_k() -> None:
    assert plan_search(IVF, 100, 125, None).effort == 16
    assert plan_search(IVF, 400, 500, None).effort == 32
    assert plan_search(HNSW, 400, 500, None).effort == 512
    assert plan_search(IVF, 60_000, 75_000, None).effort == 4_000
    assert plan_search(IVF, 600_000, 750_000, None).how == "exact"
    assert plan_search(FLAT, 600_000, 600_000, None).how == "whole"
