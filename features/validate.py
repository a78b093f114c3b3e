"""The door: raw tables become canonical ones, or an error names the table, the column, what was expected and found.

A row is never left out silently. Each rule either fails the load (`error`) or leaves its rows out and counts them
(`drop`), as the configuration says; every outcome, zero included, is in the report. All failures are gathered and
raised together, so that one run shows everything there is to mend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

import polars as pl

from features.findings import ROW, Finding, TableRows, ValidationReport
from features.rules import (
    AMOUNTS,
    BLANK_TEXT,
    DUPLICATE_KEY,
    EVENT_KEY,
    FUTURE_TIMESTAMP,
    NULL_KEY,
    UNKNOWN_ITEM,
    UNKNOWN_USER,
    Gate,
    ValidationConfig,
)
from features.schema import (
    AVAILABLE_FROM,
    AVAILABLE_TO,
    EVENT,
    ITEM_ID,
    REQUEST_ID,
    SPLIT,
    TEXT,
    TEXT_ID,
    TIMESTAMP,
    UPDATED_AT,
    USER_ID,
)
from features.tables import EVENTS_TABLE, ITEMS_TABLE, SHOP_TABLES, TEXTS_TABLE, USERS_TABLE, Tables
from infra.errors import InvalidInputError

_OPTIONAL_TIMES: Final = (AVAILABLE_FROM, AVAILABLE_TO, UPDATED_AT)


class InvalidTablesError(InvalidInputError):
    """The tables break rules whose policy is to fail; `report` holds every finding."""

    title = "Invalid tables"

    def __init__(self, report: ValidationReport) -> None:
        self.report = report
        failures = [f.describe() for f in report.findings if f.action == "error" and f.count]
        super().__init__("\n".join(failures))


def validate(
    tables: Tables,
    config: ValidationConfig,
    *,
    now: datetime,
    declared: Collection[str] | None = None,
    notes: Iterable[Finding] = (),
    known_items: Collection[str] = (),
) -> tuple[Tables, ValidationReport]:
    """Return the canonical tables and the report.

    Args:
        tables: the tables as read; columns and types may be wrong.
        config: the policies.
        now: aware time after which an event or a text is in the future.
        declared: names of the tables that the source has, events only beside items and users. Any of them without rows
            fails; one that isn't declared is left as it is. None takes a shop's, and texts where there are some.
        notes: findings of the reader, put first in the report.
        known_items: ids that the items table is about to get from elsewhere; their events are let through.

    Returns:
        Tables with string ids, UTC times, float64 `value` and `quantity` (null where absent), rows in their order.

    Raises:
        InvalidTablesError: if a rule whose policy is `error` found rows.
    """
    findings = list(notes)
    present = declared or (SHOP_TABLES | {TEXTS_TABLE} if tables.texts.height else SHOP_TABLES)
    gates = {name: _gate(name, frame, config, findings) for name, frame in tables.frames.items() if name in present}

    def report() -> ValidationReport:
        rows = tuple(TableRows(table=name, read=gate.read, kept=gate.frame.height) for name, gate in gates.items())
        return ValidationReport(tables=rows, findings=(*findings, *(f for g in gates.values() for f in g.findings)))

    # Without its columns or rows a table can't be looked at further; each is asked, so that one error names them all.
    ready = [gate.has_columns_and_rows() for gate in gates.values()]
    if not all(ready):
        raise InvalidTablesError(report())
    for name, key in ((ITEMS_TABLE, ITEM_ID), (USERS_TABLE, USER_ID)):
        if name in gates:
            _check_catalogue(gates[name], key)
    if EVENTS_TABLE in gates:
        new = pl.Series(ITEM_ID, list(known_items), dtype=pl.String)
        items = pl.concat([gates[ITEMS_TABLE].frame[ITEM_ID], new])
        _check_events(gates[EVENTS_TABLE], items, gates[USERS_TABLE].frame[USER_ID], now)
    if TEXTS_TABLE in gates:
        _check_texts(gates[TEXTS_TABLE], now)
    for gate in gates.values():
        gate.check_drop_share()
    outcome = report()
    if any(f.action == "error" and f.count for f in outcome.findings):
        raise InvalidTablesError(outcome)
    return replace(tables, **{name: gate.frame.drop(ROW) for name, gate in gates.items()}), outcome


def _gate(name: str, frame: pl.DataFrame, config: ValidationConfig, notes: list[Finding]) -> Gate:
    dropped = sum(note.count for note in notes if note.table == name and note.action == "drop")
    return Gate(name, frame, config, dropped)


def _check_key(gate: Gate, key: str) -> None:
    gate.check_text(key)
    gate.reject(~pl.col(key).is_first_distinct(), DUPLICATE_KEY, key, expected="each id once", found="ids seen before")


def _check_catalogue(gate: Gate, key: str) -> None:
    _check_key(gate, key)
    for column in _OPTIONAL_TIMES:
        if column in gate.frame.columns:
            gate.check_times(column)


def _check_times(gate: Gate, now: datetime) -> None:
    gate.check_times(TIMESTAMP)
    late = f"times up to {now.isoformat()}"
    gate.reject(pl.col(TIMESTAMP) > now, FUTURE_TIMESTAMP, TIMESTAMP, expected=late, found="later times")


def _check_texts(gate: Gate, now: datetime) -> None:
    """Check texts; what a label column must hold depends on the tasks: see `features.column_labels`."""
    _check_key(gate, TEXT_ID)
    gate.check_text(TEXT, blank=BLANK_TEXT)
    if SPLIT in gate.frame.columns:
        gate.check_split()
    if TIMESTAMP in gate.frame.columns:
        _check_times(gate, now)
        # A text of neither could be of any time, and would be trained on before it was written.
        placed = pl.col(SPLIT).is_not_null() if SPLIT in gate.frame.columns else pl.lit(value=False)
        lost = pl.col(TIMESTAMP).is_null() & ~placed
        gate.reject(lost, NULL_KEY, TIMESTAMP, expected="a time, or a split instead", found="null")


def _check_events(gate: Gate, items: pl.Series, users: pl.Series, now: datetime) -> None:
    gate.leave_columns((*EVENT_KEY, *AMOUNTS, REQUEST_ID))
    for column in (USER_ID, ITEM_ID, EVENT):
        gate.check_text(column)
    _check_times(gate, now)
    gate.reject(pl.col(TIMESTAMP).is_null(), NULL_KEY, TIMESTAMP, expected="a time", found="null")
    for column in AMOUNTS:
        gate.check_amount(column)
    for rule, key, ids in ((UNKNOWN_ITEM, ITEM_ID, items), (UNKNOWN_USER, USER_ID, users)):
        gate.reject(
            ~pl.col(key).is_in(ids.implode()),
            rule,
            key,
            expected=f"one of the {len(ids):,} ids of its table",
            found="other ids",
        )
    gate.merge_duplicates()
