"""Caps on how many items of one value stand close to each other, or first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from ranking.rules.config import Cap

Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int64]


def cap(order: Rows, caps: Sequence[Cap], codes: Sequence[Codes], *, ahead: int, k: int | None = None) -> Rows:
    """Return the order with items held back where a cap is reached.

    Place by place the first row that keeps every cap is taken; where there is none, the first of those that break the
    fewest. What a cap on consecutive places holds back has to find room further on: as soon as the rows left only just
    allow it, the values that must come are taken before others. One cap alone is thereby kept wherever it can be.

    Args:
        order: intp `[n]`, rows best first.
        caps: at least one.
        codes: int64 by row of each cap's attribute, one number for each value; -1 where it is missing.
        ahead: the first so many rows stay before all others.
        k: how many places are looked at; the rows left follow as they were.
    """
    counts = [_Count(rule, own.tolist()) for rule, own in zip(caps, codes, strict=True)]
    found: list[int] = []
    length = len(order) if k is None else k
    for part in (order[:ahead].tolist(), order[ahead:].tolist()):
        for count in counts:
            count.start(part)
        while part and len(found) < length:
            row = part.pop(_first(part, counts))
            found.append(row)
            for count in counts:
                count.fill(row)
        found += part
    return np.array(found, np.intp)


def _first(rows: Sequence[int], counts: Sequence[_Count]) -> int:
    """Return the index of the first row that does the least harm."""
    urgent = [count.urgent(len(rows)) for count in counts]
    best, least = 0, 3 * len(counts)
    # Rows of the same values do the same: a long run of one brand is looked at once.
    looked: set[tuple[int, ...]] = set()
    for index, row in enumerate(rows):
        values = tuple(count.codes[row] for count in counts)
        if values in looked:
            continue
        # A cap broken here is worse than one that will be broken.
        harm = sum(
            2 * count.breaks(value) + (bool(own) and value not in own)
            for count, own, value in zip(counts, urgent, values, strict=True)
        )
        if harm < least:
            best, least = index, harm
        if not harm:
            break
        looked.add(values)
    return best


class _Count:
    """What a cap has seen of the places filled so far, and what is left.

    Args:
        rule: the cap.
        codes: by row; -1 for none.
    """

    def __init__(self, rule: Cap, codes: list[int]) -> None:
        self.codes = codes
        self._rule = rule
        self._filled: list[int] = []
        self._seen: Counter[int] = Counter()
        self._left: Counter[int] = Counter()
        # How many values are left so many times, and the most times any is.
        self._values: Counter[int] = Counter()
        self._largest = 0

    def start(self, rows: Sequence[int]) -> None:
        """Take up the rows that are to be placed next."""
        self._left = Counter(self.codes[row] for row in rows if self.codes[row] >= 0)
        self._values = Counter(self._left.values())
        self._largest = max(self._values, default=0)

    def breaks(self, value: int) -> bool:
        """Return whether the value at the next place breaks the cap."""
        if value < 0 or self._seen[value] < self._rule.most:
            return False
        return self._rule.first is None or len(self._filled) < self._rule.first

    def urgent(self, places: int) -> Collection[int]:
        """Return the values one of which must come next for what is left to find room; none where there is no hurry.

        With at most c of a value among w places and m items of the most frequent one, c of each value fill w places at
        best, (m - 1) // c times over; what is left of the values with more than that comes behind.

        Args:
            places: rows left.
        """
        rounds = max(self._largest - 1, 0) // self._rule.most
        if self._rule.within is None or not rounds:
            return ()
        over = rounds * self._rule.most
        behind = sum((times - over) * self._values[times] for times in range(over + 1, self._largest + 1))
        # Less is no hurry. More is out of reach, and no reason to disturb the best places.
        if rounds * self._rule.within + behind != places:
            return ()
        return [value for value, times in self._left.items() if times > over]

    def fill(self, row: int) -> None:
        """Count the row at the next place."""
        value = self.codes[row]
        self._filled.append(value)
        self._seen[value] += 1
        if self._rule.within is not None and len(self._filled) >= self._rule.within:
            self._seen[self._filled[-self._rule.within]] -= 1
        if value < 0:
            return
        times = self._left[value]
        self._left[value] = times - 1
        self._values[times] -= 1
        self._values[times - 1] += 1
        if not self._values[self._largest]:
            self._largest -= 1
