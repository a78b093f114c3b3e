"""Replies to held-out texts, of heads whose probabilities, and items whose cosines, are written into the vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.schema import CATEGORY, ITEM_ID, ITEM_STATS
from features.tables import Tables
from features.tasks import TaskError, TaskSpec
from features.units import unit_spans
from flows.report import KindScores, ReplyScores, ThresholdScores
from flows.stages.reply_scores import reply_scores
from flows.stages.text_tasks import HeldOutTexts
from ranking.predictor import Predictor
from ranking.reply.config import Replies, Thresholds
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskEntry
from retrieval.encoder.runtime import ReadTexts
from retrieval.encoder.units import TextTags, TextUnits
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.lazy_encoder import LazyEncoder
from retrieval.snapshot import ELIGIBLE, TITLE, ItemSnapshot

ITEMS = pl.DataFrame({ITEM_ID: ["x", "y"]})
# Of a text's six numbers the first three are logarithms of the intents' probabilities, the fourth is the logit of the
# scope, the last two are the cosines of x and y.
A, B, C, SCOPE, X, Y = np.eye(6, dtype=np.float32)
KINDS = {"intent": "multiclass", "in_scope": "binary", "answer": "contrastive", "slots": "token_tags"}
REPLIES = Replies(
    intent="intent", in_scope="in_scope", answers="answer", slots="slots", given=("day",), passages=1,
    thresholds=Thresholds(intent=0.8, in_scope=0.5, similarity=0.5),
    templates={"a": "{slots} comes on {day}.", "b": "Hello."},
)  # fmt: skip
# Text; probabilities of a, b and c; of the scope; cosines of x and y; labels of intent, answer and scope.
ROWS: list[tuple[str, tuple[float, float, float], float, tuple[float, float], str | None, str | None, int | None]] = [
    ("Tea", (0.92, 0.04, 0.04), 0.9, (0.0, 0.0), "a", None, 1),  # its template
    ("tea", (0.92, 0.04, 0.04), 0.9, (0.35, 0.0), "a", None, None),  # lacks the slot: handed over
    ("b", (0.05, 0.85, 0.1), 0.9, (0.0, 0.0), "a", None, 1),  # the wrong template
    ("b", (0.1, 0.65, 0.25), 0.9, (0.1, 0.0), "b", None, 1),  # unsure: handed over
    ("c", (0.05, 0.05, 0.9), 0.9, (0.8, 0.3), None, "x", 1),  # its passage
    ("c", (0.05, 0.05, 0.9), 0.9, (0.2, 0.65), None, "x", 1),  # the wrong passage
    ("c", (0.05, 0.05, 0.9), 0.9, (0.45, 0.0), None, "x", None),  # nothing near enough: handed over
    ("b", (0.01, 0.97, 0.02), 0.2, (0.0, 0.0), None, None, 0),  # out of scope, and handed over
    ("b", (0.01, 0.97, 0.02), 0.9, (0.0, 0.0), None, None, 0),  # out of scope, and a template all the same
    ("b", (0.005, 0.99, 0.005), 0.9, (0.0, 0.0), None, None, None),  # a template that no label judges
    ("c", (0.05, 0.05, 0.9), 0.9, (0.0, 0.0), "c", None, 1),  # handed over: c has no template, so nothing is missed
    ("c", (0.05, 0.05, 0.9), 0.9, (0.1, 0.55), None, None, 0),  # out of scope, and a passage all the same
]


class Capitals:
    """Tags words, B where they start with a capital; nobody asks it for vectors, which `held` has."""

    def read(self, texts: Sequence[str], tasks: Sequence[str]) -> ReadTexts:
        def tags(text: str) -> TextTags:
            spans = unit_spans(text, "word")
            rows = [(0.1, 0.9) if text[start].isupper() else (0.9, 0.1) for start, _ in spans]
            return TextTags(units=TextUnits.of(text, "word", spans), probabilities=np.array(rows, np.float32))

        return ReadTexts(
            vectors=np.zeros((len(texts), 6), np.float32), tags={task: [tags(text) for text in texts] for task in tasks}
        )


@pytest.fixture
def predictor() -> Predictor:
    frame = ITEMS.with_columns(
        *(pl.lit(None, pl.Float32).alias(name) for name in ITEM_STATS),
        pl.lit(-1).alias(CATEGORY), pl.lit(value=True).alias(ELIGIBLE), pl.col(ITEM_ID).alias(TITLE),
    )  # fmt: skip
    vectors = np.stack([X, Y])
    arrays = {
        "intent": {"outer": np.stack([A, B, C]), "bias": np.zeros(3, np.float32)},
        "in_scope": {"outer": SCOPE[None], "bias": np.zeros(1, np.float32)},
        "answer": {"scale": np.ones(1, np.float32)},
        "slots": {},
    }
    classes = {"intent": ("a", "b", "c"), "slots": ("O", "B")}
    entries: list[Any] = [{"name": name, "kind": kind, "on": "text"} for name, kind in KINDS.items()]
    tasks = {own["name"]: TaskEntry(**own, classes=classes.get(own["name"], ())) for own in entries}
    texts = LazyEncoder(Capitals)  # type: ignore[arg-type]
    retriever = Retriever(
        snapshot=ItemSnapshot.from_frame(frame, as_of=datetime(2024, 1, 1, tzinfo=UTC), attributes=[]),
        item_vectors=vectors, index=VectorIndex.build(vectors, np.arange(2, dtype=np.int32), IndexConfig()),
        user_ids=[], user_vectors=vectors[:0], collaborative=None, texts=texts,
    )  # fmt: skip
    specs = [TaskSpec(**own, label={"type": "column", "column": own["name"]}) for own in entries]
    return Predictor(tasks=tuple(specs), heads=Heads(tasks, arrays), texts=texts, retriever=retriever)


def held() -> HeldOutTexts:
    texts, intents, scopes, cosines, *labels = zip(*ROWS, strict=True)
    scope = np.array(scopes)
    frame = pl.DataFrame(
        {
            "text_id": [str(row) for row in range(len(ROWS))], "text": texts,
            **dict(zip(("intent", "answer", "in_scope"), labels, strict=True)),
        }
    )  # fmt: skip
    vectors = np.column_stack([np.log(intents), np.log(scope / (1 - scope)), cosines]).astype(np.float32)
    return HeldOutTexts(tables=Tables(items=ITEMS, texts=frame), rows="texts of split test", vectors=vectors)


def counts(scores: KindScores) -> tuple[int, tuple[float, int] | None, tuple[float, int] | None]:
    """How many got it, and (right, of how many) of precision and recall."""
    precision, recall = (
        None if own is None else (pytest.approx(own.value * own.n), own.n) for own in (scores.precision, scores.recall)
    )
    return scores.texts, precision, recall


def by_kind(found: ReplyScores) -> dict[str, Any]:
    return {own.kind: counts(own) for own in found.kinds}


def by_threshold(rows: Sequence[ThresholdScores]) -> dict[float, Any]:
    return {row.threshold: counts(row.scores)[:2] for row in rows}


def test_each_kind_by_hand(predictor: Predictor) -> None:
    found = reply_scores(predictor, REPLIES, held())
    assert (found.rows, found.n) == ("texts of split test", 12)
    assert by_kind(found) == {
        # Rows 0, 2, 8 and 9, all but the last judged, the first right. Due to rows 0 to 3.
        "template": (4, (1, 3), (1, 4)),
        # Rows 4, 5 and 11, the first right. Due to rows 4 to 6.
        "passages": (3, (1, 3), (1, 3)),
        # Rows 1, 3, 6, 7 and 10, all but the last judged, row 7 right. Due to rows 7, 8 and 11.
        "hand_over": (5, (1, 4), (1, 3)),
    }
    # Rows 1, 3 and 6; row 1.
    assert (found.missed, found.lacking) == (3, 1)


def test_intervals_are_wilsons(predictor: Predictor) -> None:
    share = reply_scores(predictor, REPLIES, held()).kinds[2].precision
    assert share is not None
    # 1 of 4 with z^2 = 3.8416: centre (.25 + 3.8416 / 8) / (1 + 3.8416 / 4) = .37248, half width
    # 1.96 sqrt(.25 x .75 / 4 + 3.8416 / 64) / 1.9604 = .32689.
    assert (share.low, share.high) == (pytest.approx(0.04559, abs=1e-5), pytest.approx(0.69936, abs=1e-5))


def test_thresholds_trade_replies_for_right_ones(predictor: Predictor) -> None:
    found = reply_scores(predictor, REPLIES, held())
    # From .6 down row 3 gets its template too; row 2 has .85, row 0 .92, row 8 .97, and row 9, never judged, .99.
    few, own = (5, (2, 4)), (4, (1, 3))
    assert by_threshold(found.intent) == {0.5: few, 0.6: few, 0.7: own, 0.8: own, 0.9: (3, (1, 2)), 0.95: (2, (0, 1))}
    # .8, .65 and .55 of rows 4, 5 and 11; .45 of row 6; .35 of row 1, which no label judges.
    expected = {0.3: (5, (2, 4)), 0.4: (4, (2, 4)), 0.5: (3, (1, 3)), 0.6: (2, (1, 2)), 0.7: (1, (1, 1))}
    assert by_threshold(found.similarity) == expected
    assert [row.threshold for row in (*found.intent, *found.similarity) if row.served] == [0.8, 0.5]


def test_the_releases_own_thresholds_stand_among_the_others(predictor: Predictor) -> None:
    own = REPLIES.model_copy(update={"thresholds": Thresholds(intent=0.99, in_scope=0.5, similarity=0.45)})
    found = reply_scores(predictor, own, held())
    assert [row.threshold for row in found.intent] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert [row.threshold for row in found.similarity if row.served] == [0.45]
    served = next(row for row in found.similarity if row.served)
    assert served.scores == next(row for row in found.kinds if row.kind == "passages")


def test_without_labels_of_the_scope_no_hand_over_is_said_to_be_right_or_wrong(predictor: Predictor) -> None:
    found = reply_scores(predictor, REPLIES.model_copy(update={"in_scope": None}), held())
    # Row 7 gets a template. What is missed is known nevertheless.
    assert by_kind(found)["hand_over"] == (4, None, None)
    assert by_kind(found)["template"] == (5, (1, 2), (1, 4))
    assert found.missed == 3


def test_only_what_a_release_can_send_is_shown(predictor: Predictor) -> None:
    none: dict[str, Any] = {"intent": None, "templates": {}, "slots": None, "given": ()}
    found = reply_scores(predictor, REPLIES.model_copy(update=none), held())
    assert ([own.kind for own in found.kinds], found.intent) == (["passages", "hand_over"], ())
    found = reply_scores(replace(predictor, retriever=None), REPLIES.model_copy(update={"answers": None}), held())
    assert ([own.kind for own in found.kinds], found.similarity) == (["template", "hand_over"], ())


def test_a_scope_that_is_neither_0_nor_1_is_named(predictor: Predictor) -> None:
    sound = held()
    texts = sound.tables.texts.with_columns(pl.lit(7).alias("in_scope"))
    odd = replace(sound, tables=replace(sound.tables, texts=texts))
    with pytest.raises(TaskError, match=r"task in_scope: texts\.in_scope: expected 0 or 1, found 12 rows with others"):
        reply_scores(predictor, REPLIES, odd)
