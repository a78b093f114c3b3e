"""What columns of texts, users and items teach the encoder: split once, checked, and nothing of it too late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.schema import ITEM, LABEL, USER
from features.splits import held_out_ids, plan
from features.tables import Tables, encode
from features.tasks import TaskError, TaskSpec
from features.texts import TextConfig
from features.transforms import FeatureConfig
from flows.stages.column_tasks import column_tasks
from flows.stages.data import Data, EligibleConfig
from flows.stages.encode import encoder_tasks
from infra.errors import InvalidInputError
from retrieval.encoder.data import KINDS

T = datetime(2024, 1, 1, tzinfo=UTC)
PLAN = plan(T, timedelta(days=28), ranker_folds=2, encoder_folds=2)
DAYS = timedelta(days=1)


def task(name: str, kind: str, on: str = "text", **parts: Any) -> TaskSpec:
    label = {"type": "column", "column": name}
    return TaskSpec.model_validate({"name": name, "kind": kind, "on": on, "label": label, **parts})


def data(texts: Mapping[str, Any] | None = None, **templates: str) -> Data:
    """Three items, two hundred users, and some texts t0, t1, ..."""
    columns = dict(texts or {"text": []})
    ids = [f"t{row}" for row in range(len(columns["text"]))]
    ages = [["young", "old"][row % 2] for row in range(200)]
    tables = Tables(
        items=pl.DataFrame({"item_id": ["a", "b", "g"], "kind": ["food", "food", "care"], "price": [1.0, None, 3.0]}),
        users=pl.DataFrame({"user_id": [f"u{row}" for row in range(200)], "age": ages}),
        events=pl.DataFrame(
            {"user_id": ["u0"], "item_id": ["a"], "event": ["purchase"], "timestamp": [T - 200 * DAYS]}
        ),
        texts=pl.DataFrame({"text_id": ids, **columns}, strict=False),
    )
    return Data(
        tables=tables, events=encode(tables), features=FeatureConfig(),
        texts=TextConfig(**{"item": "{item_id}", "title": "{item_id}", **templates}), eligibility=EligibleConfig(),
    )  # fmt: skip


# The encoder's validation window is [T - 84, T - 56): two texts train, one is held out, one is the ranker's time.
DATED = [T - 100 * DAYS, T - 85 * DAYS, T - 84 * DAYS, T - 56 * DAYS]


def test_dated_texts_of_every_kind_are_split_by_time() -> None:
    tasks = (
        task("topic", "multiclass"), task("tone", "regression"), task("urgent", "binary"),
        task("answer", "contrastive"), task("slots", "token_tags"),
    )  # fmt: skip
    texts = {
        "text": ["cold tea", "more soap", "hot tea", "late"], "timestamp": DATED,
        "topic": ["tea", "soap", "milk", "late"], "tone": [1.5, None, 2.0, 9.0], "urgent": [True, False, True, None],
        "answer": ["a", None, "g", "a"], "slots": [["O", "P"], None, ["O", "P"], ["Z"]],
    }  # fmt: skip
    found = column_tasks(data(texts), tasks, PLAN)
    assert found.classes == {"topic": ("soap", "tea"), "slots": ("O", "P")}
    train, held = found.texts, found.validation_texts
    assert list(train.texts) == ["cold tea", "more soap"]
    np.testing.assert_array_equal(train.labels["topic"], [1, 0])
    np.testing.assert_array_equal(train.labels["tone"], [1.5, np.nan])
    np.testing.assert_array_equal(train.labels["urgent"], [1, 0])
    assert train.answers["answer"].tolist() == [0, -1]
    assert train.tags["slots"].span.tolist() == [[0, 4], [5, 8]]
    assert list(held.texts) == ["hot tea"]
    # "milk" is no class of the training texts.
    np.testing.assert_array_equal(held.labels["topic"], [np.nan])
    assert held.answers["answer"].tolist() == [2]
    assert held.tags["slots"].code.tolist() == [0, 1]


def test_a_split_says_which_texts_train() -> None:
    texts = {
        "text": ["cold tea", "more soap", "hot tea", "late"], "timestamp": DATED,
        "topic": ["tea", "soap", "milk", "tea"],
        # The last lies in the ranker's time, whatever its split says.
        "split": ["validation", "train", "train", "train"],
    }  # fmt: skip
    found = column_tasks(data(texts), (task("topic", "multiclass"),), PLAN)
    assert list(found.texts.texts) == ["more soap", "hot tea"]
    assert list(found.validation_texts.texts) == ["cold tea"]
    # Held-out texts tell no class.
    assert found.classes == {"topic": ("milk", "soap")}


def test_a_split_without_texts_that_stop_training_is_refused() -> None:
    texts = {"text": list("abc"), "topic": ["x", "y", "x"], "split": ["train"] * 3}
    with pytest.raises(
        InvalidInputError, match=r"texts\.split: expected labelled texts that stop .* found 3 of split train"
    ):
        column_tasks(data(texts), (task("topic", "multiclass"),), PLAN)


def test_texts_without_any_label_are_left_out() -> None:
    texts = {"text": ["a", "b", "c"], "tone": [1.0, None, None], "urgent": [None, 1, None]}
    found = column_tasks(data(texts), (task("tone", "regression"), task("urgent", "binary")), PLAN)
    assert list(found.texts.texts) == ["a", "b"]


def test_without_text_tasks_no_text_is_read() -> None:
    found = column_tasks(data({"text": ["a", "b"], "tone": [1.0, 2.0]}), (), PLAN)
    assert list(found.texts.texts) == []
    assert found.classes == {}


def test_a_workspace_without_texts_says_so() -> None:
    with pytest.raises(TaskError, match="table texts: unknown column 'tone'"):
        column_tasks(data(), (task("tone", "regression"),), PLAN)


def test_labels_all_after_the_encoders_time_train_nothing() -> None:
    texts = {"text": ["late"], "timestamp": [T - 56 * DAYS], "tone": [1.0]}
    with pytest.raises(TaskError, match=r"texts\.tone: expected a label of at least one row to train on, found none"):
        column_tasks(data(texts), (task("tone", "regression"),), PLAN)


def test_users_are_held_out_by_id() -> None:
    found = column_tasks(data(), (task("age", "multiclass", "user"),), PLAN)
    held = held_out_ids(pl.Series([f"u{row}" for row in range(200)]))
    assert found.classes == {"age": ("old", "young")}
    assert found.held_out["age"][USER].to_list() == np.flatnonzero(held).tolist()
    assert found.train["age"].height + found.held_out["age"].height == 200
    # Even rows are young, whose code is 1.
    assert found.train["age"].filter(pl.col(USER) % 2 == 0)[LABEL].unique().to_list() == [1.0]
    newest, older = PLAN.encoder_training
    for cut, expected in ((newest, found.train), (older, found.train), (PLAN.encoder_validation, found.held_out)):
        assert found.at(cut, PLAN)["age"].equals(expected["age"])


def test_a_class_of_held_out_users_alone_is_none() -> None:
    known = data()
    lone = pl.int_range(200) == int(np.flatnonzero(held_out_ids(known.tables.users["user_id"]))[0])
    users = known.tables.users.with_columns(age=pl.when(lone).then(pl.lit("ageless")).otherwise("age"))
    found = column_tasks(
        replace(known, tables=replace(known.tables, users=users)), (task("age", "multiclass", "user"),), PLAN
    )
    assert found.classes == {"age": ("old", "young")}
    assert found.train["age"].height + found.held_out["age"].height == 199


def test_items_train_once_though_there_are_several_cuts() -> None:
    found = column_tasks(data(), (task("price", "regression", "item", items='kind == "food"'),), PLAN)
    # Of the items a, b and g only a is food and has a price; g is the one that its hash holds out.
    assert found.train["price"].to_dict(as_series=False) == {ITEM: [0], LABEL: [1.0]}
    assert found.held_out["price"].is_empty()
    newest, older = PLAN.encoder_training
    assert set(found.at(newest, PLAN)) == {"price"}
    assert set(found.at(older, PLAN)) == set()


def test_a_label_in_the_text_that_is_to_predict_it_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"task age: expected texts\.user without its label column 'age'"):
        column_tasks(data(user="age {age}"), (task("age", "multiclass", "user"),), PLAN)
    with pytest.raises(InvalidInputError, match=r"task price: expected texts\.item without its label column 'price'"):
        column_tasks(data(item="{item_id} | {price}"), (task("price", "regression", "item"),), PLAN)


EVENT = {"type": "event", "event": "purchase"}


def test_heads_carry_space_classes_parents_and_units() -> None:
    tasks = (
        task("click", "binary", "pair", label=EVENT),
        task("buy", "binary", "pair", label=EVENT, parent="click", space={"type": "seen", "event": "view"}),
        task("rating", "regression", "pair", label={"type": "value", "event": "rating"}),
        task("topic", "multiclass"),
        task("demand", "regression", "item", label={"type": "value", "event": "purchase", "reduce": "count"}),
        task("signs", "token_tags", label={"type": "column", "column": "signs", "unit": "character"}),
    )  # fmt: skip
    heads = {head.name: head for head in encoder_tasks(tasks, {"topic": ("soap", "tea")})}
    assert list(heads) == ["click", "buy", "rating", "topic", "demand", "signs"]
    # A rating that was not given is no negative: only listed pairs carry a number.
    assert [head.space for head in heads.values()] == ["all", "rows", "rows", "all", "all", "all"]
    assert [head.unit for head in heads.values()] == ["word"] * 5 + ["character"]
    assert heads["buy"].parent == "click"
    assert heads["topic"].classes == ("soap", "tea")
    assert {(head.kind, head.on) for head in heads.values()} <= {(kind, on) for on in KINDS for kind in KINDS[on]}


def test_a_kind_without_a_head_is_refused_by_name() -> None:
    unchecked = task("topic", "multiclass").model_copy(update={"on": "pair"})
    with pytest.raises(
        InvalidInputError, match="task topic: expected one of contrastive, binary, regression on pair, found multiclass"
    ):
        encoder_tasks((unchecked,), {})


def test_a_study_gets_half_of_what_is_held_out_and_training_stays_the_same() -> None:
    tasks = (task("topic", "multiclass"), task("age", "binary", "user"))
    rows = range(400)
    texts = {"text": [f"text {row}" for row in rows], "topic": [["tea", "soap"][row % 2] for row in rows]}
    source = data(texts)
    users = source.tables.users.with_columns(age=pl.Series([row % 2 for row in range(200)]))
    source = replace(source, tables=replace(source.tables, users=users))
    plain = column_tasks(source, tasks, PLAN)
    study = column_tasks(source, tasks, PLAN, study=True)
    assert list(study.texts.texts) == list(plain.texts.texts)
    held, test = set(study.validation_texts.texts), set(study.test_texts.texts)
    assert held
    assert test
    assert not held & test
    assert held | test == set(plain.validation_texts.texts)
    assert plain.test_texts.texts == []
    parts = [set(part["age"][USER]) for part in (study.train, study.held_out, study.test)]
    assert all(parts)
    assert sum(map(len, parts)) == 200
    assert set().union(*parts) == set(range(200))
    # The oldest ranker cut comes after the one that stops training.
    assert study.at(PLAN.ranker[1], PLAN) is study.test


def test_texts_carry_their_groups() -> None:
    texts = {
        "text": ["a", "b", "c", "d"],
        "timestamp": DATED,
        "topic": ["x", "y", "x", "y"],
        "channel": [2, None, 10, 2],
    }
    found = column_tasks(data(texts), (task("topic", "multiclass"),), PLAN, groups=("channel",))
    # Sorted as text: "10" is 0 and "2" is 1.
    assert found.texts.groups["channel"].tolist() == [1, -1]
    assert found.validation_texts.groups["channel"].tolist() == [0]
