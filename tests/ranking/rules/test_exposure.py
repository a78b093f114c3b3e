from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.rules.config import Exposure
from ranking.rules.exposure import discounts, expose


def rule(share: float, first: int) -> Exposure:
    return Exposure(ids=("named",), share=share, first=first)


def named(text: str) -> np.ndarray:
    """`x` for each named row."""
    return np.array([letter == "x" for letter in text], bool)


def test_discounts() -> None:
    """1 / log2(2), 1 / log2(3), 1 / log2(4)."""
    assert discounts(3) == pytest.approx([1, 0.63093, 0.5])


def test_by_hand() -> None:
    """30% of four places, whose exposures are 1, .631, .5 and .431.

    Place 1 is due at a lag of 1 > .3 * 1. Place 2: .3 * 1.631 = .489 < .631. Place 3: .3 * 2.131 = .639 >= .5, so row 4
    comes there. Place 4: .3 * 2.562 - .5 = .269 < .431 is no lag, but .5 / 2.562 is 19.5% of all, and only this place
    is left to make up for it: row 5.
    """
    assert expose(np.arange(6), [rule(0.3, 4)], [named("....xx")]).tolist() == [0, 1, 4, 5, 2, 3]
    # 15% is met by place 3 alone.
    assert expose(np.arange(6), [rule(0.15, 4)], [named("....xx")]).tolist() == [0, 1, 2, 4, 3, 5]


def test_a_share_that_is_met_leaves_the_order() -> None:
    assert expose(np.arange(4), [rule(0.5, 4)], [named("x.x.")]).tolist() == [0, 1, 2, 3]


def test_too_few_named_rows_all_come() -> None:
    assert expose(np.arange(4), [rule(1, 3)], [named("...x")]).tolist() == [3, 0, 1, 2]
    assert expose(np.arange(3), [rule(1, 3)], [named("...")]).tolist() == [0, 1, 2]
    assert expose(np.arange(0), [rule(1, 3)], [named("")]).tolist() == []


def test_one_row_serves_two_limits() -> None:
    """Both want place 1 at once; row 2 is of both."""
    assert expose(np.arange(3), [rule(1, 1), rule(1, 1)], [named(".xx"), named("..x")]).tolist() == [2, 0, 1]


@given(text=st.text(alphabet="x.", max_size=14), share=st.floats(0.01, 1), first=st.integers(1, 10))
def test_the_share_is_met_wherever_it_can_be(text: str, share: float, first: int) -> None:
    own = named(text)
    found = expose(np.arange(len(text)), [rule(share, first)], [own])
    assert sorted(found.tolist()) == list(range(len(text)))
    seen = discounts(min(first, len(text)))
    got = seen[own[found[: len(seen)]]].sum()
    most = seen[: own.sum()].sum()
    assert got >= min(share * seen.sum(), most) - 1e-9
    for kind in (own, ~own):  # inside each kind the order stays
        assert np.all(np.diff(found[kind[found]]) > 0)
