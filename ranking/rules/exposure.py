"""Limits on exposure: named items get their share of what is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranking.rules.config import Exposure

Rows = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


def discounts(n: int) -> Float64:
    """Return the exposure of n places, 1 / log2(rank + 1) (Singh and Joachims, 2018), float64 `[n]`."""
    return 1 / np.log2(np.arange(2, n + 2))


class _Limit:
    """One limit while places are filled.

    Args:
        rule: see there.
        named: bool by row.
        order: intp `[n]`, all rows.
    """

    def __init__(self, rule: Exposure, named: Bool, order: Rows) -> None:
        self.share = rule.share
        self.named: list[bool] = named.tolist()
        self.places = discounts(min(rule.first, len(order)))
        self.left = int(named[order].sum())
        self._seen = np.concatenate([[0.0], np.cumsum(self.places)])
        self._got = 0.0

    def is_due(self, place: int) -> bool:
        """Return whether a named row must come at a place (from 0), as its share lags or gets out of reach."""
        if place >= len(self.places) or not self.left:
            return False
        own = float(self.places[place])
        if self.share * self._seen[place + 1] - self._got >= own:
            return True
        last = min(place + 1 + self.left, len(self.places))
        reach = self._got + self._seen[last] - self._seen[place + 1]
        # The sums of equal exposures may differ by rounding.
        return bool(reach < self.share * self._seen[-1] - 1e-12)

    def fill(self, place: int, row: int) -> None:
        """Count the row at a place."""
        if self.named[row]:
            self.left -= 1
            self._got += float(self.places[place]) if place < len(self.places) else 0.0


def expose(order: Rows, rules: Sequence[Exposure], named: Sequence[Bool]) -> Rows:
    """Return the order, named rows brought forward where their share of the exposure would be too small.

    Place by place, as DetGreedy (Geyik, Ambler and Kenthapadi, 2019, https://arxiv.org/abs/1905.01989) with exposure in
    place of counts: the first row, unless a limit's named rows lag behind their share by the exposure of this place;
    and, so that the share of all places is met and not only nearly, unless it would be out of reach. Where several
    limits want one, the first row that serves the most of them. Named and other rows keep their order.

    Args:
        order: intp `[n]`, rows best first.
        rules: the limits.
        named: bool by row, for each.
    """
    limits = [_Limit(rule, own, order) for rule, own in zip(rules, named, strict=True)]
    rows, found = order.tolist(), []
    for place in range(max((len(limit.places) for limit in limits), default=0)):
        due = [limit for limit in limits if limit.is_due(place)]
        index = max(range(len(rows)), key=lambda at: sum(one.named[rows[at]] for one in due)) if due else 0
        row = rows.pop(index)
        found.append(row)
        for limit in limits:
            limit.fill(place, row)
    return np.array([*found, *rows], np.intp)
