"""What the log's changes make of the catalogue: rows patched in place, new items appended.

A refresh and a service call the same function, so that an item is served today as the next release will hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from features.item_log import ItemChange, LoggedChange
from features.item_values import Coerced, ItemValue, UnfitValueError, coerce
from features.schema import AVAILABLE_FROM, AVAILABLE_TO, ITEM_ID, UPDATED_AT, UTC, Int32
from infra.errors import InvalidInputError, unknown_name

# Columns that any catalogue may get, whatever its source has.
TIMES: Final[Mapping[str, pl.DataType]] = dict.fromkeys((AVAILABLE_FROM, AVAILABLE_TO, UPDATED_AT), UTC)
# Of a value shown in an error: a text may be pages long.
_SHOWN_CHARACTERS: Final = 80


class ItemChangeError(InvalidInputError):
    """A change names a column that the items lack, or a value that its column can't hold."""

    title = "Invalid item change"


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangedItems:
    """The catalogue after some changes.

    Attributes:
        frame: the items; every earlier row keeps its place.
        positions: int32 `[n_changed]`, ascending: the rows that a change named, the new ones among them.
    """

    frame: pl.DataFrame
    positions: Int32


def check_changes(schema: Mapping[str, pl.DataType], changes: Iterable[ItemChange]) -> None:
    """Check changes before they are logged.

    Args:
        schema: the items' columns and their types.
        changes: see there.

    Raises:
        ItemChangeError: at the first that doesn't fit; names the item, the column, what was expected and found.
    """
    types = {**schema, **TIMES}
    for change in changes:
        for column, value in change.values.items():
            _coerced(types, change.item_id, column, value)


def fitting_changes(
    schema: Mapping[str, pl.DataType], changes: Sequence[LoggedChange]
) -> tuple[Sequence[LoggedChange], Sequence[ItemChangeError]]:
    """Return the changes without the values that don't fit, and what was wrong with each of those.

    What was logged fitted the catalogue of its time; the source may have other columns since.

    Args:
        schema: the items' columns and their types.
        changes: as logged.
    """
    types = {**schema, **TIMES}
    kept: list[LoggedChange] = []
    errors: list[ItemChangeError] = []
    for logged in changes:
        fit: dict[str, ItemValue] = {}
        for column, value in logged.change.values.items():
            try:
                _coerced(types, logged.change.item_id, column, value)
            except ItemChangeError as error:
                errors.append(error)
            else:
                fit[column] = value
        change = ItemChange.model_construct(item_id=logged.change.item_id, values=fit)
        kept.append(LoggedChange(sequence=logged.sequence, received=logged.received, change=change))
    return kept, errors


def later_changes(items: pl.DataFrame, changes: Sequence[LoggedChange]) -> Sequence[LoggedChange]:
    """Return the changes that the source doesn't overrule: its `updated_at` of an item, if any, isn't later than they.

    Args:
        items: the catalogue as the source has it, without any change.
        changes: in order.
    """
    if UPDATED_AT not in items.columns:
        return changes
    named = pl.Series([logged.change.item_id for logged in changes], dtype=pl.String)
    found = items.select(ITEM_ID, UPDATED_AT).filter(pl.col(ITEM_ID).is_in(named.implode())).drop_nulls(UPDATED_AT)
    updated: dict[str, datetime] = dict(found.iter_rows())
    return [
        logged
        for logged in changes
        if (moment := updated.get(logged.change.item_id)) is None or moment <= logged.received
    ]


def changed_items(items: pl.DataFrame, changes: Sequence[LoggedChange]) -> ChangedItems:
    """Return the catalogue after some changes.

    An item that the catalogue lacks is appended, in the order of the log, and is available from when its first change
    was received unless that change names another time. Of several changes to one value the last counts, so applying
    changes one by one gives what applying them together does.

    Args:
        items: the catalogue; it is left as it is.
        changes: in the log's order.

    Raises:
        ItemChangeError: at the first that doesn't fit; names the item, the column, what was expected and found.
    """
    rows, types = _known_rows(items, changes), {**items.schema, **TIMES}
    new: list[str] = []
    columns: dict[str, dict[int, Coerced]] = {}
    for logged in changes:
        change = logged.change
        row, values = rows.get(change.item_id), change.values
        if row is None:
            row = rows[change.item_id] = items.height + len(new)
            new.append(change.item_id)
            if values.get(AVAILABLE_FROM) is None:
                values = {**values, AVAILABLE_FROM: logged.received.isoformat()}
        for column, value in values.items():
            columns.setdefault(column, {})[row] = _coerced(types, change.item_id, column, value)
    frame = pl.concat([items, pl.DataFrame({ITEM_ID: new}, schema={ITEM_ID: pl.String})], how="diagonal")
    frame = frame.with_columns(_patched(frame, name, types[name], values) for name, values in columns.items())
    return ChangedItems(frame=frame, positions=np.sort(np.fromiter(rows.values(), np.int32, len(rows))))


def _known_rows(items: pl.DataFrame, changes: Sequence[LoggedChange]) -> dict[str, int]:
    """Return the row of each item that changes name and the catalogue has."""
    named = pl.Series([logged.change.item_id for logged in changes], dtype=pl.String).unique()
    rows = items[ITEM_ID].is_in(named.implode()).arg_true()
    return dict(zip(items[ITEM_ID].gather(rows).to_list(), rows.to_list(), strict=True))


def _patched(frame: pl.DataFrame, name: str, dtype: pl.DataType, values: Mapping[int, Coerced]) -> pl.Series:
    """Return a column, one of nulls where the frame lacks it, with values at some rows."""
    if name in frame.columns:
        column = frame[name].clone()
    else:
        column = pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height)
    return column.scatter(list(values), pl.Series(list(values.values()), dtype=dtype))


def _coerced(types: Mapping[str, pl.DataType], item_id: str, column: str, value: ItemValue) -> Coerced:
    if column == ITEM_ID:
        raise ItemChangeError(f"item {item_id!r}: expected columns besides {ITEM_ID}, which never changes, found it")
    if column not in types:
        raise ItemChangeError(f"item {item_id!r}: {unknown_name('column', column, set(types) - {ITEM_ID})}")
    try:
        return coerce(value, types[column])
    except UnfitValueError as error:
        shown = repr(value)
        if len(shown) > _SHOWN_CHARACTERS:
            shown = f"{shown[: _SHOWN_CHARACTERS - 3]}..."
        raise ItemChangeError(f"item {item_id!r}, column {column!r}: expected {error}, found {shown}") from None
