"""The sources' order, and the merge by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.index import IndexConfig, VectorIndex
from retrieval.query import Near
from retrieval.quota import SOURCES, SourceQuota, source_names
from retrieval.scope import Scope
from retrieval.sources import Ranking, collaborative, merge, repeat, semantic, trending

WEIGHTS = SourceQuota().weights()


def ranking(*items: int) -> Ranking:
    return Ranking(items=np.array(items, np.int32), scores=np.arange(len(items), 0, -1, dtype=np.float32))


def test_best_orders_by_score_then_position() -> None:
    items, scores = np.array([9, 4, 7, 2], np.int32), np.array([1, 3, 1, 1], np.float32)
    assert Ranking.best(items, scores, 9).items.tolist() == [4, 2, 7, 9]
    assert Ranking.best(items, scores, 1).items.tolist() == [4]
    assert Ranking.best(items, scores, 0).items.tolist() == []


def test_collaborative_adds_what_it_divided_by_the_deviation() -> None:
    # ALS 0 2 4 has deviation sqrt(8/3) = 1.633: 0, 1.225, 2.449; kNN 30 0 0 has 14.142: 2.121, 0, 0.
    als, knn = np.array([0, 2, 4], np.float32), np.array([30, 0, 0], np.float32)
    members = np.array([10, 11, 12], np.int32)
    both = collaborative(als, knn, members, np.ones(3, bool), 3)
    assert both.items.tolist() == [12, 10, 11]
    np.testing.assert_allclose(both.scores, [2.449, 2.121, 1.225], atol=1e-3)
    closed = collaborative(als, knn, members, np.array([True, True, False]), 3)
    assert closed.items.tolist() == [10, 11]
    assert collaborative(None, knn, members, np.ones(3, bool), 1).items.tolist() == [10]
    assert not len(collaborative(None, None, members, np.ones(3, bool), 3).items)
    # A constant has no deviation; it says nothing instead of dividing by zero.
    assert collaborative(np.ones(3, np.float32), None, members, np.ones(3, bool), 2).items.tolist() == [10, 11]


def test_repeat_keeps_allowed_history() -> None:
    allowed = np.array([True, True, False, True])
    items, weights = np.array([0, 2, 3, 8, 1], np.int32), np.array([1, 9, 5, 9, 0], np.float32)
    # 2 is not allowed, 8 is newer than the release, 1 has faded to nothing.
    assert repeat(items, weights, 5, allowed).items.tolist() == [3, 0]


def test_trending_skips_what_is_not_allowed() -> None:
    found = trending(np.array([3, 1, 2, 0], np.int32), 2, np.array([True, False, True, True]))
    assert found.items.tolist() == [3, 2]
    assert found.scores.tolist() == [1, 0.5]


def test_merge_by_hand() -> None:
    rankings = {"semantic": ranking(5, 6), "collaborative": ranking(6, 7), "trending": ranking(9)}
    merged = merge(rankings, {"semantic": 2, "collaborative": 2, "trending": 1}, WEIGHTS, 10)
    # 6: 1/62 + 1/61 = .03252; 5: 1/61 = .01639; 7: 1/62 = .01613; 9: .5/61 = .00820
    assert merged.items.tolist() == [6, 5, 7, 9]
    np.testing.assert_allclose(merged.scores, [0.03252, 0.01639, 0.01613, 0.00820], atol=1e-5)
    assert [source_names(bits) for bits in merged.sources] == [
        ("semantic", "collaborative"),
        ("semantic",),
        ("collaborative",),
        ("trending",),
    ]


def test_merge_fills_after_the_quotas() -> None:
    rankings = {"repeat": ranking(1), "collaborative": ranking(2, 3, 4, 5)}
    merged = merge(rankings, {"repeat": 1, "collaborative": 1}, WEIGHTS, 3)
    # 1 and 2 are within quotas; of the rest, 3 ranks best.
    assert merged.items.tolist() == [1, 2, 3]
    # Within its quota a source's word stands even where another item has the better fused rank.
    rankings = {"trending": ranking(8, 9), "repeat": ranking(1, 2, 3)}
    assert sorted(merge(rankings, {"trending": 1, "repeat": 1}, WEIGHTS, 2).items.tolist()) == [1, 8]


@given(items=st.lists(st.integers(0, 40), unique=True, max_size=20), k=st.integers(1, 30), quota=st.integers(0, 9))
@settings(deadline=None)
def test_one_source_is_merged_as_beside_one_that_says_nothing(items: list[int], k: int, quota: int) -> None:
    alone = merge({"repeat": ranking(*items)}, {"repeat": quota}, WEIGHTS, k)
    # An item that another source names last, and that is no candidate of either quota, changes nothing above it.
    beside = merge({"repeat": ranking(*items), "trending": ranking(99)}, {"repeat": 99, "trending": 0}, WEIGHTS, 99)
    kept = beside.items != 99
    np.testing.assert_array_equal(alone.items, beside.items[kept][:k])
    np.testing.assert_array_equal(alone.scores, beside.scores[kept][:k])
    np.testing.assert_array_equal(alone.sources, beside.sources[kept][:k])


def test_merge_of_nothing() -> None:
    assert len(merge({}, {}, WEIGHTS, 5)) == 0
    assert len(merge({"trending": Ranking.empty()}, {"trending": 5}, WEIGHTS, 5)) == 0
    assert len(merge({"trending": ranking(1)}, {"trending": 5}, WEIGHTS, 0)) == 0


lists = st.lists(st.integers(0, 40), unique=True, max_size=20)


@given(st.fixed_dictionaries(dict.fromkeys(SOURCES, lists)), st.integers(1, 50), st.integers(0, 8))
@settings(max_examples=150, deadline=None)
def test_merge_properties(named: dict[str, list[int]], k: int, quota: int) -> None:
    rankings = {name: ranking(*items) for name, items in named.items()}
    counts = dict.fromkeys(SOURCES, quota)
    merged = merge(rankings, counts, WEIGHTS, k)  # type: ignore[arg-type]
    union = set().union(*named.values())
    assert len(merged) == min(k, len(union))
    items = merged.items.tolist()
    assert len(set(items)) == len(items)
    assert set(items) <= union
    assert np.all(np.diff(merged.scores) <= 0)
    for item, bits in zip(items, merged.sources.tolist(), strict=True):
        names = source_names(bits)
        assert names
        assert all(item in named[name] for name in names)
    nominated = set().union(*(named[name][:quota] for name in SOURCES))
    assert len(nominated & set(items)) == min(k, len(nominated))


def test_several_vectors_are_answered_by_their_fused_ranks() -> None:
    """Along x come 0, 1, 2, along y 2, 1, 0; with a weight of 3 for x: 3 (0), 3/2 (1), 3/3 (2, as along y).

    Of one weight each: 1 (0 and 2), 1/2 (1); without 0: 1 (1, the first along x, and 2).
    """
    vectors = np.array([[1, 0], [0.8, 0.6], [0, 1]], np.float32)
    index = VectorIndex.build(vectors, np.arange(3, dtype=np.int32), IndexConfig())
    every = np.ones(3, bool)

    def named(weights: list[float], n: int, *, allowed: list[bool], excluded: list[int]) -> list[int]:
        near = Near(vectors=np.eye(2, dtype=np.float32), weights=np.array(weights, np.float32))
        absent = np.empty(0, np.int32) if all(allowed) else None
        scope = Scope(open=np.array(allowed) & every, excluded=np.array(excluded, np.int32), absent=absent)
        return semantic(index, near, n, scope).items.tolist()

    yes = [True, True, True]
    assert named([3, 1], 3, allowed=yes, excluded=[]) == [0, 1, 2]
    assert named([1, 1], 3, allowed=yes, excluded=[]) == [0, 2, 1]
    assert named([1, 1], 2, allowed=yes, excluded=[0]) == [1, 2]
    assert named([1, 3], 3, allowed=[True, False, True], excluded=[]) == [2, 0]
    whole = Scope(open=every, excluded=np.empty(0, np.int32), absent=np.empty(0, np.int32))
    one = semantic(index, Near.to(vectors[1]), 2, whole)
    np.testing.assert_allclose(one.scores, [1.0, 0.8], atol=1e-6)
