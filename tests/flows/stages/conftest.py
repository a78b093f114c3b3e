"""A tiny random BERT that can fill in words, an encoder trained from it, and workspaces of a small shop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import structlog
import yaml
from prefect.testing.utilities import prefect_test_harness
from transformers import BertForMaskedLM
from typer.testing import CliRunner

from flows.build import Build
from flows.cli import app
from flows.stages.train import train_encoder
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask, TextData, TrainingData
from tests.tiny_transformers import word_tokenizer, words_and_digits, write_bert

WORDS = ("tea", "coffee", "bread", "soap", "is", "likes", "user", "gift", "number", ".", *"0123456789")


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Train in one thread."""


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two layers, a masked-token head, and a tokenizer of a few words and single digits."""
    tokenizer = word_tokenizer(WORDS, split=words_and_digits())
    return write_bert(tmp_path_factory.mktemp("bert"), tokenizer, architecture=BertForMaskedLM)


THINGS = ("tea", "coffee", "bread", "soap")
TOPIC = EncoderTask(name="topic", kind="multiclass", on="text", classes=THINGS)
# Thirty of the texts without a label are about soap, four each about the other things.
UNLABELLED = (
    *(f"{thing} {n}" for thing in THINGS[:3] for n in range(4, 8)),
    *(f"soap {word} {n}" for word in ("gift", "number", "is") for n in range(10)),
)
FEW = {"warm_up": {"steps": 10, "pairs": 8, "learning_rate": 1e-3}, "class_names": {}, "pseudo": {"threshold": 0.5}}


def _topics(numbers: range) -> TextData:
    """Each thing with each number."""
    return TextData(
        texts=[f"{thing} {n}" for thing in THINGS for n in numbers],
        labels={"topic": np.repeat(np.arange(4, dtype=np.float32), len(numbers))},
    )


@pytest.fixture(scope="session")
def topics() -> TrainingData:
    """Two labelled texts of each thing, two held out, and some without a label."""
    return TrainingData(
        tasks=(TOPIC,), texts=_topics(range(2)), validation_texts=_topics(range(2, 4)), unlabelled=UNLABELLED
    )


@pytest.fixture(scope="session")
def encoder_lines(tiny_bert: Path) -> dict[str, Any]:
    """The encoder section of a workspace: a few cheap steps."""
    return {
        "backbone": {"name": str(tiny_bert), "max_tokens": {"user": 8, "item": 8, "text": 8}},
        "batch": {"users": 4, "negatives": 4, "texts": 16}, "warmup": {"steps": 0}, "train_layers": None, "steps": 40,
        "validate_every": 20, "learning_rate": 3e-3, "head_learning_rate": 1e-2, "rank": 4, "hidden": 0,
        "validation_batches": 2, "baseline_batches": 24, "patience": 9, "task_patience": 9,
    }  # fmt: skip


@pytest.fixture(scope="session")
def old(topics: TrainingData, encoder_lines: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported encoder that few labels have taught the topics of texts; an export takes seconds."""
    folder = tmp_path_factory.mktemp("old") / "encoder"
    config = EncoderConfig.model_validate({**encoder_lines, "few_labels": {"topic": FEW}})
    train_encoder(topics, config, folder)
    return folder


NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def shop(tmp_path: Path, encoder_lines: dict[str, Any]) -> Callable[..., Build]:
    """Write the workspace of a shop, whose four users buy something every other day, and stand at `NOW`."""

    def build(name: str, texts: dict[str, list[Any]], tasks: list[dict[str, Any]], **encoder: Any) -> Build:
        folder = tmp_path / name
        folder.mkdir()
        file = {
            "name": name,
            "source": {
                "type": "tables",
                **{table: {"type": "parquet", "path": f"{table}.parquet"} for table in ("items", "events", "texts")},
            },
            "time": {"horizon_days": 7, "encoder_folds": 1, "minimum_history_days": 7},
            "features": {"category_column": None},
            "eligible": {"min_users": 1},
            "texts": {"item": "{title}", "title": "{title}", "user": "user likes"},
            "tasks": tasks,
            "encoder": {**encoder_lines, **encoder},
        }
        (folder / "polyrank.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
        pl.DataFrame({"item_id": list("abcd"), "title": list(THINGS)}).write_parquet(folder / "items.parquet")
        days = range(1, 70, 2)
        events = [(f"u{n}", "abcd"[(n + day // 2) % 4], NOW - timedelta(days=day)) for n in range(4) for day in days]
        columns = dict(zip(("user_id", "item_id", "timestamp"), map(list, zip(*events, strict=True)), strict=True))
        pl.DataFrame({**columns, "event": ["purchase"] * len(events)}).write_parquet(folder / "events.parquet")
        ids = [str(n) for n in range(len(texts["text"]))]
        pl.DataFrame({"text_id": ids, **texts}, strict=False).write_parquet(folder / "texts.parquet")
        return Build.start(Workspace.load(folder), Settings(), NOW)

    return build


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[..., str]]:
    """Type a command in a folder; a module's commands share one Prefect server, which takes seconds to start."""

    def typed(folder: Path, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, [*arguments, "-w", str(folder)])
        # The command's log went to a stream that the runner has closed.
        structlog.reset_defaults()
        assert done.exit_code == code, f"{arguments}: {done.output}\n{done.exception!r}"
        return done.output

    with prefect_test_harness(server_startup_timeout=120):
        yield typed
