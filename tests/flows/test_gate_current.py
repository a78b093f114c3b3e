"""The rule on the current release: a tie passes, as does noise; what is shown to be worse is told with its interval."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.tasks import TaskSpec
from flows.gate import GateConfig
from flows.gate_current import NotWorseThanCurrent, metric_names
from flows.report import BesideRow, Figure, Report
from infra.errors import InvalidInputError
from tests.flows.sample_beside import CURRENT, row


def gate(*metrics: str, margin: float = 0.0) -> GateConfig:
    return GateConfig(not_worse_than_current=NotWorseThanCurrent(metrics=metrics, margin=margin))


def beside(report: Report, **changes: Any) -> Report:
    assert report.beside is not None
    return report.model_copy(update={"beside": report.beside.model_copy(update=changes)})


def test_better_level_and_tied_metrics_pass(sample_report: Report) -> None:
    """NDCG is better, accuracy undecided, recall the same for every user."""
    assert gate("ndcg").asks
    assert gate("ndcg", "accuracy.intent", "recall").refusals(sample_report, CURRENT) == []


def test_what_is_worse_is_named_with_both_values_and_the_interval(sample_report: Report) -> None:
    refused = gate("ndcg", "auc.purchase", "log_loss.purchase").refusals(sample_report, CURRENT)
    assert refused == [
        f"auc.purchase: expected no worse than the current release {CURRENT} by more than 0, "
        "found 0.8600 against its 0.8800, a difference of -0.0200 with interval -0.0250 to -0.0150",
        # Of log loss less is better.
        f"log_loss.purchase: expected no worse than the current release {CURRENT} by more than 0, "
        "found 0.0440 against its 0.0430, a difference of +0.0010 with interval +0.0008 to +0.0012",
    ]


def test_a_margin_lets_the_interval_reach_further(sample_report: Report) -> None:
    # Purchase's AUC is worse by .015 at least: the nearer end of its interval.
    assert gate("auc.purchase", margin=0.0151).refusals(sample_report, CURRENT) == []
    assert len(gate("auc.purchase", margin=0.0149).refusals(sample_report, CURRENT)) == 1


@pytest.mark.parametrize("current", [None, "the report's own"])
def test_without_another_current_release_all_passes(sample_report: Report, current: str | None) -> None:
    alone = sample_report.model_copy(update={"beside": None})
    assert gate("auc.purchase").refusals(alone, current and alone.release_id) == []


def test_a_comparison_with_another_release_counts_for_nothing(sample_report: Report) -> None:
    """The report stems from before another release became current, or from before the rule."""
    (stale,) = gate("ndcg").refusals(sample_report, "20171120T000000Z-000000")
    assert f"found one with {CURRENT} in the report; `polyrank evaluate {sample_report.release_id}`" in stale
    (none,) = gate("ndcg").refusals(sample_report.model_copy(update={"beside": None}), CURRENT)
    assert f"expected a comparison with the current release {CURRENT}, found none in the report" in none


def test_a_void_comparison_is_refused_with_its_reason(sample_report: Report) -> None:
    void = beside(sample_report, void="the current release has seen data up to 2017-12-20", rows=())
    (reason,) = gate("ndcg").refusals(void, CURRENT)
    assert "found it void: the current release has seen data up to 2017-12-20; `polyrank publish --without" in reason


def test_what_was_not_compared_is_refused_unless_the_current_release_lacks_it(sample_report: Report) -> None:
    assert gate("auc.churn").refusals(sample_report, CURRENT) == []
    (reason,) = gate("mrr").refusals(sample_report, CURRENT)
    assert reason.startswith(f"mrr: expected it compared with the current release {CURRENT}, found no such rows")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.sampled_from(["ndcg", "log_loss.buy"]))
def test_worse_at_the_nearer_end_is_the_verdict(current: float, candidate: float, half: float, name: str) -> None:
    """With no margin a metric is refused if and only if its verdict is worse, and never both ways round."""
    one, other = row(name, current, candidate, half), row(name, candidate, current, half)
    for own in (one, other):
        assert own.worse_by is not None
        assert (own.worse_by > 0) == (own.verdict == "worse")
    assert {one.verdict, other.verdict} in ({"better", "worse"}, {"level"})


def test_a_difference_without_interval_shows_nothing() -> None:
    alone = Figure(value=-0.5, n=1)
    bare = BesideRow(metric="auc", task="buy", current=alone, candidate=alone, difference=alone)
    assert (bare.worse_by, bare.verdict) == (None, "level")


def _spec(name: str, kind: str, on: str) -> TaskSpec:
    label = {"type": "column", "column": "c"} if on == "text" else {"type": "event", "event": "purchase"}
    return TaskSpec.model_validate({"name": name, "kind": kind, "on": on, "label": label})


TASKS = (_spec("buy", "binary", "pair"), _spec("intent", "multiclass", "text"), _spec("urgent", "binary", "text"))


def test_metrics_are_those_of_the_tasks() -> None:
    assert list(metric_names(TASKS[1:])) == [
        "accuracy.intent", "macro_f1.intent", "log_loss.intent", "auc.urgent", "log_loss.urgent",
        "precision.urgent", "recall.urgent", "precision_of_0.urgent", "recall_of_0.urgent",
    ]  # fmt: skip
    assert {"new_items_ndcg", "auc.buy"} <= set(metric_names(TASKS))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("auc.by", "unknown compared metric 'auc.by'; did you mean 'auc.buy'"),
        ("calibration.urgent", "unknown compared metric 'calibration.urgent'"),
        ("accuracy", "unknown compared metric 'accuracy'"),
    ],
)
def test_a_metric_that_is_never_compared_is_an_error_of_the_workspace(metric: str, message: str) -> None:
    gate("ndcg", "auc.buy").check_names([], [], TASKS)
    with pytest.raises(InvalidInputError, match=message):
        gate(metric).check_names([], [], TASKS)


def test_the_section_needs_distinct_metrics() -> None:
    for metrics in ((), ("ndcg", "ndcg")):
        with pytest.raises(ValidationError):
            NotWorseThanCurrent(metrics=metrics)
