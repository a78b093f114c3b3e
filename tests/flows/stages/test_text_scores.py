"""Tasks on texts, measured by heads whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.schema import CATEGORY, ITEM_ID, ITEM_STATS
from features.tables import Tables
from features.tasks import TaskError, TaskSpec
from flows.report import TextScores
from flows.stages.text_scores import confusions, text_scores
from flows.stages.text_tasks import HeldOutTexts
from ranking.predictor import Predictor
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskEntry
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.lazy_encoder import LazyEncoder
from retrieval.snapshot import ELIGIBLE, TITLE, ItemSnapshot

T = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ITEMS = pl.DataFrame({ITEM_ID: ["x", "y", "twin", "draft"]})
# The last is not eligible; two of the others are alike.
VECTORS = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], np.float32)


class Axes:
    """Texts that begin with x and y as the two unit vectors."""

    def encode(self, texts: Sequence[str], kind: str) -> np.ndarray:
        assert kind == "text"
        return np.array([[1, 0] if text.startswith("x") else [0, 1] for text in texts], np.float32)


def spec(name: str, kind: str, **parts: Any) -> TaskSpec:
    return TaskSpec.model_validate(
        {"name": name, "kind": kind, "on": "text", "label": {"type": "column", "column": name}, **parts}
    )


TASKS = (
    spec("class", "multiclass"),
    spec("tone", "regression"),
    spec("urgent", "binary"),
    spec("answer", "contrastive"),
)


@pytest.fixture
def predictor() -> Predictor:
    """The first dimension says class a, a tone of 3 and that it's urgent (.75); the second b, -1 and .25."""
    entries = [
        TaskEntry(name="class", kind="multiclass", on="text", classes=("a", "b")),
        TaskEntry(name="tone", kind="regression", on="text"),
        TaskEntry(name="urgent", kind="binary", on="text"),
        TaskEntry(name="answer", kind="contrastive", on="text"),
    ]
    log3, none = np.log(np.float32(3)), np.zeros(1, np.float32)
    arrays = {
        "class": {"outer": np.array([[log3, 0], [0, log3]], np.float32), "bias": np.zeros(2, np.float32)},
        "tone": {"outer": np.array([[3, -1]], np.float32), "bias": none},
        "urgent": {"outer": np.array([[log3, -log3]], np.float32), "bias": none},
        "answer": {"scale": np.ones(1, np.float32)},
    }
    frame = ITEMS.with_columns(
        *(pl.lit(None, pl.Float32).alias(name) for name in ITEM_STATS),
        pl.lit(-1).alias(CATEGORY),
        pl.Series(ELIGIBLE, [True, True, True, False]),
        pl.col(ITEM_ID).alias(TITLE),
    )
    heads, texts = Heads({entry.name: entry for entry in entries}, arrays), LazyEncoder(Axes)
    retriever = Retriever(
        snapshot=ItemSnapshot.from_frame(frame, as_of=T, attributes=[]), item_vectors=VECTORS,
        index=VectorIndex.build(VECTORS, np.arange(3, dtype=np.int32), IndexConfig()),
        user_ids=[], user_vectors=VECTORS[:0], collaborative=None, texts=texts,
    )  # fmt: skip
    return Predictor(tasks=TASKS, heads=heads, texts=texts, retriever=retriever)


TRAIN = Tables(
    items=ITEMS,
    texts=pl.DataFrame(
        {
            "text_id": ["1", "2", "3", "4"], "text": ["x", "x", "y", "y"], "class": ["a", "b", "b", None],
            "tone": [0.0, 1, 2, None], "urgent": [1, 0, 0, None], "answer": ["y", "y", "x", None],
        }
    ),
)  # fmt: skip
HELD: dict[str, list[Any]] = {
    "text": ["x1", "x2", "y1", "y2", "y3"],
    "class": ["a", "b", "b", "new", None],
    "tone": [3.0, 1, -1, None, None],
    "urgent": [1, 1, 0, 0, None],
    "answer": ["x", "y", "y", "draft", None],
    "split": ["test"] * 5,
}


def tables(**changes: Any) -> Tables:
    columns = {name: values for name, values in {**HELD, **changes}.items() if values is not None}
    ids = [f"h{row}" for row in range(len(HELD["text"]))]
    return replace(TRAIN, texts=pl.DataFrame({"text_id": ids, **columns}, strict=False))


def measure(predictor: Predictor, **changes: Any) -> dict[str, TextScores]:
    held = HeldOutTexts.of(tables(**changes), T, predictor)
    assert held is not None
    return {row.task: row for row in text_scores(predictor, held, TRAIN)}


def numbers(scores: TextScores) -> dict[str, tuple[float, float | None]]:
    return {row.metric: (pytest.approx(row.figure.value), row.constant) for row in scores.figures}


def test_every_kind_by_hand(predictor: Predictor) -> None:
    found = measure(predictor)
    assert {name: row.n for name, row in found.items()} == {"class": 4, "tone": 3, "urgent": 4, "answer": 4}
    assert found["class"].rows == "texts of split test"
    # Said a, a, b, b of a, b, b and a class that the model doesn't have; always b is right twice.
    assert numbers(found["class"])["accuracy"] == (0.5, 0.5)
    # Numbers said are 3, 3, -1 of 3, 1, -1; the mean of the training labels is 1, whose errors are 2, 0, 2.
    assert numbers(found["tone"])["mae"] == (2 / 3, pytest.approx(4 / 3))
    assert numbers(found["tone"])["rmse"] == ((4 / 3) ** 0.5, pytest.approx((8 / 3) ** 0.5))
    # .75, .75, .25, .25 of 1, 1, 0, 0; the training rate is 1 / 3.
    assert numbers(found["urgent"])["auc"] == (1.0, 0.5)
    assert numbers(found["urgent"])["calibration"] == (1.0, pytest.approx(2 / 3))
    assert [(row.n, row.observed) for row in found["urgent"].reliability] == [(1, 0), (1, 0), (1, 1), (1, 1)]


def test_answers_are_ranked_among_all_eligible_items(predictor: Predictor) -> None:
    """First: x before the others. Then y for x: ranks 2 and 3, shared with its twin. y for y: 1 and 2. draft: never."""
    found = numbers(measure(predictor)["answer"])
    # Ranks 1, 2.5, 1.5, none; the constant order is y, x, twin: 2, 1, 1, none.
    assert found["recall_at_1"] == (0.25, 0.5)
    assert found["recall_at_5"] == (0.75, 0.75)
    assert found["mrr"] == ((1 + 1 / 2.5 + 1 / 1.5) / 4, pytest.approx((1 / 2 + 1 + 1) / 4))


def test_a_task_without_a_label_among_the_held_out_is_left_out(predictor: Predictor) -> None:
    assert set(measure(predictor, tone=[None] * 5)) == {"class", "urgent", "answer"}


def test_a_label_that_a_task_cannot_have_is_named(predictor: Predictor) -> None:
    with pytest.raises(TaskError, match=r"task urgent: texts\.urgent: expected 0 or 1, found 1 row with others"):
        measure(predictor, urgent=[7, 1, 0, 0, None])
    with pytest.raises(TaskError, match=r"task answer: texts\.answer: expected one of the 4 ids of the items table"):
        measure(predictor, answer=["nothing", "y", "y", "x", None])


def test_without_a_split_texts_from_the_cut_on_are_measured(predictor: Predictor) -> None:
    dated = [T - DAY, T, T + DAY, T + DAY, T + DAY]
    held = HeldOutTexts.of(tables(split=None, timestamp=dated), T, predictor)
    assert held is not None
    assert held.tables.texts["text"].to_list() == ["x2", "y1", "y2", "y3"]
    assert held.rows == "texts from 2024-01-01 00:00 on"
    # Where a split says test, it alone does.
    chosen = HeldOutTexts.of(tables(split=["test", None, None, None, None], timestamp=dated), T, predictor)
    assert chosen is not None
    assert chosen.tables.texts["text"].to_list() == ["x1"]
    assert HeldOutTexts.of(tables(split=None), T, predictor) is None
    assert HeldOutTexts.of(tables(split=["train"] * 5, timestamp=[T - DAY] * 5), T, predictor) is None


def test_few_classes_are_drawn_and_of_many_the_worst_are_listed() -> None:
    drawn, worst = confusions(["a", "a", "b", "c"], np.array([0, 1, 1, 0]), ("a", "b"))
    assert drawn is not None
    # c is no class of the model: a row of its own, and nothing is ever taken for it.
    assert drawn.classes == ("a", "b", "c")
    assert drawn.counts == ((1, 1, 0), (0, 1, 0), (1, 0, 0))
    assert [(row.label, row.predicted, row.n, row.share) for row in worst] == [("a", "b", 1, 0.5), ("c", "a", 1, 1.0)]
    many = [f"c{row:02d}" for row in range(21)]
    drawn, worst = confusions(many * 2, np.array([0] * 42), many)
    assert drawn is None
    assert len(worst) == 10
    assert worst[0].n == 2
