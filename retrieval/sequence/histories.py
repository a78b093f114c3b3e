"""Users' events in the order of time, as flat arrays, and the windows of them that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from features.schema import Int32
from infra.errors import InvalidInputError

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# A gap in seconds falls into bucket floor(log2(1 + gap)), the last one holding 2^28 seconds (8.5 years) and more.
GAPS: Final = 29


class HistoriesError(InvalidInputError):
    """Events that are no histories."""


def gap_buckets(seconds: Float64) -> Int32:
    """Return int32 buckets in [0, GAPS) of gaps in seconds; a negative gap counts as none."""
    buckets: Int32 = np.minimum(np.log2(1 + np.maximum(seconds, 0)), GAPS - 1).astype(np.int32)
    return buckets


@dataclass(frozen=True, kw_only=True, eq=False)
class Histories:
    """Every user's events, oldest first, user after user.

    Attributes:
        starts: int64 `[users + 1]`: where each user's events begin.
        items: int32 `[events]` positions of items.
        kinds: int32 `[events]` kinds of events, from 0 on.
        gaps: int32 `[events]` buckets of the time since the user's event before; 0 for the first and without times.
    """

    starts: Int64
    items: Int32
    kinds: Int32
    gaps: Int32

    @classmethod
    def of(
        cls,
        users: Int32,
        items: Int32,
        *,
        n_users: int,
        times: Float64 | None = None,
        kinds: Int32 | None = None,
    ) -> Self:
        """Sort events into histories: by user, then time, then the order they come in.

        Args:
            users: int32 `[events]` positions of users, in [0, n_users).
            items: int32 `[events]` positions of items, 0 or more.
            n_users: rows of the users table.
            times: float64 `[events]` seconds; None takes the order alone.
            kinds: int32 `[events]`; None for one kind.

        Raises:
            HistoriesError: lengths differ, or a position is out of range.
        """
        columns = {"items": items, "times": times, "kinds": kinds}
        wrong = {
            name: len(column) for name, column in columns.items() if column is not None and len(column) != len(users)
        }
        if wrong:
            raise HistoriesError(f"histories: expected {len(users)} values (users) in every column, found {wrong}")
        if len(users) and (users.min() < 0 or users.max() >= n_users or items.min() < 0):
            raise HistoriesError(
                f"histories: expected users in [0, {n_users}) and items of at least 0, found users "
                f"{users.min()} to {users.max()} and items from {items.min()}"
            )
        order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
        starts = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n_users))]).astype(np.int64)
        gaps = np.zeros(len(users), np.int32)
        if times is not None and len(users):
            gaps = gap_buckets(np.diff(times[order], prepend=times[order[0]]))
            gaps[starts[:-1][np.diff(starts) > 0]] = 0
        sorted_kinds = np.zeros(len(users), np.int32) if kinds is None else kinds[order].astype(np.int32, copy=False)
        return cls(starts=starts, items=items[order].astype(np.int32, copy=False), kinds=sorted_kinds, gaps=gaps)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Int64:
        """Int64 `[users]`: events of each."""
        return np.diff(self.starts)

    def user(self, position: int) -> tuple[Int32, Int32, Int32]:
        """Return items, kinds and gaps of one user, int32 `[h]` each, oldest first."""
        span = slice(self.starts[position], self.starts[position + 1])
        return self.items[span], self.kinds[span], self.gaps[span]

    def without_last(self, users: Int64) -> Histories:
        """Return the same less the last event of each of `users` (int64, distinct, with at least one event)."""
        kept = np.ones(len(self.items), bool)
        kept[self.starts[users + 1] - 1] = False
        lengths = self.lengths.copy()
        lengths[users] -= 1
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Histories(starts=starts, items=self.items[kept], kinds=self.kinds[kept], gaps=self.gaps[kept])


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Pieces of histories: in each, every event but the last is read and every one but the first foretold.

    Attributes:
        histories: of which they are.
        begins: int64 `[windows]` first event of each.
        sizes: int64 `[windows]` events of each, at least two.
    """

    histories: Histories
    begins: Int64
    sizes: Int64

    @classmethod
    def of(cls, histories: Histories, length: int) -> Self:
        """Cut histories, from their ends, into windows of at most `length` events read; no event is foretold twice."""
        begins, sizes = [], []
        for start, end in zip(histories.starts[:-1].tolist(), histories.starts[1:].tolist(), strict=True):
            last = end
            while last - start > 1:
                begin = max(start, last - length - 1)
                begins.append(begin)
                sizes.append(last - begin)
                last = begin + 1
        return cls(histories=histories, begins=np.array(begins, np.int64), sizes=np.array(sizes, np.int64))

    def __len__(self) -> int:
        return len(self.begins)

    def batches(self, events: int, rng: np.random.Generator) -> list[Int64]:
        """Return rows in batches of about so many padded events: of similar length, in random order."""
        order = rng.permutation(len(self))
        # Pools large enough for short padding, small enough that who meets whom changes with each epoch.
        pool = 64 * max(1, events // max(1, int(self.sizes.max(initial=1))))
        found = []
        for first in range(0, len(order), pool):
            rows = order[first : first + pool]
            rows = rows[np.argsort(-self.sizes[rows], kind="stable")]
            start = 0
            while start < len(rows):
                size = max(1, events // int(self.sizes[rows[start]] - 1))
                found.append(rows[start : start + size])
                start += size
        return [found[place] for place in rng.permutation(len(found))]

    def places(self, rows: Int64) -> Int64:
        """Return int64 `[rows, longest]` places of the windows' events in the histories, -1 after their ends."""
        steps = np.arange(int(self.sizes[rows].max()))
        return np.where(steps < self.sizes[rows, None], self.begins[rows, None] + steps, -1)
