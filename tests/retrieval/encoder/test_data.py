from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from retrieval.encoder.data import CutData, EncoderTask, Tags, TextData, TrainingData, cut_data
from retrieval.encoder.data_checks import TrainingDataError


def test_frames_become_rows_of_the_cuts_users() -> None:
    purchase = pl.DataFrame({"user": [7, 3, 9, 3], "item": [1, 2, 0, 0], "label": [1, 1, 1, 1]})
    churn = pl.DataFrame({"user": [7], "label": [1]})
    cut = cut_data(
        [3, 7], ["a", "b"], pairs={"purchase": purchase}, user_labels={"churn": churn},
        universe={"purchase": np.array([False, True, True])},
    )  # fmt: skip
    # User 9 is not of the cut and item 0 not in the universe: (3, 2) and (7, 1) are left, as rows 0 and 1.
    assert cut.pairs["purchase"].user.tolist() == [0, 1]
    assert cut.pairs["purchase"].item.tolist() == [2, 1]
    assert np.isnan(cut.user_labels["churn"][0])
    assert cut.user_labels["churn"][1] == 1.0


def test_held_out_rows_come_after_the_others() -> None:
    slots = EncoderTask(name="slots", kind="token_tags", on="text", classes=("O", "X"))
    tone = EncoderTask(name="tone", kind="regression", on="text")
    tags = Tags(text=np.array([0, 1], np.int32), span=np.array([[0, 2], [0, 3]], np.int32), code=np.ones(2, np.int32))
    data = TrainingData(
        tasks=(slots, tone),
        texts=TextData(texts=["a", "b", "c"], labels={"tone": np.array([1, 2, 3], np.float32)}),
        validation_texts=TextData(
            texts=["dd", "eee"], tags={"slots": tags}, groups={"age": np.array([4, 5], np.int32)}
        ),
    )
    joined = data.with_held_out()
    assert list(joined.texts.texts) == ["a", "b", "c", "dd", "eee"]
    np.testing.assert_array_equal(joined.texts.labels["tone"], [1, 2, 3, np.nan, np.nan])
    assert joined.texts.tags["slots"].text.tolist() == [3, 4]
    assert joined.texts.tags["slots"].span.tolist() == [[0, 2], [0, 3]]
    assert joined.texts.groups["age"].tolist() == [-1, -1, -1, 4, 5]
    assert joined.validation_texts is data.validation_texts


def test_contradictions_are_named(world: TrainingData) -> None:
    with pytest.raises(TrainingDataError, match="popularity: expected 40 values"):
        dataclasses.replace(world, popularity=np.ones(3))
    with pytest.raises(TrainingDataError, match="at least one training cut and one held out"):
        dataclasses.replace(world, train=())
    with pytest.raises(TrainingDataError, match="distinct names"):
        dataclasses.replace(world, tasks=world.tasks + world.tasks[:1])
    short: CutData = dataclasses.replace(world.validation, user_texts=["one"])
    with pytest.raises(TrainingDataError, match="cut 2: expected one text for each of 32 users"):
        dataclasses.replace(world, validation=short)
    narrow = dataclasses.replace(world.validation, universe={})
    with pytest.raises(TrainingDataError, match="task retrieval: expected a universe of 40 flags"):
        dataclasses.replace(world, validation=narrow)


def test_item_labels_stand_at_their_positions() -> None:
    demand = pl.DataFrame({"item": [2, 0], "label": [5.0, 1.0]})
    cut = cut_data([3], ["a"], pairs={}, user_labels={}, universe={}, item_labels={"demand": demand}, n_items=3)
    assert cut.item_labels["demand"][[0, 2]].tolist() == [1.0, 5.0]
    assert np.isnan(cut.item_labels["demand"][1])


def _texts(tasks: tuple[EncoderTask, ...], **parts: object) -> TrainingData:
    data = TextData(texts=["a", "b"], **parts)  # type: ignore[arg-type]
    return TrainingData(tasks=tasks, item_texts=["x"], popularity=np.ones(1), texts=data)


def test_labels_on_texts_are_checked() -> None:
    intent = EncoderTask(name="intent", kind="multiclass", on="text", classes=("pay", "lost"))
    answer = EncoderTask(name="answer", kind="contrastive", on="text")
    slots = EncoderTask(name="slots", kind="token_tags", on="text", classes=("O", "CITY"))
    _texts((intent, answer), labels={"intent": np.array([1, np.nan], np.float32)})
    with pytest.raises(TrainingDataError, match=r"texts, task intent: labels: expected whole numbers in \[0, 2\)"):
        _texts((intent,), labels={"intent": np.array([1, 2], np.float32)})
    with pytest.raises(TrainingDataError, match="task intent: labels: expected 2, found 1"):
        _texts((intent,), labels={"intent": np.ones(1, np.float32)})
    with pytest.raises(TrainingDataError, match=r"task answer: labels: expected item positions in \[0, 1\), found 1"):
        _texts((answer,), answers={"answer": np.array([1, -1], np.int32)})
    tags = Tags(text=np.array([0], np.int32), span=np.array([[0, 1]], np.int32), code=np.array([2], np.int32))
    with pytest.raises(TrainingDataError, match=r"task slots: labels: expected tags in \[0, 2\), found 2"):
        _texts((slots,), tags={"slots": tags})


def test_tasks_that_contradict_each_other_are_named() -> None:
    click = EncoderTask(name="click", kind="binary", on="text")
    with pytest.raises(TrainingDataError, match="task buy: parent: unknown task 'clik'; did you mean 'click'"):
        _texts((click, EncoderTask(name="buy", kind="binary", on="text", parent="clik")))
    with pytest.raises(TrainingDataError, match="found binary on user under binary on text"):
        _texts((click, EncoderTask(name="buy", kind="binary", on="user", parent="click")))
    with pytest.raises(TrainingDataError, match="task scope: energy: unknown task 'clik'; did you mean 'click'"):
        _texts((click, EncoderTask(name="scope", kind="binary", on="text", energy=("clik",))))
    with pytest.raises(TrainingDataError, match="found binary on text that reads click: binary on text"):
        _texts((click, EncoderTask(name="scope", kind="binary", on="text", energy=("click",))))
    with pytest.raises(TrainingDataError, match="at least two classes, found \\['one'\\]"):
        _texts((EncoderTask(name="intent", kind="multiclass", on="text", classes=("one",)),))
    with pytest.raises(TrainingDataError, match="or texts, found neither"):
        TrainingData(tasks=(click,))
