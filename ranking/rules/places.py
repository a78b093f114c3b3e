"""Rules that count places: boosts, and what is pinned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]


def shift(order: Rows, places: npt.NDArray[np.int64]) -> Rows:
    """Return the order with rows moved up by so many places.

    A row that moves up by p passes p of the rows that don't move, or all before it; likewise down. Rows that come
    between the same two keep their order.

    Args:
        order: intp `[n]`, rows best first.
        places: int64 by row, 0 for those that don't move; down where negative.
    """
    up = places[order]
    stays = up == 0
    # Of a row that stays, how many of its kind stand before it; of one that moves, how many are to.
    before = np.cumsum(stays) - stays - up
    return order[np.lexsort((np.arange(len(order)), stays, before))]


def pin(order: Rows, pins: Sequence[tuple[Bool, Sequence[int]]]) -> tuple[Rows, Rows]:
    """Return the order with named rows at given places, and the rows pinned; the others keep their order.

    Args:
        order: intp `[n]`, rows best first.
        pins: named rows as bool by row, and places from 1, distinct over all pins. The best named row that no earlier
            pin took stands at the first of the places, and so on; a place behind the end is the end.
    """
    at: dict[int, int] = {}
    free = np.ones(max((len(named) for named, _ in pins), default=0), bool)
    for named, places in pins:
        best = order[(named & free)[order]][: len(places)]
        free[best] = False
        at |= dict(zip(sorted(places), best.tolist(), strict=False))
    pinned = np.array([at[place] for place in sorted(at)], np.intp)
    rest = order[~np.isin(order, pinned)]
    length = len(order)
    inside = [place - 1 for place in sorted(at) if place <= length]
    # Pins behind the end take the last places that no other pin has.
    behind = [place for place in range(length - 1, -1, -1) if place not in inside][: len(at) - len(inside)]
    slots = np.array([*inside, *sorted(behind)], np.intp)
    found = np.empty(length, np.intp)
    found[slots] = pinned
    others = np.ones(length, bool)
    others[slots] = False
    found[others] = rest
    return found, pinned
