"""The data sets that the sequence model is measured on, and how it is trained on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import Histories


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """One data set.

    Attributes:
        name: its folder's.
        histories: all events.
        texts: of the items.
        config: what the models are trained by.
        refit: whether the tested models also learn on validation's events.
    """

    name: str
    histories: Histories
    texts: list[str]
    config: SequenceConfig
    refit: bool


def beauty(folder: Path) -> Data:
    """Read Amazon Beauty: ordered, no times."""
    items = pl.read_parquet(folder / "items.parquet").sort("item_id")
    events = pl.read_parquet(folder / "sequences.parquet").sort("user_id", "position")
    users, places = (events[name].to_numpy().astype(np.int32) - 1 for name in ("user_id", "item_id"))
    return Data(
        name=folder.name,
        histories=Histories.of(users, places, n_users=int(users.max()) + 1),
        texts=[f"{title}. {category}" for title, category in items.select("title", "category").iter_rows()],
        config=SequenceConfig(again=False, held_out=1_000_000),
        refit=True,
    )


def movielens(folder: Path) -> Data:
    """Read MovieLens 1M: by time, equal times in the order of the file."""
    items = pl.read_parquet(folder / "item.parquet")
    events = pl.read_parquet(folder / "inter.parquet")
    users, films = (
        {name: place for place, name in enumerate(names)}
        for names in (events["user_id"].unique(maintain_order=True), items["item_id"])
    )
    return Data(
        name=folder.name,
        histories=Histories.of(
            np.array([users[user] for user in events["user_id"]], np.int32),
            np.array([films[film] for film in events["item_id"]], np.int32),
            n_users=len(users),
            times=events["timestamp"].to_numpy().astype(np.float64),
        ),
        texts=[f"{title}. {genre}" for title, genre in items.select("item_id", "genre").iter_rows()],
        config=SequenceConfig(
            again=False, held_out=1_000_000, length=100, dropout=0.2, batch=2_048, learning_rate=3e-3, epochs=10
        ),
        # A training takes ten minutes and more, and a user's one event of 165 adds little.
        refit=False,
    )


READERS: Mapping[str, Callable[[Path], Data]] = {"amazon_beauty_2014": beauty, "movielens_1m": movielens}
