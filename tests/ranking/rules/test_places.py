from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking.rules.places import pin, shift

ORDER = np.arange(6)


def only(*rows: int, n: int = 6) -> np.ndarray:
    return np.isin(np.arange(n), rows)


def by_row(**places: int) -> np.ndarray:
    """`r3=2`: row 3 goes two places up."""
    return np.array([places.get(f"r{row}", 0) for row in range(6)], np.int64)


def test_a_boost_passes_so_many() -> None:
    assert shift(ORDER, by_row(r3=2)).tolist() == [0, 3, 1, 2, 4, 5]
    assert shift(ORDER, by_row(r3=9)).tolist() == [3, 0, 1, 2, 4, 5]
    assert shift(ORDER, by_row(r1=-2)).tolist() == [0, 2, 3, 1, 4, 5]
    # Each passes rows 0 to 2, and they keep their order; row 4 passes the one row before it that stays.
    assert shift(ORDER, by_row(r3=3, r4=3)).tolist() == [3, 4, 0, 1, 2, 5]
    assert shift(ORDER, by_row(r3=3, r4=1)).tolist() == [3, 0, 1, 4, 2, 5]


@given(seed=st.integers(0, 999), row=st.integers(0, 5), up=st.integers(-8, 8))
def test_alone_it_moves_exactly_so_far(seed: int, row: int, up: int) -> None:
    order = np.random.default_rng(seed).permutation(6)
    places = np.zeros(6, np.int64)
    places[row] = up
    found = shift(order, places)
    rank = order.tolist().index(row)
    assert found.tolist().index(row) == min(max(rank - up, 0), 5)
    assert found[found != row].tolist() == order[order != row].tolist()


def test_pins_by_hand() -> None:
    """Row 4 at place 1 and row 5 at place 3: 4 | 0 | 5 | 1 2 3."""
    found, pinned = pin(ORDER, [(only(5), [3]), (only(4), [1])])
    assert found.tolist() == [4, 0, 5, 1, 2, 3]
    assert pinned.tolist() == [4, 5]


def test_the_best_of_a_filter_stand_first() -> None:
    """The best two of rows 2, 3 and 5 at places 4 and 1: row 2 at 1, row 3 at 4."""
    assert pin(ORDER, [(only(2, 3, 5), [4, 1])])[0].tolist() == [2, 0, 1, 3, 4, 5]


def test_a_row_is_pinned_once() -> None:
    """The first rule takes row 5; the second names only that one and leaves its place."""
    assert pin(ORDER, [(only(5), [1]), (only(5), [2])])[0].tolist() == [5, 0, 1, 2, 3, 4]


def test_behind_the_end_is_the_end() -> None:
    assert pin(ORDER, [(only(0), [99])])[0].tolist() == [1, 2, 3, 4, 5, 0]
    # Place 6 is taken, so the one before it is the last there is.
    assert pin(ORDER, [(only(0), [99]), (only(1), [6])])[0].tolist() == [2, 3, 4, 5, 0, 1]
    assert pin(ORDER[:0], [(only(0), [1])])[0].tolist() == []


@given(
    n=st.integers(0, 12),
    named=st.lists(st.sets(st.integers(0, 11)), min_size=1, max_size=4),
    places=st.lists(st.integers(1, 15), unique=True, min_size=4, max_size=8),
    seed=st.integers(0, 99),
)
def test_pins_are_where_they_were_put(n: int, named: list[set[int]], places: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(n)
    pins = [(only(*rows, n=12), places[number :: len(named)]) for number, rows in enumerate(named)]
    found, pinned = pin(order, pins)
    assert sorted(found.tolist()) == list(range(n))
    rest = found[~np.isin(found, pinned)]
    assert rest.tolist() == order[np.isin(order, rest)].tolist()
    taken: set[int] = set()
    for mask, own in pins:
        best = [row for row in order.tolist() if mask[row] and row not in taken][: len(own)]
        taken |= set(best)
        for row, place in zip(best, sorted(own), strict=False):
            if place <= n:
                assert found[place - 1] == row
    assert taken == set(pinned.tolist())
