"""What a peer's process is asked for and gives back: files, so that a library can live in an environment of its own.

Runs in the peers' environments, where nothing of the product is installed.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

USER, ITEM, SCORE = "user", "item", "score"
# So many that ties at the tenth place are all among them but where scores are hardly anything but ties.
LISTED = 50
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One fit.

    Attributes:
        model: its name within the library.
        settings: of the grid.
        users: int64 `[events]` positions of users, ascending.
        items: int64 `[events]` positions of items, each user's oldest first.
        n_items: items that compete.
        truth: int64 `[users]`, the item that comes after each history, to stop a training by; None when testing.
        out: where the lists go.
    """

    model: str
    settings: dict[str, Any]
    users: Int64
    items: Int64
    n_items: int
    truth: Int64 | None
    out: Path

    @classmethod
    def of_arguments(cls) -> Self:
        """Read the command line and the files that it names."""
        parser = argparse.ArgumentParser()
        parser.add_argument("model")
        parser.add_argument("settings", type=json.loads)
        parser.add_argument("events", type=Path)
        parser.add_argument("n_items", type=int)
        parser.add_argument("out", type=Path)
        parser.add_argument("--truth", type=Path)
        found = parser.parse_args()
        events = pl.read_parquet(found.events)
        return cls(
            model=found.model,
            settings=found.settings,
            users=events[USER].to_numpy().astype(np.int64),
            items=events[ITEM].to_numpy().astype(np.int64),
            n_items=found.n_items,
            truth=pl.read_parquet(found.truth)[ITEM].to_numpy().astype(np.int64) if found.truth else None,
            out=found.out,
        )

    @property
    def n_users(self) -> int:
        return int(self.users[-1]) + 1

    def matrix(self) -> sparse.csr_matrix:
        """Return float32 `[users, n_items]`, 1 where a user met an item."""
        met = sparse.csr_matrix(
            (np.ones(len(self.users), np.float32), (self.users, self.items)), shape=(self.n_users, self.n_items)
        )
        met.data[:] = 1
        return met


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Return them."""
        return time.monotonic() - self._start


def write(asked: Asked, users: Int64, items: Int64, scores: npt.NDArray[Any], seconds: float, **told: Any) -> None:
    """Write lists, all `[rows]`, with the seconds of the fit and what else it tells; complete or not at all."""
    listed = pl.DataFrame(
        {USER: users.astype(np.int32), ITEM: items.astype(np.int32), SCORE: scores.astype(np.float32)}
    )
    partial = asked.out.with_suffix(".partial")
    listed.write_parquet(partial, metadata={"seconds": f"{seconds:.1f}", "told": json.dumps(told)})
    partial.rename(asked.out)
