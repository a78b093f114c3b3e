"""The tables step that flows stand on: read anew where the source or the event log has changed."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from features.event_log import EventLog
from features.item_log import ItemLog
from features.tables import EVENTS_TABLE, Tables, read_tables
from flows.replies import logged_turns
from flows.stages.data import Data
from flows.stages.item_changes import Catalogue, LoggedItems, changes_until
from flows.stages.tables import build_tables, content_hash, fingerprint
from flows.steps import KeyPart, StepStore, source_hash
from flows.workspace import Workspace
from infra.files import write_atomic

log = structlog.get_logger(__name__)

_LATEST: Final = "latest.json"


def refresh_tables(workspace: Workspace, steps: StepStore) -> Path:
    """Return the tables step of the source as it is now, its positions continuing those of the last refresh."""
    mark = fingerprint(workspace.config.source, workspace.folder)
    logged = EventLog(workspace.event_log).read() if workspace.config.parts.events else None
    taken = 0 if logged is None else logged.height
    key: list[KeyPart] = [mark, taken, workspace.config_hash("source", "validation"), source_hash("features")]
    items = logged_items(workspace)
    if items is not None:
        key += [items.content_hash, source_hash("flows.stages")]
    turns = logged_turns(workspace)
    if turns is not None:
        key += [content_hash(turns.turns), *turns.columns.values(), source_hash("flows.stages")]
    previous = latest_tables(workspace)
    if previous is not None and _latest(workspace)["key"] == digest(*key):
        log.info("tables_unchanged", step=previous.name)
        return previous
    earlier: Tables | None = None if previous is None else read_tables(previous)
    folder = steps.run(
        "tables",
        [*key, *([] if previous is None else [previous])],
        lambda out: build_tables(
            out, workspace.config.source, workspace.folder, logged, earlier, workspace.config.validation, turns, items
        ),
    )
    workspace.tables.mkdir(parents=True, exist_ok=True)
    pointer = json.dumps({"step": folder.name, "key": digest(*key)})
    write_atomic(workspace.tables / _LATEST, pointer.encode())
    return folder


def latest_tables(workspace: Workspace) -> Path | None:
    """Return the tables step of the last refresh, whose positions the next one continues; None before the first."""
    if not (workspace.tables / _LATEST).exists():
        return None
    folder = workspace.runs / _latest(workspace)["step"]
    return folder if (folder / f"{EVENTS_TABLE}.parquet").exists() else None


def logged_items(workspace: Workspace) -> LoggedItems | None:
    """Return the changes of items that services took; None where there are none."""
    if not workspace.config.parts.items:
        return None
    return LoggedItems.read(workspace.item_log, latest_tables(workspace))


def changes_before(workspace: Workspace, tables: Path, moment: datetime | None) -> int:
    """Return how much of the log of items the stored tables hold that was received before a time; None asks for all."""
    taken = changes_until(tables)
    return taken if moment is None else min(taken, ItemLog(workspace.item_log).sequence_before(moment))


def load_data(workspace: Workspace, tables: Path, before: datetime | None, item_sequence: int) -> Data:
    """Return the stored tables as they were seen at a time.

    Args:
        workspace: whose.
        tables: the tables step.
        before: events and texts at or after it are left out; None keeps all.
        item_sequence: changes of items later in the log are not seen.
    """
    config = workspace.config
    catalogue = None
    if item_sequence < changes_until(tables):
        catalogue = Catalogue.at(tables, ItemLog(workspace.item_log).read(), item_sequence)
    return Data.load(
        tables,
        before=before,
        features=config.features,
        texts=config.texts,
        eligibility=config.eligible,
        catalogue=catalogue,
    )


def digest(*parts: object) -> str:
    """Return 12 hexadecimal digits that stand for some parts, told apart by their text."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:12]


def _latest(workspace: Workspace) -> dict[str, str]:
    found: dict[str, str] = json.loads((workspace.tables / _LATEST).read_bytes())
    return found
