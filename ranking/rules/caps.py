"""Caps on how many items of one value stand close to each other, or first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ranking.rules.config import Cap

Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int64]


@dataclass(kw_only=True)
class _Count:
    """What a cap has seen of the places filled so far.

    Attributes:
        cap: see there.
        codes: by row; -1 for none.
        seen: code -> how often among the places that the next one is counted with.
        filled: the codes of all places so far.
    """

    cap: Cap
    codes: list[int]
    seen: Counter[int] = field(default_factory=Counter)
    filled: list[int] = field(default_factory=list)

    def breaks(self, row: int) -> bool:
        code = self.codes[row]
        if code < 0 or self.seen[code] < self.cap.most:
            return False
        return self.cap.first is None or len(self.filled) < self.cap.first

    def fill(self, row: int) -> None:
        self.filled.append(self.codes[row])
        self.seen[self.codes[row]] += 1
        if self.cap.within is not None and len(self.filled) >= self.cap.within:
            self.seen[self.filled[-self.cap.within]] -= 1


def cap(order: Rows, caps: Sequence[Cap], codes: Sequence[Codes], *, ahead: int, k: int | None = None) -> Rows:
    """Return the order with items held back where a cap is reached.

    Place by place the first row that keeps every cap is taken; where there is none, the first of those that break the
    fewest. It doesn't look ahead: at the end of a list that is returned whole, what was held back may pile up.

    Args:
        order: intp `[n]`, rows best first.
        caps: at least one.
        codes: int64 by row of each cap's attribute, one number for each value; -1 where it is missing.
        ahead: the first so many rows stay before all others.
        k: how many places are looked at; the rows left follow as they were.
    """
    counts = [_Count(cap=rule, codes=own.tolist()) for rule, own in zip(caps, codes, strict=True)]
    found: list[int] = []
    length = len(order) if k is None else k
    for part in (order[:ahead].tolist(), order[ahead:].tolist()):
        while part and len(found) < length:
            row = part.pop(_first(part, counts))
            found.append(row)
            for count in counts:
                count.fill(row)
        found += part
    return np.array(found, np.intp)


def _first(rows: Sequence[int], counts: Sequence[_Count]) -> int:
    """Return the index of the first row that breaks the fewest caps."""
    best, fewest = 0, len(counts) + 1
    # Rows of the same values break the same: a long run of one brand is looked at once.
    looked: set[tuple[int, ...]] = set()
    for index, row in enumerate(rows):
        values = tuple(count.codes[row] for count in counts)
        if values in looked:
            continue
        broken = sum(count.breaks(row) for count in counts)
        if broken < fewest:
            best, fewest = index, broken
        if not broken:
            break
        looked.add(values)
    return best
