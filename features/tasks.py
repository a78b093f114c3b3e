"""Tasks as declared in the workspace, and the labels that a cut gives them.

Labels of cut c come from events in [c, c + horizon) alone. What a *space* says is which rows carry the label: every
pair (only positives can be listed), the pairs a user has an earlier event for, or the pairs that were exposed. Labels
that stand in a column have no cut: see `features.column_labels`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.filters.evaluate import Mask
from features.filters.items import FilterText, named_items
from features.schema import EVENT, ITEM, LABEL, QUANTITY, TIMESTAMP, USER, VALUE
from features.task_checks import contradictions, lacking
from features.units import Unit
from infra.errors import InvalidInputError, unknown_name


class TaskError(InvalidInputError):
    """A task whose parts contradict each other, or labels asked of a task that has none of that kind."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EventLabel(_Part):
    """1 when the event happens in the window, else 0."""

    type: Literal["event"] = "event"
    event: str


class AbsenceLabel(_Part):
    """1 when the event doesn't happen in the window; rows are those with one in the days before the cut."""

    type: Literal["absence"] = "absence"
    event: str
    active_within_days: int = Field(default=56, ge=1)


class ValueLabel(_Part):
    """An aggregate of the event's numbers in the window; `count` counts events.

    A pair, or a mean or last number, has no label where the window has no such event. A sum or count of a user or item
    is then 0, and its rows are those with the event before the cut: by the window's own events they would be chosen
    by their label.

    Attributes:
        event: whose numbers.
        column: which of them.
        reduce: to one number.
        scale: `log` learns and predicts sign(x) log(1 + |x|) of that number x: of counts and sums of money a few large
            ones make up nearly all squared error.
    """

    type: Literal["value"] = "value"
    event: str
    column: Literal["value", "quantity"] = VALUE
    reduce: Literal["sum", "mean", "last", "count"] = "mean"
    scale: Literal["linear", "log"] = "linear"


class ColumnLabel(_Part):
    """A column of the rows' own table (texts, users or items); a null is no label.

    Attributes:
        column: holds 0 or 1, a number, a class, the `item_id` that answers a text (contrastive), or a list of tags.
        unit: what a tag is of: a word between spaces, or any character but a space (for scripts without spaces).
    """

    type: Literal["column"] = "column"
    column: str
    unit: Unit = "word"


class AllSpace(_Part):
    """Every pair of a user and an item."""

    type: Literal["all"] = "all"


class SeenSpace(_Part):
    """Pairs with an `event` before the cut."""

    type: Literal["seen"] = "seen"
    event: str


class ExposedSpace(_Part):
    """Pairs with an exposure in [cut - lookback_days, cut + horizon), unless responded to before the cut.

    An exposure inside the window says which rows carry a label; no feature ever sees it.
    """

    type: Literal["exposed"] = "exposed"
    event: str
    lookback_days: int = Field(default=56, ge=0)


_EventBased = EventLabel | AbsenceLabel | ValueLabel
Label = Annotated[EventLabel | AbsenceLabel | ValueLabel | ColumnLabel, Field(discriminator="type")]
Space = Annotated[AllSpace | SeenSpace | ExposedSpace, Field(discriminator="type")]
Kind = Literal["binary", "regression", "multiclass", "token_tags", "contrastive"]
On = Literal["pair", "user", "item", "text"]


class TaskSpec(_Part):
    """One prediction task.

    Attributes:
        name: unique; names the head, the score column and the report's row.
        kind: form of the loss and of the answer.
        on: what a row is.
        label: where the label comes from.
        space: which pairs carry it; only for `on: pair`.
        items: the items that it is about, as a filter over their columns such as `kind == "product"` (see
            `features.filters`); None for all.
        parent: the binary task on the same rows that it is conditioned on (conversion given click).
        energy: multiclass tasks on texts, declared before it: how much a text is like any of their classes speaks for
            this binary task (in scope, say), with a weight that is learnt.
        classes: of a multiclass task, or the tags; None takes those of the training labels, sorted.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Kind
    on: On
    label: Label
    space: Space = AllSpace()
    items: FilterText | None = None
    parent: str | None = None
    energy: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        """Refuse combinations that have no meaning, naming the task and the part."""
        wrong = next(contradictions(self), None)
        if wrong is not None:
            raise ValueError(f"task {self.name}: {wrong}")
        return self


def check_tables(tasks: Iterable[TaskSpec], tables: Collection[str]) -> None:
    """Check that a source has the tables (their names) that every task needs.

    Raises:
        TaskError: naming the task and the tables.
    """
    for task in tasks:
        lack = lacking(task, tables)
        if lack is not None:
            raise TaskError(lack)


def check_tasks(tasks: Iterable[TaskSpec]) -> None:
    """Check that names are unique, and that what a task reads of others precedes it and can be read.

    A parent is a binary task on the same rows; what gives energy is multiclass and on texts.

    Raises:
        TaskError: naming the task.
    """
    known: dict[str, TaskSpec] = {}
    for task in tasks:
        if task.name in known:
            raise TaskError(f"tasks: expected unique names, found {task.name!r} twice")
        if task.parent is not None:
            _check_parent(task, task.parent, known)
        for name in task.energy:
            _check_energy(task, name, known)
        known[task.name] = task


def _check_parent(task: TaskSpec, name: str, known: Mapping[str, TaskSpec]) -> None:
    if name not in known:
        raise TaskError(f"task {task.name}: parent must be declared before it: {unknown_name('task', name, known)}")
    parent = known[name]
    if (parent.kind, parent.on) != ("binary", task.on):
        raise TaskError(
            f"task {task.name}: parent: expected a binary task on {task.on}, found {name}: {parent.kind} on {parent.on}"
        )


def _check_energy(task: TaskSpec, name: str, known: Mapping[str, TaskSpec]) -> None:
    if name not in known:
        raise TaskError(f"task {task.name}: energy must be declared before it: {unknown_name('task', name, known)}")
    source = known[name]
    if (source.kind, source.on) != ("multiclass", "text"):
        raise TaskError(
            f"task {task.name}: energy: expected multiclass tasks on text, found {name}: {source.kind} on {source.on}"
        )


def labels(
    task: TaskSpec,
    events: pl.DataFrame,
    cut: datetime,
    horizon: timedelta,
    items: pl.DataFrame,
) -> pl.DataFrame:
    """Return the labels of a cut, sorted by their keys.

    Args:
        task: on pair, user or item.
        events: encoded events; those at or after cut + horizon are ignored.
        cut: time-zone aware.
        horizon: length of the label window.
        items: the items table, row = item position; `task.items` filters it.

    Returns:
        (user i32?, item i32?, label f32). In space `all` only pairs with an event are listed (label 1 or their value);
        every other pair is a negative. Elsewhere each row of the space is listed.

    Raises:
        TaskError: the task's labels stand in a column.
        NamedItemsError: `task.items` doesn't fit the items' columns.
    """
    if isinstance(task.label, ColumnLabel):
        raise TaskError(f"task {task.name}: labels of type column stand in the {task.on}s table, not in events")
    allowed = allowed_items(task, items)
    if allowed is not None:
        events = events.filter(pl.Series(allowed).gather(events[ITEM]))
    answers = events.lazy().filter((pl.col(EVENT) == task.label.event) & (pl.col(TIMESTAMP) < cut + horizon))
    if task.on == "pair":
        found = _pair_labels(task, events.lazy(), answers, cut, horizon)
    else:
        found = _single_labels(task, task.label, answers, cut)
    keys = _keys(task)
    return found.select(*keys, pl.col(LABEL).cast(pl.Float32)).sort(keys).collect()


def allowed_items(task: TaskSpec, items: pl.DataFrame) -> Mask | None:
    """Return bool `[n_items]`, which items the task is about; None where it is about all.

    Raises:
        NamedItemsError: `task.items` doesn't fit the items' columns.
    """
    return named_items(task.items, items, f"task {task.name}: items")


def _keys(task: TaskSpec) -> list[str]:
    return [USER, ITEM] if task.on == "pair" else [task.on]


def _pair_labels(
    task: TaskSpec, events: pl.LazyFrame, answers: pl.LazyFrame, cut: datetime, horizon: timedelta
) -> pl.LazyFrame:
    keys = _keys(task)
    when = pl.col(TIMESTAMP)
    window = answers.filter(when >= cut)
    if isinstance(task.space, AllSpace):
        return _outcome(task, window)
    shown = events.filter(pl.col(EVENT) == task.space.event)
    if isinstance(task.space, SeenSpace):
        rows = shown.filter(when < cut).select(keys).unique()
    else:
        start = cut - timedelta(days=task.space.lookback_days)
        rows = (
            shown.filter(when.is_between(start, cut + horizon, closed="left"))
            .group_by(keys)
            .agg(when.min().alias("exposed"))
            .join(answers.filter(when < cut).select(keys).unique(), on=keys, how="anti")
        )
        window = window.join(rows, on=keys).filter(when >= pl.col("exposed"))
    joined = rows.join(_outcome(task, window), on=keys, how="left")
    if isinstance(task.label, ValueLabel):
        return joined.drop_nulls(LABEL)
    return joined.with_columns(pl.col(LABEL).fill_null(0.0))


def _single_labels(task: TaskSpec, label: _EventBased, answers: pl.LazyFrame, cut: datetime) -> pl.LazyFrame:
    """Return labels of users or items, which are rows if the event happened to them before the cut.

    All but a mean or a last number, which only the window's events have.
    """
    keys = _keys(task)
    window = answers.filter(pl.col(TIMESTAMP) >= cut)
    if isinstance(label, ValueLabel) and label.reduce in ("mean", "last"):
        return _outcome(task, window)
    active = answers.filter(pl.col(TIMESTAMP) < cut)
    if isinstance(label, AbsenceLabel):
        active = active.filter(pl.col(TIMESTAMP) >= cut - timedelta(days=label.active_within_days))
    rows = active.select(keys).unique()
    if isinstance(label, ValueLabel):
        return rows.join(_outcome(task, window), on=keys, how="left").with_columns(pl.col(LABEL).fill_null(0.0))
    happened = window.select(keys).unique().with_columns(pl.lit(True).alias("happened"))
    joined = rows.join(happened, on=keys, how="left")
    found = pl.col("happened").fill_null(False)
    return joined.with_columns((~found if isinstance(label, AbsenceLabel) else found).alias(LABEL))


def _outcome(task: TaskSpec, window: pl.LazyFrame) -> pl.LazyFrame:
    """Return one row per key with an event in the window: label 1, or the aggregate of its numbers."""
    keys = _keys(task)
    if not isinstance(task.label, ValueLabel):
        return window.select(keys).unique().with_columns(pl.lit(1.0).alias(LABEL))
    number = pl.col({"value": VALUE, "quantity": QUANTITY}[task.label.column])
    reduced = {
        "sum": number.sum(),
        "mean": number.mean(),
        "last": number.sort_by(TIMESTAMP).last(),
        "count": pl.len(),
    }[task.label.reduce]
    if task.label.scale == "log":
        reduced = reduced.sign() * reduced.abs().log1p()
    return window.group_by(keys).agg(reduced.alias(LABEL)).drop_nulls(LABEL)
