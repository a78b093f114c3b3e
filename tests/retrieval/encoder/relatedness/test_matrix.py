from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.encoder.relatedness.matrix import Affinity, Relatedness, combine

NAN = float("nan")
NAMES = ("a", "b", "c")


def _three(ab: float, ac: float, bc: float) -> Relatedness:
    return Relatedness(names=NAMES, matrix=np.array([[1, ab, ac], [ab, 1, bc], [ac, bc, 1]]))


def test_mean_is_over_the_priors_that_know_the_pair() -> None:
    found = combine(NAMES, [(_three(0.2, 0.5, NAN), 1.0), (_three(0.8, NAN, NAN), 3.0)])
    # a-b: (1 x .2 + 3 x .8) / 4; a-c: the first alone; b-c: nobody.
    np.testing.assert_allclose(found.matrix, _three(0.65, 0.5, NAN).matrix)


def test_weight_zero_leaves_a_prior_out() -> None:
    found = combine(NAMES, [(_three(0.2, NAN, NAN), 1.0), (_three(0.9, 0.9, NAN), 0.0)])
    np.testing.assert_allclose(found.matrix, _three(0.2, NAN, NAN).matrix)


def test_without_priors_nothing_is_known() -> None:
    np.testing.assert_array_equal(combine(NAMES, []).matrix, _three(NAN, NAN, NAN).matrix)


def test_known_tasks_are_put_in_their_places() -> None:
    # Known in another order, and with a task that isn't asked for.
    values = np.array([[7, 0.1, 0.2], [0.1, 7, 0.3], [0.2, 0.3, 7]])
    found = Relatedness.among(NAMES, ("c", "other", "a"), values)
    np.testing.assert_array_equal(found.matrix, _three(NAN, 0.2, NAN).matrix)


@pytest.mark.parametrize(
    "matrix", [[[1, 0.2], [0.3, 1]], [[1, 1.1], [1.1, 1]], [[1, -0.1], [-0.1, 1]], [[0.9, 0.2], [0.2, 1]], [[1]]]
)
def test_a_matrix_off_the_scale_is_our_mistake(matrix: list[list[float]]) -> None:
    with pytest.raises(AssertionError):
        Relatedness(names=("a", "b"), matrix=np.array(matrix))


def test_only_pairs_of_different_tasks_are_evidence() -> None:
    alone = Affinity(names=("a", "b"), matrix=np.diag([0.1, 0.2]), batches=np.diag([3, 3]))
    assert not alone.has_pairs
    assert Affinity(names=("a", "b"), matrix=alone.matrix, batches=np.array([[3, 1], [0, 3]])).has_pairs


SHARES = st.one_of(st.just(NAN), st.floats(0, 1))
WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))


@settings(deadline=None)
@given(st.lists(st.tuples(SHARES, SHARES, SHARES, WEIGHTS), max_size=4))
def test_mean_stays_on_the_scale_and_between_its_parts(drawn: list[tuple[float, float, float, float]]) -> None:
    parts = [(_three(ab, ac, bc), weight) for ab, ac, bc, weight in drawn]
    found = combine(NAMES, parts).matrix
    assert np.array_equal(found, found.T, equal_nan=True)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        known = [part.matrix[i, j] for part, weight in parts if weight > 0 and not np.isnan(part.matrix[i, j])]
        if known:
            assert min(known) - 1e-9 <= found[i, j] <= min(1.0, max(known) + 1e-9)
        else:
            assert np.isnan(found[i, j])
