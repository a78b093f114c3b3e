"""What the encoder learns from: item texts, and for each cut the users' texts and every task's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import ITEM, LABEL, USER
from features.units import Unit
from retrieval.encoder.data_checks import check_training_data
from retrieval.encoder.layout import TaskEntry, TaskKind, TaskOn

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

# What a head can be, by what a row is.
KINDS: Final[Mapping[TaskOn, tuple[TaskKind, ...]]] = {
    "pair": ("contrastive", "binary", "regression"),
    "user": ("binary", "regression", "multiclass"),
    "item": ("binary", "regression", "multiclass"),
    "text": ("contrastive", "binary", "regression", "multiclass", "token_tags"),
}


@dataclass(frozen=True, kw_only=True)
class EncoderTask:
    """One head.

    Attributes:
        name: the task's.
        kind: `contrastive` (retrieval), `binary`, `regression`, `multiclass`, or `token_tags`.
        on: `pair`, `user`, `item` or `text`. A contrastive task on texts finds the item that answers a text.
        space: `all` where every item of the cut's universe that isn't listed is a negative; `rows` where only listed
            pairs carry labels. Without meaning but on `pair`.
        classes: names of a multiclass task's classes or of the tags, by code.
        parent: binary task that this one is conditioned on: its probability is the parent's times its own head's
            (Ma et al., 2018), so that it never exceeds the parent's.
        energy: multiclass tasks on texts. To this binary one's logit the log sum exp of their logits is added, times a
            weight that is learnt.
        unit: what a tag is of. Without meaning but for tags.
    """

    name: str
    kind: TaskKind
    on: TaskOn
    space: Literal["all", "rows"] = "all"
    classes: tuple[str, ...] = ()
    parent: str | None = None
    energy: tuple[str, ...] = ()
    unit: Unit = "word"

    @property
    def entry(self) -> TaskEntry:
        """The head as an exported encoder's description names it."""
        return TaskEntry(
            name=self.name,
            kind=self.kind,
            on=self.on,
            classes=self.classes,
            parent=self.parent,
            energy=self.energy,
            unit=self.unit,
        )

    @classmethod
    def of(cls, entry: TaskEntry) -> Self:
        """Return the head that a description names; its `entry` is that one."""
        return cls(**dict(entry))


@dataclass(frozen=True, kw_only=True)
class PairRows:
    """Labelled pairs, sorted by user and item, each pair once.

    Attributes:
        user: int32 `[n]` row of the cut's users.
        item: int32 `[n]` item position.
        label: float32 `[n]`: 0 or 1, or a regression's number.
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
        user_labels: by user task float32 `[n]`: 0 or 1, a number, or a class's code; NaN where there is no label.
        item_labels: by item task the same, float32 `[n_items]`.
        universe: by task with space `all`: bool `[n_items]`, the items it spans at this cut.
        groups: by column of the users int32 `[n]` code of its value; -1 where it has none.
    """

    users: Int32
    user_texts: Sequence[str]
    pairs: Mapping[str, PairRows] = field(default_factory=dict)
    user_labels: Mapping[str, Float32] = field(default_factory=dict)
    item_labels: Mapping[str, Float32] = field(default_factory=dict)
    universe: Mapping[str, Bool] = field(default_factory=dict)
    groups: Mapping[str, Int32] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Tags of the units (words, characters) of some texts, ragged.

    Attributes:
        text: int32 `[units]` row of the texts, ascending.
        span: int32 `[units, 2]` first character of the unit and the one after its last.
        code: int32 `[units]` its tag.
    """

    text: Int32
    span: Int32
    code: Int32

    @classmethod
    def joined(cls, parts: Sequence[tuple[int, Tags | None]]) -> Self:
        """Return the tags of texts that stand after so many others each; None of a part without any."""
        found = [(first, tags) for first, tags in parts if tags is not None]
        return cls(
            text=np.concatenate([tags.text + np.int32(first) for first, tags in found]),
            span=np.concatenate([tags.span for _, tags in found]),
            code=np.concatenate([tags.code for _, tags in found]),
        )


@dataclass(frozen=True, kw_only=True)
class TextData:
    """Free texts and their labels.

    Attributes:
        texts: `[n]`.
        labels: by task float32 `[n]`: 0 or 1, a number, or a class's code; NaN where there is no label.
        answers: by contrastive task int32 `[n]` position of the item that answers the text; -1 where there is none.
        tags: by token-tag task.
        groups: by column of the texts int32 `[n]` code of its value; -1 where it has none.
    """

    texts: Sequence[str] = ()
    labels: Mapping[str, Float32] = field(default_factory=dict)
    answers: Mapping[str, Int32] = field(default_factory=dict)
    tags: Mapping[str, Tags] = field(default_factory=dict)
    groups: Mapping[str, Int32] = field(default_factory=dict)

    def joined(self, other: TextData) -> TextData:
        """Return these texts, then the other ones; where one part lacks a task's labels or a column it has none."""
        n, m = len(self.texts), len(other.texts)

        def codes(mine: Mapping[str, Int32], theirs: Mapping[str, Int32]) -> dict[str, Int32]:
            none = np.full(max(n, m), -1, np.int32)
            return {
                name: np.concatenate([mine.get(name, none[:n]), theirs.get(name, none[:m])])
                for name in {**mine, **theirs}
            }

        nan = np.full(max(n, m), np.nan, np.float32)
        return TextData(
            texts=[*self.texts, *other.texts],
            labels={
                name: np.concatenate([self.labels.get(name, nan[:n]), other.labels.get(name, nan[:m])])
                for name in {**self.labels, **other.labels}
            },
            answers=codes(self.answers, other.answers),
            tags={
                name: Tags.joined([(0, self.tags.get(name)), (n, other.tags.get(name))])
                for name in {**self.tags, **other.tags}
            },
            groups=codes(self.groups, other.groups),
        )


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """All that `train` reads; there are cuts, texts or both.

    Attributes:
        tasks: the heads; a parent stands before its children.
        item_texts: one for each item position.
        popularity: float64 `[n_items]` counts of events before the newest training cut: draws negatives.
        train: training cuts.
        validation: the cut held out in time, for early stopping; None where there are no cuts.
        texts: training texts.
        validation_texts: those held out.
        unlabelled: texts without any label, from before every label of a later stage.
        test: a cut after the others on which studies compare runs; no training reads it.
        test_texts: the same of texts.
        item_groups: by column of the items int32 `[n_items]` code of its value; -1 where it has none.
    """

    tasks: tuple[EncoderTask, ...]
    item_texts: Sequence[str] = ()
    popularity: Float64 = field(default_factory=lambda: np.zeros(0))
    train: tuple[CutData, ...] = ()
    validation: CutData | None = None
    texts: TextData = TextData()
    validation_texts: TextData = TextData()
    unlabelled: Sequence[str] = ()
    test: CutData | None = None
    test_texts: TextData = TextData()
    item_groups: Mapping[str, Int32] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_training_data(self)

    @property
    def cuts(self) -> tuple[CutData, ...]:
        """Training cuts, then the one held out, then the one of studies."""
        return (*self.train, *(cut for cut in (self.validation, self.test) if cut is not None))

    def with_held_out(self) -> Self:
        """Return the same, whose training cuts and texts hold those held out as well."""
        held_out = () if self.validation is None else (self.validation,)
        return replace(self, train=(*self.train, *held_out), texts=self.texts.joined(self.validation_texts))


def cut_data(
    users: Sequence[int] | Int32,
    user_texts: Sequence[str],
    *,
    pairs: Mapping[str, pl.DataFrame],
    user_labels: Mapping[str, pl.DataFrame],
    universe: Mapping[str, Bool],
    item_labels: Mapping[str, pl.DataFrame] | None = None,
    n_items: int = 0,
    groups: Mapping[str, Int32] | None = None,
) -> CutData:
    """Build a cut from label frames.

    Args:
        users: distinct user positions, one a text.
        user_texts: as of the cut.
        pairs: by task a frame with `user` and `item` positions and `label` (all 1 where the space is `all`).
            Rows of users who aren't in `users` are left out; so are positives outside the task's universe.
        user_labels: by task a frame with `user` and `label`.
        universe: by task with space `all`, bool `[n_items]`.
        item_labels: by task a frame with `item` and `label`.
        n_items: length of the items' labels.
        groups: by column int32 `[users of the table]` codes.

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
    return CutData(
        users=positions,
        user_texts=user_texts,
        pairs=tables,
        user_labels=labels,
        item_labels={name: _by_item(frame, n_items) for name, frame in (item_labels or {}).items()},
        universe=universe,
        groups={column: codes[positions] for column, codes in (groups or {}).items()},
    )


def _by_item(frame: pl.DataFrame, n_items: int) -> Float32:
    """Return float32 `[n_items]`, NaN for items that the frame doesn't hold."""
    labels = np.full(n_items, np.nan, np.float32)
    labels[frame[ITEM].to_numpy()] = frame[LABEL].cast(pl.Float32).to_numpy()
    return labels
