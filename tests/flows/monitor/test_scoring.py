"""Texts read by real heads over vectors that the texts spell out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from features.schema import Float32
from flows.monitor.alert import Series
from flows.monitor.config import MonitorConfig
from flows.monitor.scoring import Scored, Scorer, score_new
from flows.monitor.store import MonitorStore
from infra.errors import InvalidInputError
from ranking.predictor import Predictor
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskEntry
from retrieval.encoder.runtime import ReadTexts
from retrieval.lazy_encoder import LazyEncoder
from tests.flows.monitor.samples import HOUR, T

TONES = ("bad", "good")


class Spelt:
    """An encoder whose vector of "0.6 0.8" is (.6, .8)."""

    def encode(self, texts: Sequence[str], kind: Literal["text"]) -> Float32:
        assert kind == "text"
        return np.array([[float(part) for part in text.split()] for text in texts], np.float32)

    def read(self, texts: Sequence[str], tasks: Sequence[str]) -> ReadTexts:
        assert not tasks
        return ReadTexts(vectors=self.encode(texts, "text"), tags={})


def head(*rows: tuple[float, float]) -> dict[str, Float32]:
    return {"outer": np.array(rows, np.float32), "bias": np.zeros(len(rows), np.float32)}


def scorer(release: str = "r1", **lines: Any) -> Scorer:
    """Tone and topic are two classes of the two numbers; feeling is the first number."""
    tasks = {
        "tone": TaskEntry(name="tone", kind="multiclass", on="text", classes=TONES),
        "topic": TaskEntry(name="topic", kind="multiclass", on="text", classes=("oil", "banks", "food")),
        "feeling": TaskEntry(name="feeling", kind="regression", on="text"),
    }
    arrays = {
        "tone": head((10, 0), (0, 10)), "topic": head((0, 1), (1, 0), (-1, -1)), "feeling": head((1, 0)),
    }  # fmt: skip
    predictor = Predictor(tasks=(), heads=Heads(tasks, arrays), texts=LazyEncoder(Spelt))
    given = lines or {"task": "tone", "negative": ("bad",), "by": ("topic", "firm")}
    return Scorer(release_id=release, predictor=predictor, config=MonitorConfig.model_validate(given))


def table(**changes: Any) -> pl.DataFrame:
    columns = {
        "text_id": ["a", "b", "c", "d"],
        "text": ["1 0", "0 1", "0.9 0.1", "0.2 0.8"],
        "timestamp": [T, T + HOUR, None, T + 5 * HOUR],
        "firm": ["Acme", None, "Acme", "Bolt"],
    }
    schema = {"timestamp": pl.Datetime("us", "UTC")}
    return pl.DataFrame({**columns, **changes}, schema_overrides=schema)


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore(tmp_path / "monitor.sqlite")


def test_a_text_is_of_the_series_of_its_topic_and_its_column(store: MonitorStore) -> None:
    assert score_new(store, table(), scorer(), since=None, until=T + 5 * HOUR) == Scored(
        new=2, rescored=0, late=0, undated=1
    )
    counts = {(own.series, own.bucket - int(T.timestamp()) // 3600): (own.texts, own.negative) for own in _all(store)}
    assert counts == {
        (Series("", ""), 0): (1, 1), (Series("", ""), 1): (1, 0), (Series("firm", "Acme"), 0): (1, 1),
        (Series("topic", "banks"), 0): (1, 1), (Series("topic", "oil"), 1): (1, 0),
    }  # fmt: skip
    (worst,) = store.worst(Series("", ""), T, T + HOUR, lowest=False, limit=5)
    # Logits 10 and 0: 1 / (1 + e^-10).
    assert (worst.text_id, worst.score) == ("a", pytest.approx(1 / (1 + np.exp(-10))))


def _all(store: MonitorStore) -> list[Any]:
    return store.counts(T, T + 24 * HOUR, 1)


def test_known_texts_are_not_read_again(store: MonitorStore) -> None:
    first = table().head(2)
    assert score_new(store, first, scorer(), since=None, until=T + 6 * HOUR).new == 2
    before = _all(store)
    assert score_new(store, first, scorer(), since=None, until=T + 6 * HOUR) == Scored(
        new=0, rescored=0, late=0, undated=0
    )
    assert _all(store) == before
    assert score_new(store, table(), scorer(), since=None, until=T + 6 * HOUR).new == 1


def test_a_run_killed_while_it_reads_goes_on_where_it_was(store: MonitorStore) -> None:
    rows = 1500
    many = table(
        text_id=[f"t{row}" for row in range(rows)], text=["1 0"] * rows, timestamp=[T] * rows, firm=["Acme"] * rows
    )

    class Failing(Spelt):
        blocks = 0

        def encode(self, texts: Sequence[str], kind: Literal["text"]) -> Float32:
            self.blocks += 1
            if self.blocks == 2:
                raise KeyboardInterrupt
            return super().encode(texts, kind)

    failing = Failing()
    sound = scorer()
    killed = replace(sound, predictor=replace(sound.predictor, texts=LazyEncoder(lambda: failing)))
    with pytest.raises(KeyboardInterrupt):
        score_new(store, many, killed, since=None, until=T + HOUR)
    assert len(store.scored()) == 1024
    assert score_new(store, many, sound, since=None, until=T + HOUR).new == rows - 1024
    assert {own.texts for own in _all(store)} == {rows}


def test_another_release_scores_the_history_anew(store: MonitorStore) -> None:
    score_new(store, table(), scorer(), since=None, until=T + 6 * HOUR)
    other = scorer("r2", task="feeling", above=0.1)
    assert score_new(store, table(), other, since=T + HOUR, until=T + 6 * HOUR).rescored == 2
    # a, too old for it, keeps its score; b has 0, d .2.
    every = [(own.texts, own.negative) for own in _all(store) if own.series == ("", "")]
    assert every == [(1, 1), (1, 0), (1, 1)]
    # Its groups went with the old rule.
    assert {own.series.by for own in _all(store) if own.bucket > int(T.timestamp()) // 3600} == {""}


def test_below_is_strict_and_its_worst_are_the_lowest(store: MonitorStore) -> None:
    score_new(store, table(), scorer(task="feeling", below=0.2), since=None, until=T + 6 * HOUR)
    found = store.worst(Series("", ""), T, T + 6 * HOUR, lowest=True, limit=5)
    assert [(own.text_id, own.score) for own in found] == [("b", 0.0)]


def test_a_text_of_a_judged_bucket_is_late(store: MonitorStore) -> None:
    store.decide([], [], T + HOUR, post_since=T, keep=T - HOUR)
    assert score_new(store, table(), scorer(), since=T - HOUR, until=T + 6 * HOUR) == Scored(
        new=3, rescored=0, late=1, undated=1
    )


@pytest.mark.parametrize(
    ("texts", "lines", "message"),
    [
        (table().drop("timestamp"), {}, "table texts: expected a column timestamp, found none"),
        (table().drop("firm"), {}, "by: unknown task or column of the texts 'firm'"),
        (table(), {"task": "tone", "negative": ["awful"]}, "negative: unknown class 'awful'"),
    ],
)
def test_what_the_texts_or_the_release_lack_is_named(
    store: MonitorStore, texts: pl.DataFrame, lines: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        score_new(store, texts, scorer(**lines), since=None, until=T + 6 * HOUR)
    assert store.scored() == {}
