"""Shapley values: by hand, and the axioms that define them."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.shapley import shapley_values, subsets

PLAYERS = ("a", "b", "c", "d")
Game = dict[frozenset[str], float]


@st.composite
def games(draw: st.DrawFn) -> Game:
    """A value for every subset of the players."""
    worth = st.floats(-10, 10, allow_nan=False)
    return {subset: draw(worth) for subset in subsets(PLAYERS)}


def test_three_players_by_hand() -> None:
    # The glove game: a and b have a left glove each, c a right one; a pair is worth 1.
    # Orders in which the last to make a pair is a: only "c a b" (b a c, a b c and so on are completed by c or b).
    # a: 1 of 6 orders, b: 1 of 6, c: 4 of 6.
    found = shapley_values(("a", "b", "c"), lambda s: float("c" in s and len(s) > 1))
    assert found == pytest.approx({"a": 1 / 6, "b": 1 / 6, "c": 4 / 6})


def test_one_player_is_worth_what_it_adds() -> None:
    assert shapley_values(("a",), lambda s: 5.0 if s else 2.0) == {"a": 3.0}
    assert shapley_values((), lambda _: 1.0) == {}


@given(games())
def test_efficiency(game: Game) -> None:
    found = shapley_values(PLAYERS, game.__getitem__)
    assert sum(found.values()) == pytest.approx(game[frozenset(PLAYERS)] - game[frozenset()], abs=1e-9)


@given(games())
def test_symmetry(game: Game) -> None:
    # Exchanging the names of a and b exchanges their values and leaves the others'.
    other = {"a": "b", "b": "a"}
    mirrored = shapley_values(PLAYERS, lambda s: game[frozenset(other.get(name, name) for name in s)])
    found = shapley_values(PLAYERS, game.__getitem__)
    assert mirrored == pytest.approx({"a": found["b"], "b": found["a"], "c": found["c"], "d": found["d"]}, abs=1e-9)
    # Where a and b are alike in every subset, so are their values.
    alike = shapley_values(PLAYERS, lambda s: game[s] + game[frozenset(other.get(name, name) for name in s)])
    assert alike["a"] == pytest.approx(alike["b"], abs=1e-9)


@given(games(), st.floats(-5, 5, allow_nan=False))
def test_null_and_dummy_player(game: Game, own: float) -> None:
    # d adds the same to every subset: nothing (null), or `own`.
    found = shapley_values(PLAYERS, lambda s: game[s - {"d"}] + own * ("d" in s))
    assert found["d"] == pytest.approx(own, abs=1e-9)


@given(games())
def test_it_is_the_mean_over_all_orders(game: Game) -> None:
    added = dict.fromkeys(PLAYERS, 0.0)
    for order in permutations(PLAYERS):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            added[player] += (game[before | {player}] - game[before]) / 24
    assert shapley_values(PLAYERS, game.__getitem__) == pytest.approx(added, abs=1e-9)


def test_each_subset_is_asked_once() -> None:
    asked: list[frozenset[str]] = []

    def value(subset: frozenset[str]) -> float:
        asked.append(subset)
        return 0.0

    shapley_values(PLAYERS, value)
    assert len(asked) == len(set(asked)) == 16
    assert asked[0] == frozenset()


def test_six_players_are_too_many() -> None:
    with pytest.raises(InvalidInputError, match=r"expected at most 5 tasks, .* found 6: a, b, c, d, e, f"):
        shapley_values(tuple("abcdef"), lambda _: 0.0)
