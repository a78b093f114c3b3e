"""What trends in each segment of the users, smoothed toward what trends among all of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from features.schema import Int32
from infra.errors import InvalidInputError
from infra.files import write_atomic

# Items kept of a segment; who is asked for more gets what trends among all users after them.
_KEPT: Final = 2_000


class SegmentsError(InvalidInputError):
    """A release's segments are not of its users."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """What trends, by segment.

    Attributes:
        of_user: int32 `[n_users]` each user's segment; -1 for one without a value.
        items: int32 `[segments, kept]` positions, what trends most first.
    """

    of_user: Int32
    items: Int32

    @classmethod
    def fit(cls, of_user: Int32, users: Int32, items: Int32, members: Int32, smoothing: float) -> Self:
        """Order the eligible items within each segment by their smoothed share of buyers.

        An item that b of a segment's n users bought, and a share p of all users, has (b + smoothing * p) / (n +
        smoothing): a segment of few users trends as all do. Equal items go by position.

        Args:
            of_user: int32 `[n_users]`, -1 for none.
            users: int32 `[m]` positions of users who bought in the window; with `items` each pair once.
            items: int32 `[m]` what they bought.
            members: int32 `[n_eligible]` positions, ascending.
            smoothing: how many users of the whole population each segment is blended with.
        """
        size = int(max(items.max(initial=-1), members.max(initial=-1))) + 1
        everyone = np.bincount(items, minlength=size)[members] / max(1, len(np.unique(users)))
        orders = []
        for segment in range(int(of_user.max(initial=-1)) + 1):
            own = of_user[users] == segment
            # The denominator is the same for all items of a segment, so it changes no order.
            score = np.bincount(items[own], minlength=size)[members] + smoothing * everyone
            orders.append(members[np.lexsort((members, -score))[:_KEPT]])
        kept = min(_KEPT, len(members))
        return cls(of_user=of_user, items=np.array(orders, np.int32).reshape(len(orders), kept))

    def of(self, user: int | None) -> Int32 | None:
        """Return what trends in the segment of the user at a position, int32 `[kept]`; None where there is none."""
        if user is None or self.of_user[user] < 0:
            return None
        own: Int32 = self.items[self.of_user[user]]
        return own

    def save(self, path: Path) -> None:
        """Write both arrays as one `.npz` file, atomically."""
        buffer = io.BytesIO()
        np.savez(buffer, of_user=self.of_user, items=self.items)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, users: int) -> Self | None:
        """Read what `save` wrote; None where a release has no segments.

        Args:
            path: the file.
            users: how many the release holds.

        Raises:
            SegmentsError: it is of another number of users.
        """
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            found = cls(of_user=arrays["of_user"], items=arrays["items"])
        if len(found.of_user) != users:
            raise SegmentsError(f"{path}: expected the segments of {users} users, found {len(found.of_user)}")
        return found
