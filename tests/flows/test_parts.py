"""What a source and its tasks make of a workspace, and sections that are about nothing it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from features.tasks import TaskSpec
from flows.document import DocumentError
from flows.parts import Parts
from flows.workspace import Workspace

TABLE = {"type": "parquet", "path": "t.parquet"}
TEXTS, BOTH, SHOP = (dict.fromkeys(names, TABLE) for names in (("texts",), ("texts", "items"), ("items", "events")))
INTENT = {"name": "intent", "kind": "multiclass", "on": "text", "label": {"type": "column", "column": "intent"}}
ANSWER = {**INTENT, "name": "answer", "kind": "contrastive"}
PURCHASE = {"name": "purchase", "kind": "binary", "on": "pair", "label": {"type": "event", "event": "purchase"}}
CHURN = {**PURCHASE, "name": "churn", "on": "user"}


def load(folder: Path, tables: dict[str, Any], *tasks: dict[str, Any], **lines: Any) -> Workspace:
    file = {"name": "some", "source": {"type": "tables", **tables}, "tasks": list(tasks), **lines}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    return Workspace.load(folder)


@pytest.mark.parametrize(
    ("tables", "tasks", "items", "events", "ranking"),
    [
        (TEXTS, [INTENT], False, False, False),
        (BOTH, [INTENT, ANSWER], True, False, False),
        (SHOP, [PURCHASE], True, True, True),
        # Nothing orders a user's items: there is no task on pairs to do it by.
        (SHOP, [CHURN], True, True, False),
        ({**SHOP, **TEXTS}, [INTENT], True, True, False),
        ({**SHOP, **TEXTS}, [INTENT, PURCHASE], True, True, True),
    ],
)
def test_parts_follow_from_tables_and_tasks(
    tmp_path: Path, tables: dict[str, Any], tasks: list[dict[str, Any]], items: bool, events: bool, ranking: bool
) -> None:
    parts = load(tmp_path, tables, *tasks).config.parts
    assert parts == Parts(items=items, events=events, ranking=ranking)
    flags = {"encoder": True, "items": items, "users": events, "ranking": ranking}
    assert parts.held == tuple(name for name, there in flags.items() if there)


def test_a_ranking_of_pairs_is_not_one_of_their_numbers() -> None:
    rating = {**PURCHASE, "kind": "regression", "label": {"type": "value", "event": "rating"}}
    tasks = [TaskSpec.model_validate(rating)]
    assert not Parts.of({"items", "users", "events"}, tasks).ranking


@pytest.mark.parametrize(
    ("tables", "task", "message"),
    [
        (TEXTS, PURCHASE, "task purchase: binary on pair needs events, found a source with texts alone"),
        (TEXTS, ANSWER, "task answer: contrastive on text needs items, found a source with texts alone"),
        (SHOP, INTENT, "task intent: multiclass on text needs texts, found a source with events, items, users alone"),
        ({"items": TABLE}, INTENT, "source: expected events or texts at least, found items"),
    ],
)
def test_a_task_whose_table_is_not_there_fails_when_the_file_is_read(
    tmp_path: Path, tables: dict[str, Any], task: dict[str, Any], message: str
) -> None:
    with pytest.raises(DocumentError, match=message):
        load(tmp_path, tables, task)


@pytest.mark.parametrize(
    ("tables", "section", "needs"),
    [
        (TEXTS, "index", "items in the source"),
        (TEXTS, "texts", "items in the source"),
        (BOTH, "collaborative", "events in the source"),
        (BOTH, "sequence", "events in the source"),
        (BOTH, "features", "events in the source"),
        (BOTH, "ranking", "events in the source and a binary task on pairs"),
        ({**SHOP, **TEXTS}, "audit", "events in the source and a binary task on pairs"),
    ],
)
def test_a_section_about_what_is_not_there_is_refused(
    tmp_path: Path, tables: dict[str, Any], section: str, needs: str
) -> None:
    with pytest.raises(DocumentError, match=f"section {section}: expected {needs}, found none; leave the section out"):
        load(tmp_path, tables, INTENT, **{section: {}})


def test_nothing_trends_by_segment_without_events(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"candidates\.trending_by: expected events in the source, found none"):
        load(tmp_path, BOTH, INTENT, candidates={"trending_by": "age"})
