"""Labels that stand in a column of the texts, users or items, checked against what the task needs of them.

An error names the task, the table and column, what was expected and the first rows that are otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.findings import first_rows
from features.schema import ITEM_ID, TEXT_ID, USER_ID, Float32, Int32
from features.tables import ITEMS_TABLE, TEXTS_TABLE, USERS_TABLE, Tables
from features.tasks import ColumnLabel, TaskError, TaskSpec
from features.units import unit_spans
from infra.errors import unknown_name

Bool = npt.NDArray[np.bool_]

_TABLES: Final = {"text": (TEXTS_TABLE, TEXT_ID), "user": (USERS_TABLE, USER_ID), "item": (ITEMS_TABLE, ITEM_ID)}
_WORDS: Final = r"\S+"
_FOUND: Final = "found"
_POSITION: Final = "position"


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitTags:
    """Tags of the units of some texts, ragged.

    Attributes:
        text: int32 `[units]` row of the text, ascending.
        span: int32 `[units, 2]` first character of the unit and the one after its last.
        code: int32 `[units]` position of its tag among the classes.
    """

    text: Int32
    span: Int32
    code: Int32


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelColumn:
    """One task's label column, or some rows of it.

    Attributes:
        task: whose label is of type column.
        place: `table.column`, for errors.
        keys: the rows' ids, under the name of their column.
        values: as the table holds them; null for no label.
    """

    task: TaskSpec
    place: str
    keys: pl.Series
    values: pl.Series

    @classmethod
    def of(cls, task: TaskSpec, tables: Tables) -> Self:
        """Return a task's column of its rows' table.

        Raises:
            TaskError: the table has no such column; names the nearest.
        """
        assert isinstance(task.label, ColumnLabel)
        name, key = _TABLES[task.on]
        table, column = tables.frames[name], task.label.column
        if column not in table.columns:
            raise TaskError(f"task {task.name}: table {name}: {unknown_name('column', column, table.columns)}")
        return cls(task=task, place=f"{name}.{column}", keys=table[key], values=table[column])

    def where(self, rows: Bool) -> LabelColumn:
        """Return the rows that bool `[n]` marks."""
        return replace(self, keys=self.keys.filter(rows), values=self.values.filter(rows))

    def require_any(self) -> None:
        """Check that a row carries a label.

        Raises:
            TaskError: none does.
        """
        if self.values.null_count() == len(self.values):
            raise self._error("a label of at least one row to train on", f"none in {len(self.values)} rows")

    def classes(self) -> tuple[str, ...]:
        """Return the declared classes, else those of these rows, sorted.

        Raises:
            TaskError: the rows name fewer than two.
        """
        if self.task.classes is not None:
            return self.task.classes
        names = self._tag_lists().explode(empty_as_null=False) if self.task.kind == "token_tags" else self._names()
        found = tuple(sorted(names.drop_nulls().unique().to_list()))
        if len(found) < 2:
            raise self._error("at least two classes among the labels to train on", str(list(found)))
        return found

    def labels(self, classes: Mapping[str, Sequence[str]]) -> Float32:
        """Return float32 `[n]`: 0 or 1, a number, or a class's code; NaN where there is no label.

        Args:
            classes: by multiclass task. A class outside those taken from training rows is no label.

        Raises:
            TaskError: a value is no number, not 0 or 1, or outside the declared classes.
        """
        if self.task.kind == "multiclass":
            return self._codes(self._names(), classes[self.task.name]).cast(pl.Float32).fill_null(np.nan).to_numpy()
        number = self._numbers()
        if self.task.kind == "binary":
            self._refuse(~number.is_in([0.0, 1.0]), "0 or 1")
        return number.cast(pl.Float32).fill_null(np.nan).to_numpy()

    def answers(self, items: pl.DataFrame) -> Int32:
        """Return int32 `[n]` position of the item that answers each text, -1 where none does.

        Raises:
            TaskError: a value is no `item_id` of the items table.
        """
        positions = items.select(ITEM_ID, pl.int_range(pl.len(), dtype=pl.Int32).alias(_POSITION))
        named = self._names().alias(ITEM_ID).to_frame()
        found = named.join(positions, on=ITEM_ID, how="left", maintain_order="left")[_POSITION]
        self._refuse(found.is_null(), f"one of the {items.height:,} ids of the items table")
        return found.fill_null(-1).to_numpy()

    def tags(self, texts: pl.Series, classes: Mapping[str, Sequence[str]]) -> UnitTags:
        """Return the tags of the units of each text that has any.

        Args:
            texts: String `[n]`, of the same rows.
            classes: as in `labels`.

        Raises:
            TaskError: there are more or fewer tags than units, or one is outside the declared classes.
        """
        assert isinstance(self.task.label, ColumnLabel)
        unit, lists = self.task.label.unit, self._tag_lists()
        rows = lists.is_not_null().arg_true().to_numpy()
        spans = [unit_spans(text, unit) for text in texts.gather(rows).to_list()]
        units = pl.Series("units", [len(own) for own in spans], dtype=pl.UInt32)
        tags = lists.gather(rows)
        counts = tags.list.len()
        wrong = np.zeros(len(lists), bool)
        wrong[rows] = (counts != units).to_numpy()
        if wrong.any():
            first = int(np.flatnonzero(wrong[rows])[0])
            found = f"{_rows(wrong)} with more or fewer ({counts[first]} tags for {units[first]} {unit}s)"
            raise self._error(f"one tag a {unit}", found, wrong)
        text = np.repeat(rows.astype(np.int32), units.to_numpy())
        code = self._codes(tags.explode(empty_as_null=False), classes[self.task.name], owner=text)
        known = code.is_not_null().to_numpy()
        flat = np.array([span for own in spans for span in own], np.int32).reshape(-1, 2)
        return UnitTags(text=text[known], span=flat[known], code=code.drop_nulls().to_numpy())

    def _numbers(self) -> pl.Series:
        """Return float64 values, null for no label; anything that is no finite number is refused."""
        kind = self.values.dtype
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.String, pl.Null)):
            raise self._error("numbers", f"type {kind}")
        number = self.values.cast(pl.Float64, strict=False)
        self._refuse(number.is_null() | ~number.is_finite(), "a finite number")
        return number

    def _names(self) -> pl.Series:
        """Return the values as text."""
        if self.values.dtype.is_nested():
            raise self._error("one value a row", f"type {self.values.dtype}")
        return self.values.cast(pl.String)

    def _tag_lists(self) -> pl.Series:
        """Return a list of tags a row; text, as CSV files and databases hold it, is split at spaces."""
        if self.values.dtype in (pl.String, pl.Null):
            return self.values.cast(pl.String).str.extract_all(_WORDS)
        if not isinstance(self.values.dtype, pl.List):
            raise self._error("a list of tags a row, or text with a space between them", f"type {self.values.dtype}")
        return self.values.cast(pl.List(pl.String))

    def _codes(self, names: pl.Series, classes: Sequence[str], owner: Int32 | None = None) -> pl.Series:
        """Return each name's place among the classes, int32, null for none.

        Args:
            names: `[m]`.
            classes: their order.
            owner: int32 `[m]` row of each name; None where the names are the rows'.

        Raises:
            TaskError: a name, or a tag that is null, is outside the declared classes.
        """
        codes = names.replace_strict(classes, range(len(classes)), default=None, return_dtype=pl.Int32)
        if self.task.classes is not None:
            outside = codes.is_null().to_numpy()
            rows = outside
            if owner is not None:
                rows = np.zeros(len(self.values), bool)
                rows[owner[outside]] = True
            self._refuse(pl.Series(rows), f"one of the {len(classes)} declared classes ({', '.join(classes)})")
        return codes

    def _refuse(self, bad: pl.Series, expected: str) -> None:
        """Raise where a row with a label is bad."""
        rows = (bad & self.values.is_not_null()).to_numpy()
        if rows.any():
            raise self._error(expected, f"{_rows(rows)} with others", rows)

    def _error(self, expected: str, found: str, rows: Bool | None = None) -> TaskError:
        shown = ""
        if rows is not None:
            frame = pl.DataFrame([self.keys, self.values.alias(_FOUND)]).filter(rows)
            lines = (", ".join(f"{n}={v!r}" for n, v in row.items()) for row in first_rows(frame, frame.columns))
            shown = f"; first rows: {'; '.join(lines)}"
        return TaskError(f"task {self.task.name}: {self.place}: expected {expected}, found {found}{shown}")


def _rows(marked: Bool) -> str:
    return f"{marked.sum():,} {'row' if marked.sum() == 1 else 'rows'}"
