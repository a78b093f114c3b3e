"""What the encoder learns from: item texts, and for each cut the users' texts and every task's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import ITEM, LABEL, USER
from infra.errors import InvalidInputError

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class TrainingDataError(InvalidInputError):
    """Training data that contradicts itself."""


@dataclass(frozen=True, kw_only=True)
class EncoderTask:
    """One head.

    Attributes:
        name: the task's.
        kind: `contrastive` (retrieval) or `binary`.
        on: `pair` or `user`.
        space: `all` where every item of the cut's universe that isn't listed is a negative; `rows` where only listed
            pairs carry labels. Without meaning on `user`.
    """

    name: str
    kind: Literal["contrastive", "binary"]
    on: Literal["pair", "user"]
    space: Literal["all", "rows"] = "all"


@dataclass(frozen=True, kw_only=True)
class PairRows:
    """Labelled pairs, sorted by user and item, each pair once.

    Attributes:
        user: int32 `[n]` row of the cut's users.
        item: int32 `[n]` item position.
        label: float32 `[n]`, 0 or 1.
    """

    user: Int32
    item: Int32
    label: Float32


@dataclass(frozen=True, kw_only=True)
class CutData:
    """One cut: texts as of it, labels after it.

    Attributes:
        users: int32 `[n]` user positions, distinct.
        user_texts: a text for each.
        pairs: rows by pair task; a task with space `all` lists its positives.
        user_labels: by user task float32 `[n]`: 0, 1, or NaN where there is no label.
        universe: by task with space `all`: bool `[n_items]`, the items it spans at this cut.
    """

    users: Int32
    user_texts: Sequence[str]
    pairs: Mapping[str, PairRows] = field(default_factory=dict)
    user_labels: Mapping[str, Float32] = field(default_factory=dict)
    universe: Mapping[str, Bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """All that `train` reads.

    Attributes:
        tasks: the heads.
        item_texts: one for each item position.
        popularity: float64 `[n_items]` counts of events before the newest training cut: draws negatives.
        train: training cuts.
        validation: the cut held out in time, for early stopping.
    """

    tasks: tuple[EncoderTask, ...]
    item_texts: Sequence[str]
    popularity: Float64
    train: tuple[CutData, ...]
    validation: CutData

    def __post_init__(self) -> None:
        n_items = len(self.item_texts)
        if len(self.popularity) != n_items:
            raise TrainingDataError(
                f"popularity: expected {n_items} values (one an item), found {len(self.popularity)}"
            )
        if not self.train:
            raise TrainingDataError("train: expected at least one training cut, found none")
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names):
            raise TrainingDataError(f"tasks: expected distinct names, at least one, found {names}")
        for number, cut in enumerate((*self.train, self.validation)):
            _check_cut(cut, self.tasks, n_items, f"cut {number}")


def cut_data(
    users: Sequence[int] | Int32,
    user_texts: Sequence[str],
    *,
    pairs: Mapping[str, pl.DataFrame],
    user_labels: Mapping[str, pl.DataFrame],
    universe: Mapping[str, Bool],
) -> CutData:
    """Build a cut from label frames.

    Args:
        users: distinct user positions, one a text.
        user_texts: as of the cut.
        pairs: by task a frame with `user` and `item` positions and `label` (0 or 1; all 1 where the space is `all`).
            Rows of users who aren't in `users` are left out; so are positives outside the task's universe.
        user_labels: by task a frame with `user` and `label`.
        universe: by task with space `all`, bool `[n_items]`.

    Returns:
        The cut, its pairs in terms of rows of `users`.
    """
    positions = np.asarray(users, np.int32)
    rows = pl.DataFrame({USER: positions, "_row": np.arange(len(positions), dtype=np.int32)})
    tables: dict[str, PairRows] = {}
    for name, frame in pairs.items():
        found = (
            frame.with_columns(pl.col(USER).cast(pl.Int32))
            .join(rows, on=USER)
            .unique(["_row", ITEM])
            .sort("_row", ITEM)
        )
        item = found[ITEM].cast(pl.Int32).to_numpy()
        keep = universe[name][item] if name in universe else np.ones(len(item), bool)
        label = found[LABEL].cast(pl.Float32).to_numpy()
        tables[name] = PairRows(user=found["_row"].to_numpy()[keep], item=item[keep], label=label[keep])
    labels: dict[str, Float32] = {}
    for name, frame in user_labels.items():
        joined = rows.join(frame.with_columns(pl.col(USER).cast(pl.Int32)), on=USER, how="left", maintain_order="left")
        labels[name] = joined[LABEL].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return CutData(users=positions, user_texts=user_texts, pairs=tables, user_labels=labels, universe=universe)


def _check_cut(cut: CutData, tasks: tuple[EncoderTask, ...], n_items: int, where: str) -> None:
    n_users = len(cut.users)
    if len(cut.user_texts) != n_users or n_users == 0:
        raise TrainingDataError(
            f"{where}: expected one text for each of {n_users} users (1 at least), found {len(cut.user_texts)}"
        )
    for task in tasks:
        if task.on == "user":
            labels = cut.user_labels.get(task.name)
            if labels is not None and len(labels) != n_users:
                raise TrainingDataError(
                    f"{where}, task {task.name}: expected {n_users} user labels, found {len(labels)}"
                )
            continue
        rows = cut.pairs.get(task.name)
        if rows is None:
            continue
        if len(rows.item) and not 0 <= int(rows.item.min()) <= int(rows.item.max()) < n_items:
            raise TrainingDataError(
                f"{where}, task {task.name}: expected item positions in [0, {n_items}), "
                f"found {rows.item.min()}..{rows.item.max()}"
            )
        if task.space == "all" and len(cut.universe.get(task.name, ())) != n_items:
            raise TrainingDataError(
                f"{where}, task {task.name}: expected a universe of {n_items} flags for a task that spans all items"
            )
