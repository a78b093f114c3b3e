"""Labels by hand: a cut at day 100, a horizon of 28 days, times as days since 2020-01-01."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from features.filters.items import NamedItemsError
from features.schema import UTC as UTC_DTYPE
from features.tasks import TaskError, TaskSpec, check_tables, check_tasks, labels

START = datetime(2020, 1, 1, tzinfo=UTC)
CUT = START + timedelta(days=100)
H = timedelta(days=28)
ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "kind": ["product", "product", "coupon"]})


def events(*rows: tuple[int, int, str, float] | tuple[int, int, str, float, float]) -> pl.DataFrame:
    """Rows of (user, item, event, day, value?)."""
    return pl.DataFrame(
        {
            "user": [row[0] for row in rows],
            "item": [row[1] for row in rows],
            "event": [row[2] for row in rows],
            "timestamp": [START + timedelta(days=row[3]) for row in rows],
            "value": [row[4] if len(row) == 5 else None for row in rows],
            "quantity": [None for _ in rows],
        },
        schema={
            "user": pl.Int32, "item": pl.Int32, "event": pl.String, "timestamp": UTC_DTYPE,
            "value": pl.Float64, "quantity": pl.Float64,
        },
    )  # fmt: skip


def task(**parts: Any) -> TaskSpec:
    return TaskSpec.model_validate({"name": "t", "kind": "binary", "on": "pair"} | parts)


def found(spec: TaskSpec, table: pl.DataFrame) -> list[tuple[float, ...]]:
    return labels(spec, table, CUT, H, ITEMS).rows()


PURCHASE = {"type": "event", "event": "purchase"}
COLUMN = {"type": "column", "column": "intent"}


def test_all_space_lists_positives_inside_the_window_only() -> None:
    table = events(
        (0, 0, "purchase", 99.9), (0, 1, "purchase", 100), (1, 0, "purchase", 127.9), (1, 1, "purchase", 128)
    )
    assert found(task(label=PURCHASE), table) == [(0, 1, 1.0), (1, 0, 1.0)]


def test_item_filter_keeps_the_other_kind_out() -> None:
    table = events((0, 0, "purchase", 101), (0, 2, "purchase", 101))
    assert found(task(label=PURCHASE, items='kind == "product"'), table) == [(0, 0, 1.0)]
    assert found(task(label=PURCHASE, items='kind == "coupon"'), table) == [(0, 2, 1.0)]
    assert found(task(label=PURCHASE, items='not item_id in ["a", "b"]'), table) == [(0, 2, 1.0)]


def test_seen_space_lists_every_earlier_pair() -> None:
    spec = task(label=PURCHASE, space={"type": "seen", "event": "purchase"})
    table = events((0, 0, "purchase", 10), (0, 0, "purchase", 110), (0, 1, "purchase", 99), (1, 1, "purchase", 105))
    # (1, 1) was not bought before the cut, so it is no row of the space.
    assert found(spec, table) == [(0, 0, 1.0), (0, 1, 0.0)]


def test_exposed_space() -> None:
    spec = task(
        label={"type": "event", "event": "response"},
        space={"type": "exposed", "event": "exposure", "lookback_days": 20},
    )
    table = events(
        (0, 2, "exposure", 79.9),  # before the look-back, 100 - 20 = 80: no row
        (1, 2, "exposure", 80), (1, 2, "response", 100),  # at the cut: 1
        (2, 2, "exposure", 90), (2, 2, "response", 99),  # responded before the cut: no row
        (3, 2, "exposure", 110), (3, 2, "response", 105),  # before its own exposure: 0
        (4, 2, "exposure", 127), (4, 2, "response", 128),  # the window's end is exclusive: 0
        (5, 2, "exposure", 128),  # shown after the window: no row
        (6, 2, "exposure", 90), (6, 2, "exposure", 110), (6, 2, "response", 105),  # the first exposure counts: 1
    )  # fmt: skip
    assert found(spec, table) == [(1, 2, 1.0), (3, 2, 0.0), (4, 2, 0.0), (6, 2, 1.0)]


def test_churn_is_absence_of_active_users() -> None:
    spec = task(on="user", label={"type": "absence", "event": "purchase", "active_within_days": 30})
    table = events(
        (0, 0, "purchase", 95), (0, 0, "purchase", 101),  # stays: 0
        (1, 0, "purchase", 70),  # 100 - 30 = 70 is still active, and absent: 1
        (2, 0, "purchase", 69.9),  # not active
        (3, 0, "purchase", 101),  # not active before the cut
        (4, 0, "purchase", 99), (4, 0, "purchase", 128),  # back only after the window: 1
    )  # fmt: skip
    assert found(spec, table) == [(0, 0.0), (1, 1.0), (4, 1.0)]


@pytest.mark.parametrize(("reduce", "expected"), [("mean", 3.0), ("sum", 6.0), ("last", 2.0), ("count", 2.0)])
def test_value_labels(reduce: str, expected: float) -> None:
    spec = task(kind="regression", label={"type": "value", "event": "rating", "reduce": reduce})
    table = events((0, 0, "rating", 99, 1.0), (0, 0, "rating", 101, 4.0), (0, 0, "rating", 102, 2.0))
    assert found(spec, table) == [(0, 0, expected)]


def test_demand_of_items() -> None:
    spec = task(kind="regression", on="item", label={"type": "value", "event": "purchase", "reduce": "count"})
    table = events(
        (0, 0, "purchase", 50), (0, 0, "purchase", 101), (1, 0, "purchase", 102),  # sold before, twice in the window
        (1, 1, "purchase", 90),  # sold before, not in the window: 0, or all demand learnt would be positive
        (1, 2, "purchase", 110),  # first sold in the window: that it is a row would tell its label
    )  # fmt: skip
    assert found(spec, table) == [(0, 2.0), (1, 0.0)]


def test_a_log_scale_keeps_the_sign() -> None:
    label = {"type": "value", "event": "purchase", "reduce": "sum", "scale": "log"}
    spec = task(kind="regression", on="user", label=label)
    table = events(
        (0, 0, "purchase", 9, 5.0), (0, 0, "purchase", 101, 2.5), (0, 1, "purchase", 102, 1.0),
        (1, 0, "purchase", 9, 5.0), (1, 0, "purchase", 103, -2.0),  # more given back than bought
        (2, 0, "purchase", 9, 5.0),
    )  # fmt: skip
    assert found(spec, table) == [
        (0, pytest.approx(math.log(4.5))), (1, pytest.approx(-math.log(3))), (2, 0.0),
    ]  # fmt: skip


def test_spend_of_users() -> None:
    spec = task(kind="regression", on="user", label={"type": "value", "event": "purchase", "reduce": "sum"})
    table = events(
        (0, 0, "purchase", 9, 5.0),
        (0, 0, "purchase", 101, 2.5),
        (0, 1, "purchase", 102, 1.0),
        (1, 0, "purchase", 9, 5.0),
    )
    assert found(spec, table) == [(0, 3.5), (1, 0.0)]
    mean = task(kind="regression", on="user", label={"type": "value", "event": "purchase", "reduce": "mean"})
    assert found(mean, table) == [(0, 1.75)]


@pytest.mark.parametrize(
    "space", [{"type": "all"}, {"type": "seen", "event": "purchase"}, {"type": "exposed", "event": "exposure"}]
)
def test_no_label_comes_from_outside_the_window(space: dict[str, str]) -> None:
    spec = task(label=PURCHASE, space=space)
    table = events((0, 0, "purchase", 90), (1, 1, "exposure", 95), (1, 1, "purchase", 104), (2, 0, "purchase", 120))
    later = events((0, 0, "purchase", 128), (1, 0, "exposure", 130), (1, 1, "purchase", 500))
    assert found(spec, table) == found(spec, pl.concat([table, later]))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"label": COLUMN}, "column needs on: text, user or item, found pair"),
        ({"on": "text", "label": PURCHASE}, "on: text"),
        ({"label": {"type": "absence", "event": "purchase"}}, "on: user or item"),
        ({"on": "user", "label": PURCHASE, "space": {"type": "seen", "event": "purchase"}}, "needs on: pair"),
        ({"kind": "contrastive", "on": "user", "label": PURCHASE}, "contrastive needs"),
        ({"label": {"type": "value", "event": "rating"}}, "kind binary needs"),
        ({"kind": "regression", "label": PURCHASE}, "kind regression needs"),
        ({"kind": "multiclass", "label": PURCHASE}, "kind multiclass needs"),
        ({"kind": "contrastive", "on": "user", "label": COLUMN}, "contrastive needs .* found user, column, all"),
        ({"kind": "token_tags", "on": "user", "label": COLUMN}, "token_tags needs on: text, found user"),
        ({"on": "text", "label": {**COLUMN, "unit": "character"}}, "unit character needs kind token_tags"),
        ({"on": "text", "label": COLUMN, "items": 'kind == "product"'}, "items needs on: item"),
        ({"on": "text", "label": COLUMN, "classes": ["a", "b"]}, "classes needs kind multiclass"),
        ({"kind": "multiclass", "on": "text", "label": COLUMN, "classes": ["a", "a"]}, "two distinct names"),
        ({"kind": "multiclass", "on": "text", "label": COLUMN, "classes": ["a"]}, "two distinct names"),
        ({"kind": "multiclass", "on": "text", "label": COLUMN, "parent": "p"}, "parent needs kind binary"),
        ({"label": PURCHASE, "wieght": 2}, "wieght"),
        ({"label": {"type": "evnt", "event": "purchase"}}, "evnt"),
    ],
)
def test_contradictions_are_refused(parts: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        task(**parts)


def test_names_and_parents() -> None:
    first, second = task(name="click", label=PURCHASE), task(name="buy", label=PURCHASE, parent="click")
    check_tasks([first, second])
    with pytest.raises(TaskError, match="'click' twice"):
        check_tasks([first, first])
    with pytest.raises(TaskError, match="task buy: parent"):
        check_tasks([second, first])


@pytest.mark.parametrize(
    ("parts", "needs"),
    [
        ({"label": PURCHASE}, "binary on pair needs events"),
        ({"on": "user", "label": COLUMN}, "binary on user needs events"),
        ({"on": "item", "kind": "regression", "label": COLUMN}, "regression on item needs events"),
        ({"on": "text", "kind": "contrastive", "label": COLUMN}, "contrastive on text needs items"),
    ],
)
def test_a_task_without_its_tables_names_both(parts: dict[str, Any], needs: str) -> None:
    with pytest.raises(TaskError, match=f"task t: {needs}, found a source with texts alone"):
        check_tables([task(**parts)], {"texts"})
    check_tables([task(**parts)], {"texts", "items", "users", "events"})


def test_texts_are_enough_for_a_task_on_them() -> None:
    check_tables([task(on="text", label=COLUMN)], {"texts"})
    with pytest.raises(TaskError, match="task t: binary on text needs texts, found a source with events, items, users"):
        check_tables([task(on="text", label=COLUMN)], {"items", "users", "events"})


def test_a_parent_is_a_binary_task_on_the_same_rows() -> None:
    retrieval = task(name="retrieval", kind="contrastive", label=PURCHASE)
    with pytest.raises(TaskError, match="expected a binary task on pair, found retrieval: contrastive on pair"):
        check_tasks([retrieval, task(name="buy", label=PURCHASE, parent="retrieval")])
    churn = task(name="churn", on="user", label={"type": "absence", "event": "purchase"})
    with pytest.raises(TaskError, match="expected a binary task on pair, found churn: binary on user"):
        check_tasks([churn, task(name="buy", label=PURCHASE, parent="churn")])


def test_energy_is_of_classes_of_texts() -> None:
    topic = task(name="topic", kind="multiclass", on="text", label=COLUMN)
    scope = task(name="scope", on="text", label=COLUMN, energy=["topic"])
    check_tasks([topic, scope])
    with pytest.raises(TaskError, match="task scope: energy must be declared before it: unknown task 'topic'"):
        check_tasks([scope, topic])
    with pytest.raises(TaskError, match="expected multiclass tasks on text, found other: binary on text"):
        check_tasks([task(name="other", on="text", label=COLUMN), scope.model_copy(update={"energy": ("other",)})])
    with pytest.raises(ValidationError, match="energy needs kind binary on: text, found multiclass on: text"):
        task(name="topic", kind="multiclass", on="text", label=COLUMN, energy=["topic"])


@pytest.mark.parametrize(
    "parts",
    [
        {"kind": "contrastive", "on": "text"},
        {"kind": "multiclass", "on": "text", "classes": ["a", "b"]},
        {"kind": "token_tags", "on": "text", "label": {**COLUMN, "unit": "character"}},
        {"kind": "regression", "on": "text"},
        {"kind": "binary", "on": "text"},
        {"kind": "multiclass", "on": "user"},
        {"kind": "regression", "on": "item", "items": 'kind == "product"'},
    ],
)
def test_what_a_column_can_label(parts: dict[str, Any]) -> None:
    assert task(**{"label": COLUMN, **parts}).label.type == "column"


def test_text_labels_are_not_in_events() -> None:
    spec = task(kind="multiclass", on="text", label=COLUMN)
    with pytest.raises(TaskError, match="texts table"):
        labels(spec, events(), CUT, H, ITEMS)


def test_unknown_item_column_names_the_nearest() -> None:
    with pytest.raises(NamedItemsError, match=r"task t: items: filter, character 1: .*did you mean 'kind'"):
        found(task(label=PURCHASE, items='knd == "product"'), events())


def test_items_that_are_no_filter_are_refused_with_the_task() -> None:
    with pytest.raises(ValidationError, match=r"items\n.*filter, character 6: expected '==', found '='"):
        task(label=PURCHASE, items="kind = 'product'")
    with pytest.raises(ValidationError, match=r"items\n.*Input should be a valid string"):
        task(label=PURCHASE, items={"kind": "product"})
