"""The door: raw tables become canonical ones, or an error names the table, the column, what was expected and found.

A row is never left out silently. Each rule either fails the load (`error`) or leaves its rows out and counts them
(`drop`), as the configuration says; every outcome, zero included, is in the report. All failures are gathered and
raised together, so that one run shows everything there is to mend.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import polars as pl

from features.findings import ROW, Finding, TableRows, ValidationReport
from features.rules import (
    AMOUNTS,
    DUPLICATE_KEY,
    EVENT_KEY,
    FUTURE_TIMESTAMP,
    NULL_KEY,
    UNKNOWN_ITEM,
    UNKNOWN_USER,
    Gate,
    ValidationConfig,
)
from features.schema import AVAILABLE_FROM, AVAILABLE_TO, EVENT, ITEM_ID, REQUEST_ID, TIMESTAMP, UPDATED_AT, USER_ID
from features.tables import EVENTS_TABLE, ITEMS_TABLE, USERS_TABLE, Tables
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
    tables: Tables, config: ValidationConfig, *, now: datetime, notes: Iterable[Finding] = ()
) -> tuple[Tables, ValidationReport]:
    """Return the canonical tables and the report.

    Args:
        tables: the tables as read; columns and types may be wrong.
        config: the policies.
        now: aware time after which an event is in the future.
        notes: findings of the reader, put first in the report.

    Returns:
        Tables with string ids, UTC times, float64 `value` and `quantity` (null where absent), rows in their order.

    Raises:
        InvalidTablesError: if a rule whose policy is `error` found rows.
    """
    findings = list(notes)
    before = {
        name: sum(f.count for f in findings if f.table == name and f.action == "drop")
        for name in (ITEMS_TABLE, USERS_TABLE, EVENTS_TABLE)
    }
    gates = {
        name: Gate(name, frame, config, before[name])
        for name, frame in ((ITEMS_TABLE, tables.items), (USERS_TABLE, tables.users), (EVENTS_TABLE, tables.events))
    }

    def report() -> ValidationReport:
        rows = tuple(TableRows(table=name, read=gate.read, kept=gate.frame.height) for name, gate in gates.items())
        return ValidationReport(tables=rows, findings=(*findings, *(f for g in gates.values() for f in g.findings)))

    # Without its columns or rows a table can't be looked at further; each is asked, so that one error names them all.
    ready = [gate.has_columns_and_rows() for gate in gates.values()]
    if not all(ready):
        raise InvalidTablesError(report())
    items, users, events = gates.values()
    _check_catalogue(items, ITEM_ID)
    _check_catalogue(users, USER_ID)
    _check_events(events, items.frame, users.frame, now)
    for gate in gates.values():
        gate.check_drop_share()
    outcome = report()
    if any(f.action == "error" and f.count for f in outcome.findings):
        raise InvalidTablesError(outcome)
    kept = Tables(items=items.frame.drop(ROW), users=users.frame.drop(ROW), events=events.frame.drop(ROW))
    return kept, outcome


def _check_catalogue(gate: Gate, key: str) -> None:
    gate.check_text(key)
    for column in _OPTIONAL_TIMES:
        if column in gate.frame.columns:
            gate.check_times(column)
    gate.reject(~pl.col(key).is_first_distinct(), DUPLICATE_KEY, key, expected="each id once", found="ids seen before")


def _check_events(gate: Gate, items: pl.DataFrame, users: pl.DataFrame, now: datetime) -> None:
    gate.leave_columns((*EVENT_KEY, *AMOUNTS, REQUEST_ID))
    for column in (USER_ID, ITEM_ID, EVENT):
        gate.check_text(column)
    gate.check_times(TIMESTAMP)
    gate.reject(pl.col(TIMESTAMP).is_null(), NULL_KEY, TIMESTAMP, expected="a time", found="null")
    for column in AMOUNTS:
        gate.check_amount(column)
    gate.reject(
        pl.col(TIMESTAMP) > now,
        FUTURE_TIMESTAMP,
        TIMESTAMP,
        expected=f"times up to {now.isoformat()}",
        found="later times",
    )
    for rule, key, catalogue in ((UNKNOWN_ITEM, ITEM_ID, items), (UNKNOWN_USER, USER_ID, users)):
        gate.reject(
            ~pl.col(key).is_in(catalogue[key].implode()),
            rule,
            key,
            expected=f"one of the {catalogue.height:,} ids of its table",
            found="other ids",
        )
    gate.merge_duplicates()
