"""The audit's section: which groups count, what is compared of them, and a workspace that asks for nothing."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from flows.report import AuditReport
from flows.stages.audit import AuditConfig, ServedTask, Shown, audit
from infra.errors import InvalidInputError

# Twelve users: four young, four old, two of middle age, two who did not say.
AGES = ["young"] * 4 + ["old"] * 4 + ["middle"] * 2 + [None] * 2
USERS = pl.DataFrame({"user_id": [str(n) for n in range(12)], "age": AGES})
ITEMS = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "brand": ["own", "own", "other", None]})
NAN = math.nan
EVERYONE = np.arange(12, dtype=np.int32)
LABELS = np.array([1, 0, 1, 0, 1, 0, 0, NAN, 1, 0, 0, 1])
CHURN = ServedTask(
    name="churn",
    on="user",
    users=EVERYONE,
    labels=LABELS,
    probabilities=np.array([0.8, 0.2, 0.7, 0.3, 0.1, 0.2, 0.3, 0.9, 0.5, 0.4, 0.3, 0.6]),
)
SHOWN = Shown(
    users=np.array([0, 4], np.int32),
    lists=[np.array([0, 2], np.int32), np.array([3, 2], np.int32)],
    relevant=[np.array([0], np.int32), np.array([2], np.int32)],
    eligible=np.array([True, True, True, True]),
    k=2,
)


def audited(config: AuditConfig, *tasks: ServedTask) -> AuditReport:
    found = audit(config, USERS, ITEMS, tasks, SHOWN)
    assert found is not None
    return found


def test_nothing_asked_nothing_compared() -> None:
    assert audit(AuditConfig(), USERS, ITEMS, [CHURN], SHOWN) is None


def test_groups_by_hand() -> None:
    found = audited(AuditConfig(users=("age",), smallest=3, selected=0.3), CHURN)
    rows = {row.metric: row for row in found.comparisons}
    assert [row.metric for row in found.comparisons] == ["auc", "log_loss", "calibration", "selection", "ndcg"]
    # The eighth user has no label, so three of the old take part; two of middle age are fewer than three.
    assert [(group.group, group.size, group.mark) for group in rows["auc"].groups] == [
        ("middle", 2, "small"), ("old", 3, None), ("young", 4, None), ("(no value)", 2, "no value"),
    ]  # fmt: skip
    values = {
        metric: [group.figure.value if group.figure else None for group in row.groups] for metric, row in rows.items()
    }
    # The old's only positive lies below both negatives; in every other group positives lie above.
    assert values["auc"] == [1.0, 0.0, 1.0, 1.0]
    # (.5 + .4) / 1, (.1 + .2 + .3) / 1, (.8 + .2 + .7 + .3) / 2, (.3 + .6) / 1
    assert values["calibration"] == pytest.approx([0.9, 0.6, 1.0, 0.9])
    # The likeliest 3 of eleven are those of at least .6: .8 and .7 (young), .6 (no value).
    assert values["selection"] == pytest.approx([0.0, 0.0, 0.5, 0.5])
    selection = rows["selection"]
    assert selection.gap is not None
    assert (selection.gap.value, selection.highest, selection.lowest) == (pytest.approx(0.5), "young", "old")
    # One user of the young and one of the old were held out: both groups are shown, neither counts.
    assert [(group.group, group.mark) for group in rows["ndcg"].groups] == [("old", "small"), ("young", "small")]
    assert values["ndcg"] == pytest.approx([1 / math.log2(3), 1.0])
    assert rows["ndcg"].gap is None


def test_exposure_by_hand() -> None:
    found = audited(AuditConfig(items=("brand",), smallest=2))
    (table,) = found.exposure
    # Places are worth 1 and .6309, a first place .6131 of both and a second .3869: (own, other), then (none, other).
    first, second = 1 / (1 + 1 / math.log2(3)), 1 / (1 + math.log2(3))
    shares = {row.group: (row.exposure.value, row.relevant.value, row.catalogue.value) for row in table.groups}
    assert shares["own"] == pytest.approx((first / 2, 0.5, 0.5))
    assert shares["other"] == pytest.approx((second, 0.5, 0.25))
    assert shares["(no value)"] == pytest.approx((first / 2, 0.0, 0.25))
    (comparison,) = found.comparisons
    marks = {group.group: group.mark for group in comparison.groups}
    assert marks == {"other": "small", "own": None, "(no value)": "no value"}
    assert comparison.groups[1].figure is not None
    assert comparison.groups[1].figure.value == pytest.approx(first / 2 - 0.5)
    assert comparison.groups[1].figure.n == 2
    assert comparison.gap is None


def test_pairs_have_no_selection_and_unlabelled_tasks_no_row() -> None:
    config = AuditConfig(users=("age",), smallest=2)
    pairs = ServedTask(
        name="purchase", on="pair", users=np.repeat(EVERYONE, 2), labels=np.tile([1.0, 0.0], 12),
        probabilities=np.tile([0.6, 0.4], 12),
    )  # fmt: skip
    empty = ServedTask(
        name="return", on="pair", users=EVERYONE, labels=np.full(12, NAN), probabilities=CHURN.probabilities
    )
    found = audited(config, pairs, empty)
    assert [(row.task, row.metric) for row in found.comparisons] == [
        ("purchase", "auc"), ("purchase", "log_loss"), ("purchase", "calibration"), (None, "ndcg"),
    ]  # fmt: skip
    # All users are alike: .5 over .5, in every resample, and no difference.
    calibration = found.comparisons[2]
    ends = [(group.figure.low, group.figure.high) for group in calibration.groups if group.figure]
    # A ninth of the resamples lacks both users of a group of two: (10 / 12) ** 12.
    assert ends[1:3] == [pytest.approx((1.0, 1.0))] * 2
    assert calibration.gap is not None
    assert (calibration.gap.value, calibration.gap.low, calibration.gap.high) == pytest.approx((0.0, 0.0, 0.0))


def test_a_column_that_there_is_not_is_named() -> None:
    with pytest.raises(InvalidInputError, match="table users: unknown column 'agee'; did you mean 'age'"):
        audit(AuditConfig(users=("agee",)), USERS, ITEMS, [], SHOWN)
