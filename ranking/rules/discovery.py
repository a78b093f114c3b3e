"""Never-bought items among the bought ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranking.rules.config import Discovery

Rows = npt.NDArray[np.intp]


def discover(order: Rows, bought: npt.NDArray[np.bool_], rule: Discovery, k: int | None = None) -> Rows:
    """Return the order, never-bought items brought forward where too many bought ones would follow each other.

    Within bought and within never-bought items the order stays.

    Args:
        order: intp `[n]`, rows best first.
        bought: bool by row: whether the user ever bought that item.
        rule: see there.
        k: how many rows to return; None for all.
    """
    length = len(order) if k is None else min(k, len(order))
    if length <= rule.first_page:
        return order[:length]
    page, rest = order[: rule.first_page], order[rule.first_page :]
    is_new = ~bought[rest]
    # Ranks within the rest of the two kinds, ascending: a merge takes the smaller one, or a new one when due.
    known, new = np.flatnonzero(~is_new).tolist(), np.flatnonzero(is_new).tolist()
    merged: list[int] = []
    old = fresh = streak = 0
    while old < len(known) and fresh < len(new) and len(merged) < length - len(page):
        if new[fresh] < known[old] or streak == rule.every - 1:
            merged.append(new[fresh])
            fresh, streak = fresh + 1, 0
        else:
            merged.append(known[old])
            old, streak = old + 1, streak + 1
    merged += known[old:] + new[fresh:]
    return np.concatenate([page, rest[np.array(merged, np.intp)]]).astype(np.intp)[:length]
