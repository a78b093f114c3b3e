"""Workspaces without shops, through every flow and the app: texts alone, and texts with the items that answer them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from flows.build import Build
from flows.cli import app
from flows.report import Report, read
from flows.serve import service_parts
from flows.stages.release import ReleaseParts
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.service import create_combined_app

THINGS = ("tea", "coffee", "bread", "soap")
WORDS = ("is", "likes", "user", "gift", "number")
# Eighty texts of a thing, a word and a digit; one in four is held out from everything, one in four stops training.
ROWS = [(thing, word, number) for thing in THINGS for word in WORDS for number in range(4)]
SPLITS = ("train", "test", "train", "validation")
ON_TEXT: list[dict[str, Any]] = [
    {"name": "intent", "kind": "multiclass", "on": "text", "label": {"type": "column", "column": "intent"}},
    {"name": "drink", "kind": "binary", "on": "text", "label": {"type": "column", "column": "drink"}},
    {"name": "size", "kind": "regression", "on": "text", "label": {"type": "column", "column": "size"}},
    {"name": "slots", "kind": "token_tags", "on": "text", "label": {"type": "column", "column": "slots"}},
]
ANSWER = {"name": "answer", "kind": "contrastive", "on": "text", "label": {"type": "column", "column": "answer"}}


def texts(**changes: list[Any]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {
        "text_id": [f"t{row}" for row in range(len(ROWS))],
        "text": [f"{thing} {word} {number}" for thing, word, number in ROWS],
        "intent": [thing for thing, _, _ in ROWS],
        "drink": [int(thing in ("tea", "coffee")) for thing, _, _ in ROWS],
        "size": [float(number) for _, _, number in ROWS],
        "slots": [["B", "O", "O"] for _ in ROWS],
        "answer": [f"about-{thing}" for thing, _, _ in ROWS],
        "split": [SPLITS[number] for _, _, number in ROWS],
    }
    return pl.DataFrame({**columns, **changes}, strict=False)


def write(folder: Path, encoder: dict[str, Any], tasks: list[dict[str, Any]], *, items: bool, **lines: Any) -> Path:
    folder.mkdir(exist_ok=True)
    names = ("items", "texts") if items else ("texts",)
    tables = {name: {"type": "parquet", "path": f"{name}.parquet"} for name in names}
    file = {"name": folder.name, "source": {"type": "tables", **tables}, "tasks": tasks, "encoder": encoder, **lines}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    texts().write_parquet(folder / "texts.parquet")
    ids, titles = [f"about-{thing}" for thing in THINGS], [f"gift {thing}" for thing in THINGS]
    pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
    return folder


@dataclass(frozen=True)
class Made:
    folder: Path
    release_id: str
    report: Report


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Type a command; all of them share one temporary Prefect server, which takes seconds to start."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))

    def typed(folder: Path, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*arguments, "-w", str(folder)])
        assert done.exit_code == code, f"{arguments}: {done.output}\n{done.exception!r}"
        return done.output

    return typed


def make(folder: Path, run: Callable[..., str]) -> Made:
    for arguments in (["validate"], ["refresh", "features"], ["refresh", "model"], ["evaluate"], ["publish"]):
        run(folder, *arguments)
    current = ReleaseStore(folder / ".polyrank" / "releases").current()
    assert current is not None
    return Made(folder, current, read(folder / ".polyrank" / "reports" / current / "report.json"))


@pytest.fixture(scope="session")
def finance(tmp_path_factory: pytest.TempPathFactory, encoder_lines: dict[str, Any], run: Callable[..., str]) -> Made:
    folder = tmp_path_factory.mktemp("texts") / "finance"
    gate = {"texts": {"intent": {"accuracy": 0.5}, "size": {"mae": 3}}}
    return make(write(folder, {**encoder_lines, "steps": 120}, ON_TEXT, items=False, gate=gate), run)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, encoder_lines: dict[str, Any], run: Callable[..., str]) -> Made:
    folder = tmp_path_factory.mktemp("texts") / "desk"
    gate = {"min_index_recall": 0.5, "texts": {"answer": {"recall_at_1": 0.3, "mrr": 0.3}}}
    return make(write(folder, {**encoder_lines, "steps": 120}, [*ON_TEXT[:1], ANSWER], items=True, gate=gate), run)


def served(made: Made) -> TestClient:
    return TestClient(create_combined_app(service_parts(Workspace.load(made.folder), Settings())))


def test_texts_alone_make_a_release_of_an_encoder(finance: Made) -> None:
    release = finance.folder / ".polyrank" / "releases" / finance.release_id
    assert sorted(path.name for path in release.iterdir()) == [
        "encoder", "manifest.json", "tasks.json", "warmup.json", "workspace.yaml",
    ]  # fmt: skip
    # Nothing was computed for what there isn't.
    steps = {path.name.rpartition("-")[0] for path in (finance.folder / ".polyrank" / "runs").iterdir()}
    assert steps == {"tables", "encoder"}
    assert not (finance.folder / ".polyrank" / "feast").exists()
    assert not (finance.folder / ".polyrank" / "events").exists() or True


def test_tasks_on_texts_are_measured_on_the_test_split(finance: Made) -> None:
    report = finance.report
    assert not report.is_dated
    assert {row.task: (row.kind, row.n) for row in report.texts} == {
        "intent": ("multiclass", 20), "drink": ("binary", 20), "size": ("regression", 20),
    }  # fmt: skip
    intent = report.texts[0]
    assert intent.rows == "texts of split test"
    accuracy = intent.figures[0]
    # A word of each text is its label: it is learnt; a constant is right for one thing of four.
    assert accuracy.figure.value > 0.9
    assert accuracy.constant == 0.25
    assert intent.confusion is not None
    assert sum(map(sum, intent.confusion.counts)) == 20
    assert (report.rankings, report.tasks, report.index, report.time_plan, report.examples) == ((), (), (), (), ())
    assert report.data is not None
    assert (report.data.texts, report.data.items, report.data.users) == (60, 0, 0)
