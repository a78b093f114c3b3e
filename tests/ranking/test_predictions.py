"""Predictions of single users, items and texts: which task answers of what, and by which numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.schema import UserFeatures
from features.tasks import TaskSpec
from ranking.contract import ClassPrediction, Prediction, PredictResponse, TagsPrediction, TaskAnswer
from ranking.predictions import TaskUnavailableError, by_row, of_items, of_texts, of_users, wanted_tasks
from ranking.ranker import Ranker
from ranking.rows import CutData
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskEntry
from retrieval.encoder.runtime import ReadTexts
from retrieval.engine import EncoderUnavailableError, Retriever

TEXTS = ["where is my order", "hello"]


def test_tasks_by_row(ranker: Ranker) -> None:
    """Answers to texts are no prediction of a row; what is blended stands among the heads."""
    assert ranker.row_tasks("user") == ("churn", "spend", "club")
    assert ranker.row_tasks("item") == ("demand",)
    assert ranker.row_tasks("text") == ("topic", "urgent", "slots")
    assert ranker.user_tasks == ("churn",)


def test_a_head_of_a_task_that_the_release_no_longer_declares_is_not_served(ranker: Ranker) -> None:
    fewer = Ranker(
        ranker.models, ranker.retriever, [task for task in ranker.tasks if task.name != "topic"], ranker.heads
    )
    assert fewer.row_tasks("text") == ("urgent", "slots")


def test_wanted_tasks_name_what_there_is(ranker: Ranker) -> None:
    assert wanted_tasks(ranker, "r", "text", None) == ("topic", "urgent", "slots")
    assert wanted_tasks(ranker, "r", "text", ["urgent"]) == ("urgent",)
    with pytest.raises(TaskUnavailableError, match=r"release r: unknown text task 'topics'; did you mean 'topic'"):
        wanted_tasks(ranker, "r", "text", ["topics"])
    with pytest.raises(TaskUnavailableError, match=r"unknown text task 'answer' .*\(known: slots, topic, urgent\)"):
        wanted_tasks(ranker, "r", "text", ["topic", "answer"])


def test_no_task_at_all_names_those_of_other_rows(ranker: Ranker) -> None:
    without = Ranker(
        ranker.models, ranker.retriever, [task for task in ranker.tasks if task.on != "item"], ranker.heads
    )
    expected = (
        r"no task on items to predict: found churn, spend, club on users \(user_ids\); none on items \(item_ids\); "
        r"topic, urgent, slots on texts \(texts\); purchase, repurchase, coupon_response on pairs"
    )
    with pytest.raises(TaskUnavailableError, match=expected):
        wanted_tasks(without, "r", "item", None)


def test_texts_take_one_pass_whatever_the_tasks(reading_ranker: Ranker, text_encoder: Any) -> None:
    before = text_encoder.passes
    found = of_texts(reading_ranker, TEXTS, ["topic", "urgent", "slots"])
    assert text_encoder.passes == before + 1
    vectors = text_encoder.encode(TEXTS, "text")
    assert reading_ranker.heads is not None
    assert found["urgent"] == reading_ranker.heads.row_predictions("urgent", vectors).tolist()
    topic = reading_ranker.heads.row_predictions("topic", vectors)
    names = reading_ranker.heads.tasks["topic"].classes
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


def test_answers_by_hand(ranker: Ranker, release: Path) -> None:
    column = {"type": "column", "column": "c"}
    tasks = [
        TaskSpec.model_validate({"name": name, "kind": kind, "on": "text", "label": column})
        for name, kind in (("class", "multiclass"), ("tone", "regression"))
    ]
    reading = Ranker(ranker.models, Retriever.load(release, load_encoder=Axes), tasks, heads_by_hand())
    found = of_texts(reading, ["x", "y"], wanted_tasks(reading, "r", "text", None))
    for answer, label, other in zip(found["class"], "ab", "ba", strict=True):
        assert isinstance(answer, ClassPrediction)
        assert answer.label == label
        # softmax(ln 3, ln 1) = 3/4, 1/4
        assert answer.probability == pytest.approx(0.75)
        assert answer.probabilities == pytest.approx({label: 0.75, other: 0.25})
    # 3 x 1 - 0 + 1 and 0 - 1 + 1
    assert found["tone"] == [4, 0]


def test_without_an_encoder_texts_are_unavailable(ranker: Ranker) -> None:
    with pytest.raises(EncoderUnavailableError, match="expected a text encoder"):
        of_texts(ranker, TEXTS, ["topic"])


def test_items_are_answered_where_the_task_applies(ranker: Ranker) -> None:
    """Position 3 is a product, 95 a coupon, which demand is not about; -1 is no item of the release."""
    found = of_items(ranker, np.array([3, 95, -1], np.int32), ["demand"])["demand"]
    assert ranker.heads is not None
    expected = ranker.heads.row_predictions("demand", ranker.retriever.item_vectors[[3]])
    assert found == [pytest.approx(float(expected[0])), None, None]


def test_users_by_blend_and_by_head(ranker: Ranker, cut_data: CutData) -> None:
    users = [*cut_data.users[:2], UserFeatures.unknown("nobody")]
    found = of_users(ranker, users, ["churn", "spend", "club"])
    assert found["churn"][:2] == ranker.predict_users(users)["churn"][:2].tolist()
    assert ranker.heads is not None
    vectors = np.stack(
        [ranker.retriever.user_vectors[ranker.retriever.user_ids.index(user.user_id)] for user in users[:2]]
    )
    assert found["spend"][:2] == pytest.approx(ranker.heads.row_logits("spend", vectors).tolist(), rel=1e-5)
    club = 1 / (1 + np.exp(-ranker.heads.row_logits("club", vectors)))
    assert found["club"][:2] == pytest.approx(club.tolist(), rel=1e-5)
    assert [column[2] for column in found.values()] == [None, None, None]


def test_users_without_vectors_have_no_answer_of_a_head(ranker: Ranker) -> None:
    assert of_users(ranker, [UserFeatures.unknown("nobody")], ["spend"]) == {"spend": [None]}


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
