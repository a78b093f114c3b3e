"""Each shipped workspace on texts can be trained as it is: its source loads and its tasks find their labels."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from features.column_labels import LabelColumn
from features.schema import SPLIT
from features.sources import load
from features.tables import SPLITS
from flows.folder import WorkspaceFolder
from flows.workspace import Workspace

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ON_TEXTS = ("customer_service", "finance")


@pytest.mark.parametrize("template", ON_TEXTS)
def test_each_task_has_labels_in_every_part(tmp_path: Path, template: str) -> None:
    made = WorkspaceFolder.create(tmp_path, template)
    workspace = Workspace.load(made.folder)
    tables, report = load(workspace.config.source, workspace.folder, NOW, rules=workspace.config.validation)
    assert report.dropped == 0
    for part in SPLITS:
        rows = tables.texts.with_columns(pl.col(SPLIT) == part)[SPLIT].to_numpy()
        for task in workspace.config.tasks:
            column = LabelColumn.of(task, tables).where(rows)
            column.require_any()
            if task.kind == "contrastive":
                assert (column.answers(tables.items) >= -1).all()
            elif part == "train":
                classes = {task.name: column.classes()} if task.kind == "multiclass" else {}
                assert len(set(column.labels(classes)[column.values.is_not_null().to_numpy()])) >= 2


@pytest.mark.parametrize("template", ON_TEXTS)
def test_every_task_of_the_published_sets_is_named_in_the_file(template: str) -> None:
    text = files("flows").joinpath("templates", f"{template}.yaml").read_text()
    columns = {
        "customer_service": (
            "banking_intent",
            "clinc_intent",
            "domain",
            "in_scope",
            "answer",
            "faq_class",
            "zh_intent",
        ),
        "finance": ("sentiment", "topic", "target_sentiment", "aspect"),
    }
    for column in columns[template]:
        assert f"column: {column}}}" in text
