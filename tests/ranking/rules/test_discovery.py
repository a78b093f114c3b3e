from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking.rules.config import Discovery
from ranking.rules.discovery import discover


def test_by_hand() -> None:
    """First page of 1, then every 3 positions one new item; rows 4 and 5 are new: 0 | 1 2 4 | 3 5."""
    bought = np.array([True, True, True, True, False, False])
    rule = Discovery(every=3, first_page=1)
    assert discover(np.arange(6), bought, rule).tolist() == [0, 1, 2, 4, 3, 5]


@given(
    bought=st.lists(st.booleans(), max_size=60),
    every=st.integers(1, 6),
    page=st.integers(0, 12),
    seed=st.integers(0, 99),
    k=st.integers(0, 70),
)
def test_properties(bought: list[bool], every: int, page: int, seed: int, k: int) -> None:
    known = np.array(bought, bool)
    order = np.random.default_rng(seed).permutation(len(bought))
    rule = Discovery(every=every, first_page=page)
    found = discover(order, known, rule)
    assert discover(order, known, rule, k).tolist() == found[:k].tolist()
    assert sorted(found.tolist()) == list(range(len(bought)))  # a permutation: none lost, none twice
    assert found[:page].tolist() == order[:page].tolist()
    for kind in (known, ~known):  # inside each kind the order stays
        assert [row for row in found if kind[row]] == [row for row in order if kind[row]]
    rest = found[page:]
    new_left = (~known[rest])[::-1].cumsum()[::-1]
    for start in range(len(rest) - every + 1):
        if new_left[start] > 0:  # as long as a never-bought item is left
            assert (~known[rest[start : start + every]]).any()
