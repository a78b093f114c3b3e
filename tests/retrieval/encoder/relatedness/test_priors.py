"""Each prior against figures derived by hand, and on its scale whatever the data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.config import Edge, ExpertConfig
from retrieval.encoder.relatedness.cooccurrence import Cooccurrence
from retrieval.encoder.relatedness.expert import Expert
from retrieval.encoder.relatedness.graph import KnowledgeGraph
from retrieval.encoder.relatedness.hierarchy import Hierarchy
from retrieval.encoder.relatedness.matrix import Relatedness
from retrieval.encoder.relatedness.topics import TextTopics, VectorTopics

NAN = float("nan")
Check = Callable[[Relatedness], None]


def _cooccurrence(columns: dict[str, list[float]], min_rows: int = 1) -> Cooccurrence:
    return Cooccurrence(tasks=tuple(columns), labels=np.array(list(columns.values())).T, min_rows=min_rows)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        # p(a) = 4/8, p(b) = p(ab) = 2/8: lift 2, ln 2 / -ln 1/4 = 1/2.
        ([1, 1, 0, 0, 0, 0, 0, 0], 0.5),
        # Equal labels: lift 2, ln 2 / -ln 1/2.
        ([1, 1, 1, 1, 0, 0, 0, 0], 1.0),
        # p(ab) = 3/8 of p(b) = 4/8: lift 3/2, ln 1.5 / ln (8/3).
        ([1, 1, 1, 0, 1, 0, 0, 0], math.log(1.5) / math.log(8 / 3)),
        # p(ab) = 2/8 = p(a) p(b): by chance.
        ([1, 1, 0, 0, 1, 1, 0, 0], 0.0),
        # Once together, less than chance: lift 1/2 would be -1/3.
        ([1, 0, 0, 0, 1, 1, 1, 0], 0.0),
        # Never together.
        ([0, 0, 0, 0, 1, 1, 1, 1], 0.0),
        # On the six rows that carry both: p(a) = 3/6, p(b) = p(ab) = 1/6: lift 2, ln 2 / ln 6.
        ([NAN, 1, 0, 0, NAN, 0, 0, 0], math.log(2) / math.log(6)),
        # One label alone on the shared rows says nothing, on either side.
        ([1, 1, 1, 1, 1, 1, 1, 1], NAN),
        ([0, 0, 0, 0, 0, 0, 0, 0], NAN),
        ([1, 0, 1, 0, NAN, NAN, NAN, NAN], NAN),
        ([NAN] * 8, NAN),
    ],
)
def test_lift_of_labels(other: list[float], expected: float) -> None:
    prior = _cooccurrence({"a": [1, 1, 1, 1, 0, 0, 0, 0], "b": other})
    assert prior.relate(("a", "b")).matrix[0, 1] == pytest.approx(expected, nan_ok=True)


def test_few_shared_rows_are_no_evidence() -> None:
    columns = {"a": [1, 1, 0, 0, 1], "b": [1, 1, 0, 0, NAN]}
    assert _cooccurrence(columns, min_rows=4).relate(("a", "b")).matrix[0, 1] == pytest.approx(1.0)
    assert np.isnan(_cooccurrence(columns, min_rows=5).relate(("a", "b")).matrix[0, 1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0.0, 1.0], [1.0, 0.5]]), "task b, row 1: expected 0, 1 or NaN, found 0.5"),
        (np.zeros((3, 1)), r"expected \[rows, 2\], one column a task, found \[3, 1\]"),
    ],
)
def test_labels_are_checked(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Cooccurrence(tasks=("a", "b"), labels=labels, min_rows=1)


@settings(deadline=None)
@given(
    arrays.arrays(np.float64, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([0, 1, NAN])),
    st.integers(1, 3),
)
def test_lift_is_on_the_scale(assert_relatedness: Check, labels: np.ndarray, min_rows: int) -> None:
    names = tuple(f"task{n}" for n in range(labels.shape[1]))
    found = Cooccurrence(tasks=names, labels=labels, min_rows=min_rows).relate(names)
    assert_relatedness(found)
    turned = Cooccurrence(tasks=names, labels=labels[::-1], min_rows=min_rows).relate(names)
    np.testing.assert_array_equal(found.matrix, turned.matrix)


def test_cosine_of_words() -> None:
    prior = TextTopics({"a": ["Tea cup"], "b": ["tea pot"], "c": ["soap"], "silent": ["", "--"]})
    found = prior.relate(("a", "b", "c", "silent", "absent")).matrix
    # Of 3 texts tea is in 2, cup and pot in 1: idf = ln(4 / 3) + 1 and ln(4 / 2) + 1; cosine t^2 / (t^2 + c^2).
    tea, cup = math.log(4 / 3) + 1, math.log(2) + 1
    assert found[0, 1] == pytest.approx(tea**2 / (tea**2 + cup**2))
    assert found[0, 2] == 0.0
    assert np.isnan(found[3, :3]).all()
    assert np.isnan(found[4, :4]).all()


def test_cosine_is_of_the_mean_over_texts() -> None:
    found = TextTopics({"a": ["tea", "soap"], "b": ["tea"]}).relate(("a", "b"))
    # One-word texts are unit vectors: (1/2, 1/2) against (1, 0).
    assert found.matrix[0, 1] == pytest.approx(math.sqrt(0.5))


def test_chinese_words_meet_in_their_characters() -> None:
    found = TextTopics({"a": ["辣椒"], "b": ["辣味"], "c": ["肥皂"]}).relate(("a", "b", "c")).matrix
    hot, other = math.log(4 / 3) + 1, math.log(2) + 1  # as tea and cup above
    assert found[0, 1] == pytest.approx(hot**2 / (hot**2 + other**2))
    assert found[0, 2] == 0.0


def test_texts_without_a_word_leave_all_unknown(assert_relatedness: Check) -> None:
    for prior in (TextTopics({"a": [""]}), TextTopics({}), VectorTopics({})):
        found = prior.relate(("a", "b"))
        assert_relatedness(found)
        assert np.isnan(found.matrix[0, 1])


def test_cosine_of_vectors() -> None:
    vectors = {
        "a": np.array([[1.0, 0], [0, 1]]),
        "b": np.array([[1.0, 0]]),
        "opposed": np.array([[-1.0, 0]]),
        "cancelled": np.array([[1.0, 0], [-1, 0]]),
        "empty": np.empty((0, 2)),
    }
    found = VectorTopics(vectors).relate(tuple(vectors)).matrix
    assert found[0, 1] == pytest.approx(math.sqrt(0.5))  # (1/2, 1/2) against (1, 0)
    assert found[1, 2] == 0.0
    assert np.isnan(found[3, [0, 1, 2, 4]]).all()
    assert np.isnan(found[4, :4]).all()


@settings(deadline=None)
@given(
    st.lists(arrays.arrays(np.float32, st.tuples(st.integers(0, 3), st.just(3)), elements=st.floats(-1, 1, width=32)))
)
def test_cosine_is_on_the_scale(assert_relatedness: Check, rows: list[np.ndarray]) -> None:
    vectors = {f"task{n}": part for n, part in enumerate(rows)}
    assert_relatedness(VectorTopics(vectors).relate((*vectors, "absent")))


PATHS = {
    "purchase": "commerce/purchase",
    "repurchase": "commerce/purchase/repurchase",
    "rating": "commerce/opinion/rating",
    "again": "commerce/purchase/repurchase",
    "intent": "support/intent",
    "elsewhere": "support/purchase/repurchase",
}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("purchase", "repurchase", 2 * 2 / (2 + 3)),
        ("repurchase", "rating", 2 * 1 / (3 + 3)),
        ("purchase", "rating", 2 * 1 / (2 + 3)),
        ("repurchase", "again", 1.0),
        ("purchase", "intent", 0.0),
        ("repurchase", "elsewhere", 0.0),  # like names below different ones are different nodes
        ("purchase", "undeclared", NAN),
    ],
)
def test_depth_of_the_common_ancestor(left: str, right: str, expected: float) -> None:
    found = Hierarchy(PATHS).relate((left, right)).matrix
    assert found[0, 1] == pytest.approx(expected, nan_ok=True)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=1, max_size=5), max_size=6))
def test_depth_is_on_the_scale(assert_relatedness: Check, routes: list[list[str]]) -> None:
    paths = {f"task{n}": "/".join(route) for n, route in enumerate(routes)}
    assert_relatedness(Hierarchy(paths).relate((*paths, "absent")))


def test_shortest_path() -> None:
    # a -1- b -2- topic, a -5- topic, topic -.5- c; d has an edge to a concept of its own alone.
    lengths = {("a", "b"): 1, ("topic", "b"): 2, ("a", "topic"): 5, ("topic", "c"): 0.5, ("d", "island"): 1}
    edges = [Edge(between=ends, length=length) for ends, length in lengths.items()]
    found = KnowledgeGraph(edges).relate(("c", "a", "b", "d", "absent")).matrix
    assert found[1, 2] == pytest.approx(1 / (1 + 1))
    assert found[0, 2] == pytest.approx(1 / (1 + 2.5))
    assert found[0, 1] == pytest.approx(1 / (1 + 3.5))  # through b, not by the edge of 5
    assert found[0, 3] == 0.0
    assert np.isnan(found[4, :4]).all()


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([("a", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("e", "f")]), st.floats(1e-3, 1e3), max_size=5
    )
)
def test_path_is_on_the_scale(assert_relatedness: Check, lengths: dict[tuple[str, str], float]) -> None:
    edges = [Edge(between=ends, length=length) for ends, length in lengths.items()]
    assert_relatedness(KnowledgeGraph(edges).relate(("f", "e", "d", "c", "b", "a")))


def test_expert_is_taken_at_their_word(assert_relatedness: Check) -> None:
    declared = ExpertConfig(names=("b", "a", "c"), matrix=((1, 0.3, None), (0.3, 1, 0.7), (None, 0.7, 1)))
    found = Expert(declared).relate(("a", "b", "c", "absent"))
    assert_relatedness(found)
    assert found.matrix[0, 1] == 0.3
    assert found.matrix[0, 2] == 0.7
    assert np.isnan(found.matrix[1, 2])
    assert np.isnan(found.matrix[3, :3]).all()
