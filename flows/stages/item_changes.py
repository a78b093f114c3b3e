"""Logged changes of items in the tables step, and the catalogue as it was before some of them.

The step keeps the items as the source has them beside those that it made of them. So a time before the last change
needs no second reading of the source, and a position is never taken back: an item that was not known at that time
keeps its row, which then holds its place alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from features.event_log import SEQUENCE
from features.findings import Finding, ValidationReport
from features.item_changes import changed_items, fitting_changes, later_changes
from features.item_log import ItemLog, LoggedChange
from features.rules import ValidationConfig
from features.schema import AVAILABLE_FROM, ITEM_ID
from features.sources import SourceConfig, load
from features.tables import ITEMS_TABLE, Tables, extend
from infra.files import write_atomic

_SOURCE: Final = "source_items.parquet"
_UNTIL: Final = "logged_items.json"
_KNOWN: Final = "__known__"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedItems:
    """What the log holds, and the items that it is about.

    Attributes:
        changes: one or more, in order.
        source: the items of the last refresh as its source had them; None before the first.
    """

    changes: Sequence[LoggedChange]
    source: pl.DataFrame | None

    @classmethod
    def read(cls, log: Path, previous: Path | None) -> Self | None:
        """Return what a log holds, None where that is nothing; `previous` is the tables step of the last refresh."""
        changes = ItemLog(log).read()
        if not changes:
            return None
        return cls(changes=changes, source=None if previous is None else _source_items(previous))

    @property
    def ids(self) -> Sequence[str]:
        """The items that changes name, each once."""
        return list(dict.fromkeys(logged.change.item_id for logged in self.changes))

    @cached_property
    def content_hash(self) -> str:
        """A sha256 over every change."""
        digest = hashlib.sha256()
        for logged in self.changes:
            row = [logged.sequence, logged.received.isoformat(), logged.change.item_id, logged.change.values]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """The items as they were before some changes.

    Attributes:
        items: as many rows as the stored ones, in their order; of an item that wasn't known, only id and begin.
        known: bool `[n_items]`, which were; None where all of them.
    """

    items: pl.DataFrame
    known: npt.NDArray[np.bool_] | None

    @classmethod
    def at(cls, folder: Path, changes: Sequence[LoggedChange], sequence: int) -> Self:
        """Return the items of a tables step without the changes that came after one.

        Args:
            folder: of the step; it holds changes.
            changes: all that the log holds.
            sequence: of the last change that counts; 0 for none.
        """
        stored = pl.read_parquet(folder / f"{ITEMS_TABLE}.parquet")
        earlier = [logged for logged in changes if logged.sequence <= sequence]
        frame, _ = _changed(_source_items(folder), earlier)
        rows = stored.select(ITEM_ID).join(
            frame.with_columns(pl.lit(value=True).alias(_KNOWN)), on=ITEM_ID, how="left", maintain_order="left"
        )
        known, items = rows[_KNOWN].fill_null(value=False), rows.drop(_KNOWN)
        if known.all():
            return cls(items=items, known=None)
        if AVAILABLE_FROM in stored.columns:
            # All that such a row holds: once its changes are applied, the item begins then.
            own = pl.col(AVAILABLE_FROM) if AVAILABLE_FROM in items.columns else None
            begin = pl.when(pl.lit(known)).then(own).otherwise(pl.lit(stored[AVAILABLE_FROM]))
            items = items.with_columns(begin.alias(AVAILABLE_FROM))
        return cls(items=items, known=known.to_numpy())


def load_changed(
    config: SourceConfig, base: Path, rules: ValidationConfig | None, logged: LoggedItems | None
) -> tuple[Tables, ValidationReport, pl.DataFrame]:
    """Read and validate a source (`features.sources.load`), and apply the logged changes to its items.

    A change is left out where the source says that it updated the item later, and a value where its column is gone or
    of another type since; the report counts both.

    Args:
        config: the source.
        base: folder that its relative paths start from.
        rules: what happens to rows that break a rule; None takes the defaults.
        logged: the changes; None where there are none.

    Returns:
        The tables, the report, and the items without the changes.
    """
    known = () if logged is None else logged.ids
    tables, report = load(config, base, datetime.now(UTC), rules=rules, known_items=known)
    if logged is None:
        return tables, report, tables.items
    # What the source no longer has keeps its row, and the log may change it.
    before = None if logged.source is None else Tables(items=logged.source)
    source = extend(before, Tables(items=tables.items)).items
    items, findings = _changed(source, logged.changes)
    return replace(tables, items=items), report.model_copy(update={"findings": (*report.findings, *findings)}), source


def note_changes(out: Path, logged: LoggedItems, source: pl.DataFrame) -> None:
    """Write beside the tables of a step the items without the changes, and the newest change's number."""
    source.write_parquet(out / _SOURCE)
    write_atomic(out / _UNTIL, json.dumps({SEQUENCE: logged.changes[-1].sequence}).encode())


def changes_until(folder: Path) -> int:
    """Return the sequence number of the newest change that the items of a tables step hold; 0 for none."""
    path = folder / _UNTIL
    found: int = json.loads(path.read_bytes())[SEQUENCE] if path.exists() else 0
    return found


def _source_items(folder: Path) -> pl.DataFrame:
    path = folder / _SOURCE
    return pl.read_parquet(path if path.exists() else folder / f"{ITEMS_TABLE}.parquet")


def _changed(source: pl.DataFrame, changes: Sequence[LoggedChange]) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Return the items with the changes that count, and what was left out."""
    later = later_changes(source, changes)
    fitting, errors = fitting_changes(source.schema, later)
    findings = (
        Finding(
            table=ITEMS_TABLE,
            column=ITEM_ID,
            rule="logged_item_overruled",
            action="exclude",
            count=len(changes) - len(later),
            expected="changes later than the source's own",
            found="changes received before the source's updated_at" if len(later) < len(changes) else "",
        ),
        Finding(
            table=ITEMS_TABLE,
            column=ITEM_ID,
            rule="logged_item_value",
            action="drop",
            count=len(errors),
            expected="columns of the items and values of their types",
            found=f"others in the log of items, first {errors[0]}" if errors else "",
        ),
    )
    return changed_items(source, fitting).frame, findings
