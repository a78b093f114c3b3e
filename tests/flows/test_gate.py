"""The gate: passes what the report shows, refuses what it contradicts and what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from features.tasks import TaskSpec
from flows.gate import GateConfig, GateError, MaxGap
from flows.report import PairedDifference, Report
from infra.errors import InvalidInputError

DECAYED = "own frequency, decayed over 90 days"


def test_an_empty_gate_asks_nothing(sample_report: Report) -> None:
    assert not GateConfig().asks
    assert GateConfig(min_ndcg=0.1).asks
    GateConfig().check(sample_report)


def test_what_the_report_shows_passes(sample_report: Report) -> None:
    # NDCG .4203; blend above the decayed frequency, undecided against GBDT; purchase's blend has AUC .86; recall .989
    gate = GateConfig(
        not_worse_than=(DECAYED, "GBDT"),
        better_than=(DECAYED,),
        min_ndcg=0.42,
        min_auc={"purchase": 0.86},
        min_index_recall=0.989,
    )
    assert gate.refusals(sample_report) == []


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (GateConfig(better_than=("GBDT",)), "expected blend better than GBDT, found NDCG@10 +0.0022"),
        (GateConfig(not_worse_than=("oracle",)), "expected blend not worse than oracle, found NDCG@10 -0.1000"),
        (GateConfig(better_than=("nobody",)), "expected a paired difference of the shipped order to 'nobody'"),
        (GateConfig(min_ndcg=0.43), "expected NDCG@10 of at least 0.43, found 0.4203"),
        (GateConfig(min_auc={"purchase": 0.9}), "task purchase: expected an AUC of at least 0.9, found 0.8600"),
        (GateConfig(min_auc={"rating": 0.5}), "task rating: expected an AUC of at least 0.5, found none"),
        (GateConfig(min_index_recall=0.99), "index IVF-SQ8: expected a recall of at least 0.99, found 0.9890"),
    ],
)
def test_refusals_say_expected_and_found(sample_report: Report, gate: GateConfig, reason: str) -> None:
    with pytest.raises(GateError) as caught:
        gate.check(sample_report)
    assert reason in str(caught.value)
    assert sample_report.release_id in str(caught.value)


def test_an_unmeasured_release_does_not_pass(sample_report: Report) -> None:
    bare = sample_report.model_copy(update={"rankings": (), "tasks": (), "index": ()})
    gate = GateConfig(better_than=("x",), min_ndcg=0.0, min_auc={"purchase": 0.0}, min_index_recall=0.0)
    assert len(gate.refusals(bare)) == 4


def test_not_worse_holds_on_every_item_space(sample_report: Report) -> None:
    every, new = sample_report.rankings
    worse = PairedDifference(
        scorer="blend", baseline=DECAYED, metric="NDCG@10", difference=every.differences[2].difference
    )
    report = sample_report.model_copy(update={"rankings": (every, new.model_copy(update={"differences": (worse,)}))})
    assert GateConfig(better_than=(DECAYED,)).refusals(report) == []
    assert "never bought before" in GateConfig(not_worse_than=(DECAYED,)).refusals(report)[0]


def gaps(**lines: Any) -> GateConfig:
    return GateConfig(max_gap=(MaxGap.model_validate({"column": "age", **lines}),))


def test_a_gap_is_refused_once_its_interval_lies_above_the_limit(sample_report: Report) -> None:
    """Churn's AUC differs by .08, from .05 to .11; NDCG by .02, from 0 to .05; exposure by .1, from .08 to .12."""
    churn = {"task": "churn", "metric": "auc"}
    assert gaps(**churn, limit=0.05).refusals(sample_report) == []
    (reason,) = gaps(**churn, limit=0.049).refusals(sample_report)
    assert reason == (
        "task churn, auc by user age: expected an observed difference of at most 0.049, found 0.0800 between 35-44 and "
        "25-34, with interval 0.0500 to 0.1100 above it"
    )
    brand = {"on": "item", "column": "brand", "metric": "exposure"}
    assert gaps(**brand, limit=0.09).refusals(sample_report) == []
    assert "exposure by item brand" in gaps(**brand, limit=0.07).refusals(sample_report)[0]


def test_a_strict_limit_refuses_what_is_not_shown_to_be_below_it(sample_report: Report) -> None:
    assert gaps(metric="ndcg", limit=0.04).refusals(sample_report) == []
    (reason,) = gaps(metric="ndcg", limit=0.04, strict=True).refusals(sample_report)
    assert "shown by its whole interval (strict), found 0.0200 between 35-44 and 25-34" in reason
    assert gaps(metric="ndcg", limit=0.05, strict=True).refusals(sample_report) == []


def test_a_gap_that_the_report_lacks_is_refused(sample_report: Report) -> None:
    bare = sample_report.model_copy(update={"audit": None})
    limit = gaps(task="churn", metric="auc", limit=1)
    assert limit.asks
    assert limit.refusals(bare)[0].endswith("found none in the report")
    assert (
        gaps(task="churn", metric="log_loss", limit=1).refusals(sample_report)[0].endswith("found none in the report")
    )
    assert "fewer than two groups" in gaps(task="churn", metric="selection", limit=1).refusals(sample_report)[0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"metric": "ndcg", "task": "churn"}, "expected no task for metric ndcg, found churn"),
        ({"metric": "auc"}, "expected a task for metric auc, found None"),
        ({"metric": "exposure"}, "expected on: item for metric exposure, found user"),
        ({"metric": "auc", "task": "churn", "on": "item"}, "expected on: user for metric auc, found item"),
    ],
)
def test_a_limit_of_what_is_never_measured_is_no_limit(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        gaps(limit=0.1, **lines)


def test_a_limit_names_what_the_workspace_compares() -> None:
    gate = gaps(task="churn", metric="auc", limit=0.1)
    churn, purchase = _spec("churn", "binary", "user"), _spec("purchase", "binary", "user")
    gate.check_names(["age"], [], [churn])
    with pytest.raises(InvalidInputError, match=r"audit.users: unknown column 'age'.*known: income"):
        gate.check_names(["income"], ["age"], [churn])
    with pytest.raises(InvalidInputError, match="unknown task 'churn'"):
        gate.check_names(["age"], [], [purchase])


def _spec(name: str, kind: str, on: str) -> TaskSpec:
    return TaskSpec.model_validate({"name": name, "kind": kind, "on": on, "label": {"type": "column", "column": "c"}})


def test_bounds_of_texts_go_the_way_of_their_metric(sample_report: Report) -> None:
    # Intent has accuracy .91 and log loss .31, tone an MAE of .2.
    assert (
        GateConfig(texts={"intent": {"accuracy": 0.91, "log_loss": 0.31}, "tone": {"mae": 0.2}}).refusals(sample_report)
        == []
    )
    refused = GateConfig(
        texts={"intent": {"accuracy": 0.92, "log_loss": 0.3}, "topic": {"accuracy": 0}, "tone": {"r2": 0.5, "mae": 0.1}}
    )
    assert refused.asks
    assert refused.refusals(sample_report) == [
        "task intent: expected accuracy of at least 0.92 on held-out texts, found 0.9100",
        "task intent: expected log_loss of at most 0.3 on held-out texts, found 0.3100",
        "task topic: expected accuracy of at least 0.0 on held-out texts, found none in the report",
        # R2 is undefined in the report.
        "task tone: expected r2 of at least 0.5 on held-out texts, found none in the report",
        "task tone: expected mae of at most 0.1 on held-out texts, found 0.2000",
    ]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"intents": {"accuracy": 0.9}}, r"gate\.texts: unknown task on texts 'intents'; did you mean 'intent'"),
        ({"churn": {"auc": 0.9}}, "unknown task on texts 'churn'"),
        ({"intent": {"mae": 0.9}}, r"gate\.texts\.intent, of kind multiclass: unknown bounded metric 'mae'"),
        ({"urgent": {"calibration": 0.9}}, "unknown bounded metric 'calibration'"),
    ],
)
def test_bounds_of_what_is_never_measured_are_refused(texts: dict[str, Any], message: str) -> None:
    tasks = [_spec("intent", "multiclass", "text"), _spec("urgent", "binary", "text"), _spec("churn", "binary", "user")]
    with pytest.raises(InvalidInputError, match=message):
        GateConfig(texts=texts).check_names([], [], tasks)
