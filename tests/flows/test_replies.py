"""A workspace's replies: templates of the file, of a CSV file or of the shipped sample, held against the tables."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from features.sources import load, own_replies
from features.tables import Tables
from features.turn_log import Turn, TurnLog
from flows.document import DocumentError
from flows.folder import WorkspaceFolder
from flows.replies import logged_turns, read_replies
from flows.workspace import Workspace
from infra.errors import InvalidInputError

T = datetime(2026, 3, 1, tzinfo=UTC)
TABLES = Tables(
    items=pl.DataFrame({"item_id": ["i"], "body": ["text"]}),
    texts=pl.DataFrame(
        {
            "text_id": ["a", "b", "c"],
            "text": ["one two", "two", "three"],
            "topic": ["billing", "delivery", "secret"],
            "slots": [["B-day", "O"], ["B-city"], None],
            "split": ["train", "train", "test"],
        }
    ),
)


def workspace(folder: Path, **reply: Any) -> Workspace:
    tables = {name: {"type": "csv", "path": f"{name}.csv"} for name in ("items", "texts")}
    kinds = {"topic": "multiclass", "slots": "token_tags", "answer": "contrastive"}
    tasks = [
        {"name": name, "kind": kind, "on": "text", "label": {"type": "column", "column": name}}
        for name, kind in kinds.items()
    ]
    file = {"name": "desk", "source": {"type": "tables", **tables}, "tasks": tasks, "reply": reply}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    return Workspace.load(folder)


def test_templates_stand_in_the_file_or_in_a_table(tmp_path: Path) -> None:
    inline = {"billing": "On {day} in {city}."}
    found = read_replies(workspace(tmp_path, intent="topic", slots="slots", templates=inline), TABLES)
    assert found is not None
    assert found.templates == inline
    pl.DataFrame({"reply": ["On {day}."], "intent": ["delivery"]}).write_csv(tmp_path / "replies.csv")
    found = read_replies(workspace(tmp_path, intent="topic", slots="slots", templates="replies.csv"), TABLES)
    assert found is not None
    assert found.templates == {"delivery": "On {day}."}


def test_unknown_names_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    for reply, expected in (
        ({"templates": {"biling": "hello"}}, "unknown intent 'biling'; did you mean 'billing'"),
        ({"templates": {"billing": "{dai}"}, "slots": "slots"}, "unknown slot 'dai'; did you mean 'day'"),
        # What only a text of the test knows is not known.
        ({"templates": {"secret": "hello"}}, "unknown intent 'secret'"),
        ({"answers": "answer", "passage": "bodi"}, "unknown column 'bodi'; did you mean 'body'"),
        ({"templates": "none.csv"}, r"expected a CSV file at .*none\.csv"),
    ):
        with pytest.raises(InvalidInputError, match=expected):
            read_replies(workspace(tmp_path, intent="topic", **reply), TABLES)
    with pytest.raises(DocumentError, match=r"reply\.intent: unknown multiclass task on texts 'topics'; did you mean"):
        workspace(tmp_path, intent="topics")
    with pytest.raises(DocumentError, match="intnt"):
        workspace(tmp_path, intent="topic", intnt="topic")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"intent": ["billing"], "replies": ["a"]}, "unknown column 'reply'; did you mean 'replies'"),
        ({"intent": ["billing", "billing"], "reply": ["a", "b"]}, "expected one reply for each intent, found 2 rows"),
        ({"intent": ["billing", None], "reply": ["a", "b"]}, "expected one reply for each intent, found 1 rows"),
    ],
)
def test_a_table_of_replies_names_each_intent_once(tmp_path: Path, rows: dict[str, Any], expected: str) -> None:
    pl.DataFrame(rows).write_csv(tmp_path / "replies.csv")
    with pytest.raises(InvalidInputError, match=expected):
        read_replies(workspace(tmp_path, intent="topic", templates="replies.csv"), TABLES)


def test_the_shipped_sample_brings_its_own(tmp_path: Path) -> None:
    loaded = Workspace.load(WorkspaceFolder.create(tmp_path, "customer_service").folder)
    tables, _ = load(loaded.config.source, loaded.folder, datetime.now(UTC))
    found = read_replies(loaded, tables)
    assert found is not None
    assert len(found.templates) == 12
    assert found.templates == own_replies(loaded.config.source)
    assert found.templates["top_up_failed"].startswith("Your top-up of {amount} on {attempted_on}")


def test_no_section_replies_to_nothing(tmp_path: Path) -> None:
    loaded = Workspace.load(WorkspaceFolder.create(tmp_path, "texts").folder)
    assert read_replies(loaded, TABLES) is None
    assert logged_turns(loaded) is None


def test_turns_are_read_unless_the_section_turns_them_off(tmp_path: Path) -> None:
    on = workspace(tmp_path, intent="topic", answers="answer")
    assert logged_turns(on) is None
    assert not on.turn_log.exists()
    TurnLog(on.turn_log).append(Turn(request_id="r", text="hello", kind="hand_over", release="x", timestamp=T))
    found = logged_turns(on)
    assert found is not None
    assert found.turns["text"].to_list() == ["hello"]
    assert found.columns == {"intent": "topic", "item_id": "answer"}
    assert logged_turns(workspace(tmp_path, intent="topic", log_turns=False)) is None
