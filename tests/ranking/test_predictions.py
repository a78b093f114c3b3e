"""Predictions of single users, items and texts: which task answers of what, and by which numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.schema import UserFeatures
from features.tasks import TaskSpec
from ranking.contract import ClassPrediction, Prediction, PredictResponse, TagsPrediction, TaskAnswer
from ranking.predictions import TaskUnavailableError, by_row, of_items, of_texts, of_users, wanted_tasks
from ranking.predictor import Predictor
from ranking.ranker import Ranker
from ranking.rows import CutData
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskEntry
from retrieval.encoder.runtime import ReadTexts
from retrieval.lazy_encoder import EncoderUnavailableError, LazyEncoder

TEXTS = ["where is my order", "hello"]


def test_tasks_by_row(predictor: Predictor) -> None:
    """Answers to texts are no prediction of a row; what is blended stands among the heads."""
    assert predictor.row_tasks("user") == ("churn", "spend", "club")
    assert predictor.row_tasks("item") == ("demand",)
    assert predictor.row_tasks("text") == ("topic", "urgent", "slots")
    assert predictor.user_tasks == ("churn",)


def test_a_head_of_a_task_that_the_release_no_longer_declares_is_not_served(predictor: Predictor) -> None:
    fewer = replace(predictor, tasks=tuple(task for task in predictor.tasks if task.name != "topic"))
    assert fewer.row_tasks("text") == ("urgent", "slots")


def test_wanted_tasks_name_what_there_is(predictor: Predictor) -> None:
    assert wanted_tasks(predictor, "r", "text", None) == ("topic", "urgent", "slots")
    assert wanted_tasks(predictor, "r", "text", ["urgent"]) == ("urgent",)
    with pytest.raises(TaskUnavailableError, match=r"release r: unknown text task 'topics'; did you mean 'topic'"):
        wanted_tasks(predictor, "r", "text", ["topics"])
    with pytest.raises(TaskUnavailableError, match=r"unknown text task 'answer' .*\(known: slots, topic, urgent\)"):
        wanted_tasks(predictor, "r", "text", ["topic", "answer"])


def test_no_task_at_all_names_those_of_other_rows(predictor: Predictor) -> None:
    without = replace(predictor, tasks=tuple(task for task in predictor.tasks if task.on != "item"))
    expected = (
        r"no task on items to predict: found churn, spend, club on users \(user_ids\); none on items \(item_ids\); "
        r"topic, urgent, slots on texts \(texts\); purchase, repurchase, coupon_response on pairs"
    )
    with pytest.raises(TaskUnavailableError, match=expected):
        wanted_tasks(without, "r", "item", None)


def test_texts_take_one_pass_whatever_the_tasks(reading_predictor: Predictor, text_encoder: Any) -> None:
    before = text_encoder.passes
    found = of_texts(reading_predictor, TEXTS, ["topic", "urgent", "slots"])
    assert text_encoder.passes == before + 1
    vectors = text_encoder.encode(TEXTS, "text")
    assert reading_predictor.heads is not None
    assert found["urgent"] == reading_predictor.heads.row_predictions("urgent", vectors).tolist()
    topic = reading_predictor.heads.row_predictions("topic", vectors)
    names = reading_predictor.heads.tasks["topic"].classes
    for answer, row in zip(found["topic"], topic, strict=True):
        assert isinstance(answer, ClassPrediction)
        assert answer.label == names[int(row.argmax())]
        # The least probable of the six is left out.
        assert set(answer.probabilities) == set(names) - {names[int(row.argmin())]}
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
    order, hello = found["slots"]
    assert isinstance(order, TagsPrediction)
    assert [one.tag for one in order.tags] == ["O", "O", "O", None]
    assert isinstance(hello, TagsPrediction)
    assert [(one.text, one.tag, one.probability) for one in hello.tags] == [("hello", "O", 0.75)]


def heads_by_hand() -> Heads:
    """Two dimensions, of which the first says a and the second b; a tone of 3 x - y + 1."""
    entries = {
        "class": TaskEntry(name="class", kind="multiclass", on="text", classes=("a", "b")),
        "tone": TaskEntry(name="tone", kind="regression", on="text"),
    }
    arrays = {
        "class": {"outer": np.log(np.array([[3, 1], [1, 3]], np.float32)), "bias": np.zeros(2, np.float32)},
        "tone": {"outer": np.array([[3, -1]], np.float32), "bias": np.ones(1, np.float32)},
    }
    return Heads(entries, arrays)


class Axes:
    """Texts "x" and "y" as the two unit vectors."""

    def encode(self, texts: list[str], kind: str) -> np.ndarray:
        assert kind == "text"
        return np.array([[1, 0] if text == "x" else [0, 1] for text in texts], np.float32)

    def read(self, texts: list[str], tasks: list[str]) -> ReadTexts:
        assert tasks == []
        return ReadTexts(vectors=self.encode(texts, "text"))


def test_answers_by_hand() -> None:
    column = {"type": "column", "column": "c"}
    tasks = tuple(
        TaskSpec.model_validate({"name": name, "kind": kind, "on": "text", "label": column})
        for name, kind in (("class", "multiclass"), ("tone", "regression"))
    )
    # Texts need no items, users or ranking.
    reading = Predictor(tasks=tasks, heads=heads_by_hand(), texts=LazyEncoder(Axes))
    found = of_texts(reading, ["x", "y"], wanted_tasks(reading, "r", "text", None))
    for answer, label, other in zip(found["class"], "ab", "ba", strict=True):
        assert isinstance(answer, ClassPrediction)
        assert answer.label == label
        # softmax(ln 3, ln 1) = 3/4, 1/4
        assert answer.probability == pytest.approx(0.75)
        assert answer.probabilities == pytest.approx({label: 0.75, other: 0.25})
    # 3 x 1 - 0 + 1 and 0 - 1 + 1
    assert found["tone"] == [4, 0]


def test_without_an_encoder_texts_are_unavailable(predictor: Predictor) -> None:
    with pytest.raises(EncoderUnavailableError, match="expected a text encoder"):
        of_texts(predictor, TEXTS, ["topic"])


def test_items_are_answered_where_the_task_applies(predictor: Predictor) -> None:
    """Position 3 is a product, 95 a coupon, which demand is not about; -1 is no item of the release."""
    retriever = predictor.retriever
    assert retriever is not None
    found = of_items(predictor, np.array([3, 95, -1], np.int32), ["demand"])["demand"]
    assert predictor.heads is not None
    # Of the same three rows: a product of one alone is added up in another order.
    expected = predictor.heads.row_predictions("demand", retriever.item_vectors[[3, 95, -1]])
    assert found == [pytest.approx(float(expected[0])), None, None]


def test_users_by_blend_and_by_head(predictor: Predictor, ranker: Ranker, cut_data: CutData) -> None:
    users = [*cut_data.users[:2], UserFeatures.unknown("nobody")]
    found = of_users(predictor, users, ["churn", "spend", "club"])
    assert found["churn"][:2] == ranker.predict_users(users)["churn"][:2].tolist()
    assert predictor.heads is not None
    retriever = ranker.retriever
    vectors = np.stack([retriever.user_vectors[retriever.user_ids.index(user.user_id)] for user in users[:2]])
    assert found["spend"][:2] == pytest.approx(predictor.heads.row_logits("spend", vectors).tolist(), rel=1e-5)
    club = 1 / (1 + np.exp(-predictor.heads.row_logits("club", vectors)))
    assert found["club"][:2] == pytest.approx(club.tolist(), rel=1e-5)
    assert [column[2] for column in found.values()] == [None, None, None]


def test_users_without_vectors_have_no_answer_of_a_head(predictor: Predictor) -> None:
    assert of_users(predictor, [UserFeatures.unknown("nobody")], ["spend"]) == {"spend": [None]}


def test_a_row_lists_the_tasks_that_answer() -> None:
    answer: list[TaskAnswer | None] = [ClassPrediction(label="a", probability=1, probabilities={"a": 1}), None]
    assert by_row(["1", "2"], {"topic": answer, "tone": [0.0, None]}) == [
        Prediction(
            id="1", tasks={"topic": ClassPrediction(label="a", probability=1, probabilities={"a": 1}), "tone": 0}
        ),
        Prediction(id="2", tasks={}),
    ]


def test_answers_keep_their_type_over_json() -> None:
    both = {"topic": ClassPrediction(label="a", probability=0.75, probabilities={"a": 0.75, "b": 0.25}), "tone": -1.5}
    sent = PredictResponse(release="r", predictions=[Prediction(id="1", tasks=both)])
    assert PredictResponse.model_validate_json(sent.model_dump_json()) == sent


def test_without_items_and_users_texts_alone_are_predicted(predictor: Predictor) -> None:
    texts = tuple(task for task in predictor.tasks if task.on == "text")
    alone = replace(predictor, tasks=texts, retriever=None, ranker=None)
    assert alone.row_tasks("text") == ("topic", "urgent", "slots")
    assert alone.blended([UserFeatures.unknown("nobody")], ["churn"]) == {}
    expected = (
        r"no task on users to predict: found none on users \(user_ids\); none on items \(item_ids\); "
        r"topic, urgent, slots on texts \(texts\); none on pairs"
    )
    with pytest.raises(TaskUnavailableError, match=expected):
        wanted_tasks(alone, "r", "user", None)
