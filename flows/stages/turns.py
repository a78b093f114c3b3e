"""Logged turns of conversations as texts: without a label unless a person gave one, so that the next release learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from features.datasets.text_sets import text_key
from features.findings import Finding
from features.schema import ITEM_ID, REQUEST_ID, SPLIT, TEXT, TEXT_ID, TIMESTAMP
from features.tables import TEST, TEXTS_TABLE, VALIDATION, Tables
from features.tasks import ColumnLabel, TaskSpec
from features.turn_log import INTENT

_KEY: Final = "__key__"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedTurns:
    """What the log holds, and the tasks that its labels teach.

    Attributes:
        turns: as `features.turn_log.TurnLog.read` returns them.
        intent: whose classes `intent` names; None where feedback teaches no intent.
        answers: whose items `item_id` names; the same.
    """

    turns: pl.DataFrame
    intent: TaskSpec | None
    answers: TaskSpec | None

    @classmethod
    def of(cls, turns: pl.DataFrame, tasks: Sequence[TaskSpec], intent: str | None, answers: str | None) -> LoggedTurns:
        """Return the log's turns with the tasks of these names."""
        named = {task.name: task for task in tasks}
        return cls(
            turns=turns,
            intent=None if intent is None else named[intent],
            answers=None if answers is None else named[answers],
        )

    @property
    def columns(self) -> dict[str, str]:
        """Label column of the texts by the log's own column."""
        pairs = ((INTENT, self.intent), (ITEM_ID, self.answers))
        return {own: _column(task) for own, task in pairs if task is not None}


def with_turns(tables: Tables, logged: LoggedTurns) -> tuple[Tables, tuple[Finding, ...]]:
    """Return the tables with the logged turns behind their texts, and what of the log was left out.

    A turn has a date where the source's texts have one, and never a split. One text asked twice is one row, with the
    latest label of each kind. A turn is left out where it repeats a text that is held out (a label would teach what is
    measured), where it has no label and repeats any text, and where the source's texts name its id: whoever labels an
    exported turn may bring it back as a row of the source. A label that the catalogue or the task no longer knows is
    none.

    Args:
        tables: of the source, validated.
        logged: the log's turns.
    """
    # A column that isn't there is for the task's own check to refuse.
    columns = {own: theirs for own, theirs in logged.columns.items() if theirs in tables.texts.columns}
    turns, unknown = _known_labels(_one_a_text(logged.turns, list(columns)), tables, logged)
    held = tables.texts.clear()
    if SPLIT in tables.texts.columns:
        held = tables.texts.filter(pl.col(SPLIT).is_in([VALIDATION, TEST]))
    copies = _repeats(turns, held)
    unlabelled = pl.all_horizontal(pl.lit(True), *(pl.col(label).is_null() for label in columns))
    teaches_nothing = _repeats(turns, tables.texts) & turns.select(unlabelled).to_series()
    theirs = turns[TEXT_ID].is_in(tables.texts[TEXT_ID].to_list())
    dated = [TIMESTAMP] if TIMESTAMP in tables.texts.columns else []
    rows = turns.filter(~(copies | teaches_nothing | theirs)).select(
        TEXT_ID, TEXT, *dated, **{column: pl.col(label) for label, column in columns.items()}
    )
    texts = tables.texts.with_columns(pl.col(column).cast(pl.String) for column in columns.values())
    findings = (
        _finding(TEXT, "logged_held_out", int(copies.sum()), "no turn that repeats a text of validation or test"),
        _finding(INTENT, "logged_unknown_label", unknown, "an intent of the task and an item of the catalogue"),
    )
    return replace(tables, texts=pl.concat([texts, rows], how="diagonal_relaxed")), findings


def _repeats(turns: pl.DataFrame, texts: pl.DataFrame) -> pl.Series:
    """Return which turns are a spelling of one of these texts, bool `[turns]`."""
    return turns[_KEY].is_in(texts.select(text_key(TEXT)).to_series().to_list())


def _one_a_text(turns: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """Return a row for each distinct text, in the order of its first turn: that turn's id, and the latest labels."""
    keyed = turns.filter(pl.col(TEXT).str.strip_chars() != "").with_columns(text_key(TEXT).alias(_KEY))
    return keyed.group_by(_KEY, maintain_order=True).agg(
        pl.format("turn-{}", pl.col(REQUEST_ID).first()).alias(TEXT_ID),
        pl.col(TEXT).first().str.strip_chars(),
        pl.col(TIMESTAMP).first(),
        *(pl.col(label).drop_nulls().last() for label in labels),
    )


def _known_labels(turns: pl.DataFrame, tables: Tables, logged: LoggedTurns) -> tuple[pl.DataFrame, int]:
    """Return the turns without labels that nothing knows any more, and how many those were."""
    known: dict[str, pl.Expr] = {}
    if INTENT in turns.columns and logged.intent is not None and logged.intent.classes is not None:
        known[INTENT] = pl.col(INTENT).is_in(logged.intent.classes)
    if ITEM_ID in turns.columns:
        known[ITEM_ID] = pl.col(ITEM_ID).is_in(tables.items[ITEM_ID].to_list())
    unknown = sum(turns.filter(~is_known).height for is_known in known.values())
    return turns.with_columns(pl.when(is_known).then(label).alias(label) for label, is_known in known.items()), unknown


def _column(task: TaskSpec) -> str:
    assert isinstance(task.label, ColumnLabel), "a task on texts reads a column"
    return task.label.column


def _finding(column: str, rule: str, count: int, expected: str) -> Finding:
    found = f"{count:,} otherwise in the log of turns" if count else ""
    return Finding(
        table=TEXTS_TABLE, column=column, rule=rule, action="drop", count=count, expected=expected, found=found
    )
