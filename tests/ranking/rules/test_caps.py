from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking.rules.caps import cap
from ranking.rules.config import Cap


def codes(text: str) -> np.ndarray:
    """One letter for each row's value; `-` for none."""
    return np.array([-1 if letter == "-" else ord(letter) for letter in text], np.int64)


def ordered(text: str, *caps: Cap, ahead: int | None = None) -> list[int]:
    own = codes(text)
    return cap(np.arange(len(text)), caps, [own] * len(caps), ahead=len(text) if ahead is None else ahead).tolist()


def test_the_first_places_by_hand() -> None:
    """At most two a among the first four: rows 2 and 3 wait until place 5."""
    assert ordered("aaaabc", Cap(attribute="x", most=2, first=4)) == [0, 1, 4, 5, 2, 3]


def test_consecutive_places_by_hand() -> None:
    """One of a value among any three: a b c a b c."""
    assert ordered("aabbcc", Cap(attribute="x", most=1, within=3)) == [0, 2, 4, 1, 3, 5]
    # Two among any three: after a a one other comes, then a again.
    assert ordered("aaabb", Cap(attribute="x", most=2, within=3)) == [0, 1, 3, 2, 4]


def test_items_without_a_value_are_not_counted() -> None:
    assert ordered("---a", Cap(attribute="x", most=1, first=4)) == [0, 1, 2, 3]


def test_what_cannot_be_met_is_met_as_far_as_possible() -> None:
    assert ordered("aaaa", Cap(attribute="x", most=1, first=4)) == [0, 1, 2, 3]
    # The b comes as early as the cap wants it, the other a's follow.
    assert ordered("aaab", Cap(attribute="x", most=1, within=2)) == [0, 3, 1, 2]


def test_it_looks_ahead_where_it_must() -> None:
    """Behind b, the two a's would stand side by side: a b a."""
    assert ordered("baa", Cap(attribute="x", most=1, within=2)) == [1, 0, 2]
    # Three a's can't be kept apart by one b: then the best item stays where it is.
    assert ordered("baaa", Cap(attribute="x", most=1, within=2)) == [0, 1, 2, 3]


def test_of_two_caps_the_fewest_are_broken() -> None:
    """After row 0, row 1 breaks both caps, row 2 only the first."""
    caps = (Cap(attribute="brand", most=1, first=3), Cap(attribute="kind", most=1, first=3))
    assert cap(np.arange(3), caps, [codes("aaa"), codes("xxy")], ahead=3).tolist() == [0, 2, 1]


def test_what_stands_behind_stays_behind() -> None:
    """Row 2 would keep the cap, but is buried."""
    assert ordered("aab", Cap(attribute="x", most=1, first=2), ahead=2) == [0, 1, 2]
    # Behind the others the cap counts what stands before.
    assert ordered("aaab", Cap(attribute="x", most=1, within=2), ahead=1) == [0, 3, 1, 2]


VALUES = st.text(alphabet="abc-", max_size=14)


@given(text=VALUES, most=st.integers(1, 3), first=st.integers(1, 10), k=st.integers(0, 14))
def test_the_first_places_hold_where_they_can(text: str, most: int, first: int, k: int) -> None:
    rule = Cap(attribute="x", most=most, first=first)
    found = ordered(text, rule)
    assert sorted(found) == list(range(len(text)))
    assert cap(np.arange(len(text)), [rule], [codes(text)], ahead=len(text), k=k).tolist()[:k] == found[:k]
    page = [text[row] for row in found[:first]]
    # As many places as can be filled are: all of none, and at most so many of each value.
    room = text.count("-") + sum(min(text.count(value), most) for value in "abc")
    kept = page[: min(first, room)]
    assert all(kept.count(value) <= most for value in "abc")
    for value in "abc-":  # inside a value the order stays
        own = [row for row in found if text[row] == value]
        assert own == sorted(own)


def can_be_kept(left: str, most: int, within: int, window: str = "") -> bool:
    """Whether any order of what is left keeps the cap: tries them all."""
    return not left or any(
        can_be_kept(left.replace(value, "", 1), most, within, (window + value)[1 - within :])
        for value in set(left)
        if value == "-" or window.count(value) < most
    )


@given(text=st.text(alphabet="abc-", max_size=8), most=st.integers(1, 3), within=st.integers(2, 5))
def test_consecutive_places_hold_wherever_they_can(text: str, most: int, within: int) -> None:
    found = ordered(text, Cap(attribute="x", most=most, within=within))
    assert sorted(found) == list(range(len(text)))
    values = [text[row] for row in found]
    broken = [
        value != "-" and values[max(0, place - within + 1) : place].count(value) >= most
        for place, value in enumerate(values)
    ]
    if can_be_kept(text, most, within):
        assert not any(broken)
    for place in np.flatnonzero(broken):  # as a rule, only where every item left would break it
        window = values[max(0, place - within + 1) : place]
        assert all(other != "-" and window.count(other) >= most for other in values[place:])


@given(text=VALUES)
def test_a_cap_that_holds_leaves_the_order(text: str) -> None:
    assert ordered(text, Cap(attribute="x", most=14, within=14)) == list(range(len(text)))
