from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.encoder.relatedness.config import GroupConfig
from retrieval.encoder.relatedness.groups import propose_groups
from retrieval.encoder.relatedness.matrix import Affinity, Relatedness

NAN = float("nan")


def _prior(**pairs: float) -> Relatedness:
    """Relatedness by pair of one-letter names; unknown where left out."""
    names = tuple(sorted({name for pair in pairs for name in pair}))
    matrix = np.full((len(names), len(names)), NAN)
    np.fill_diagonal(matrix, 1.0)
    for (left, right), value in pairs.items():
        i, j = names.index(left), names.index(right)
        matrix[i, j] = matrix[j, i] = value
    return Relatedness(names=names, matrix=matrix)


def _affinity(matrix: list[list[float]]) -> Affinity:
    values = np.array(matrix, np.float64)
    return Affinity(names=tuple("abcd"[: len(values)]), matrix=values, batches=(~np.isnan(values)).astype(np.int64))


PAIRS = _prior(ac=0.9, bd=0.8, ab=0.1, ad=0.2, bc=0.1, cd=0.2)


def test_two_pairs_are_found_with_their_means() -> None:
    found = propose_groups(PAIRS, GroupConfig())
    assert found.names == (("a", "c"), ("b", "d"))
    assert found.basis == "prior"
    first, second = found.groups
    assert (first.within, second.within) == (pytest.approx(0.9), pytest.approx(0.8))
    # (.1 + .2 + .1 + .2) / 4, from either side.
    assert (first.between, second.between) == (pytest.approx(0.15), pytest.approx(0.15))
    # Distances: a and c are .1 from each other and (.9 + .8) / 2 from the others; b is .2 from d and .9 from the
    # others, d .2 and .8: mean of 1 - .1/.85 twice, 1 - .2/.9 and 1 - .2/.8.
    expected = (2 * (1 - 0.1 / 0.85) + (1 - 0.2 / 0.9) + (1 - 0.2 / 0.8)) / 4
    assert found.silhouette == pytest.approx(expected)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0.0, (("a", "b", "c", "d"),)),
        # The two pairs are joined at their mean similarity of .15.
        (0.14, (("a", "b", "c", "d"),)),
        (0.16, (("a", "c"), ("b", "d"))),
        (0.85, (("a", "c"), ("b",), ("d",))),
        (0.95, (("a",), ("b",), ("c",), ("d",))),
    ],
)
def test_limit_joins_no_groups_less_alike(limit: float, expected: tuple[tuple[str, ...], ...]) -> None:
    assert propose_groups(PAIRS, GroupConfig(choice="limit", limit=limit)).names == expected
    # Silhouettes choose only among what the limit allows.
    assert len(propose_groups(PAIRS, GroupConfig(limit=limit)).names) >= len(expected)


def test_no_more_groups_than_can_be_afforded() -> None:
    assert propose_groups(PAIRS, GroupConfig(max_groups=1)).names == (("a", "b", "c", "d"),)
    assert propose_groups(PAIRS, GroupConfig(choice="limit", limit=0.95, max_groups=3)).names == (
        ("a", "c"),
        ("b",),
        ("d",),
    )


def test_alike_tasks_stay_together() -> None:
    found = propose_groups(_prior(ab=0.4, ac=0.4, bc=0.4), GroupConfig())
    assert found.names == (("a", "b", "c"),)
    assert (found.groups[0].within, found.groups[0].between) == (pytest.approx(0.4), None)
    assert found.silhouette == 0.0


def test_tasks_that_harm_each_other_are_parted() -> None:
    # Means of both directions: a-b (.3 - .1) / 2 = .1, a-c -.2, b-c (-.4 + .2) / 2 = -.1.
    found = propose_groups(_affinity([[0.5, 0.3, -0.2], [-0.1, 0.5, -0.4], [-0.2, 0.2, 0.5]]), GroupConfig())
    assert found.names == (("a", "b"), ("c",))
    assert found.basis == "affinity"
    assert found.groups[0].within == pytest.approx(0.1)
    assert found.groups[0].between == pytest.approx((-0.2 - 0.1) / 2)
    assert found.groups[1].within is None


def test_two_tasks_are_together_unless_they_harm_each_other() -> None:
    assert propose_groups(_affinity([[0.5, 0.1], [0.1, 0.5]]), GroupConfig()).names == (("a", "b"),)
    assert propose_groups(_affinity([[0.5, -0.1], [-0.1, 0.5]]), GroupConfig()).names == (("a",), ("b",))


def test_one_known_direction_stands_for_both() -> None:
    found = propose_groups(_affinity([[0.5, NAN], [0.25, 0.5]]), GroupConfig())
    assert found.groups[0].within == pytest.approx(0.25)


def test_a_task_that_nothing_is_known_of_stands_alone() -> None:
    found = propose_groups(_prior(ab=0.9, ac=NAN, bc=NAN), GroupConfig())
    assert found.names == (("a", "b"), ("c",))
    assert found.groups[1].between is None


def test_one_task_is_one_group() -> None:
    found = propose_groups(Relatedness(names=("a",), matrix=np.ones((1, 1))), GroupConfig())
    assert found.names == (("a",),)
    assert (found.groups[0].within, found.groups[0].between, found.silhouette) == (None, None, 0.0)


@settings(deadline=None)
@given(st.data())
def test_groups_are_a_partition_that_names_do_not_change(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 6))
    values = data.draw(st.lists(st.one_of(st.just(NAN), st.floats(-2, 1)), min_size=size**2, max_size=size**2))
    choice: Literal["silhouette", "limit"] = data.draw(st.sampled_from(["silhouette", "limit"]))
    most = data.draw(st.integers(1, 6))
    names = tuple("abcdef"[:size])
    evidence = Affinity(
        names=names, matrix=np.array(values).reshape(size, size), batches=np.ones((size, size), np.int64)
    )
    found = propose_groups(evidence, GroupConfig(choice=choice, limit=data.draw(st.floats(-1, 1)), max_groups=most))
    assert sorted(task for group in found.names for task in group) == list(names)
    assert [group[0] for group in found.names] == sorted(group[0] for group in found.names)
    assert len(found.groups) <= most
    assert -1 <= found.silhouette <= 1
