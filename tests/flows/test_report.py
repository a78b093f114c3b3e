"""The report's model: intervals in order, pairs complete, nothing that JSON can't hold."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from flows.report import Curve, Figure, RankingTable, Report, RetrievalTable


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "above"), (-0.3, -0.1, "below"), (-0.1, 0.1, "level"), (0.0, 0.2, "level"), (None, None, "level")],
)
def test_verdict_is_where_the_interval_lies(low: float | None, high: float | None, verdict: str) -> None:
    assert Figure(value=0.1, low=low, high=high, n=3).verdict == verdict


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_figure_is_finite(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Figure(value=value, n=1)


def test_interval_has_two_ends_in_order() -> None:
    with pytest.raises(ValidationError, match="both ends"):
        Figure(value=0.1, low=0.0, n=1)
    with pytest.raises(ValidationError, match="low <= high"):
        Figure(value=0.1, low=0.3, high=0.2, n=1)


def test_shipped_scorer_is_one_of_the_rows(sample_report: Report) -> None:
    with pytest.raises(ValidationError, match="shipped"):
        RankingTable(title="all", scorers=sample_report.rankings[0].scorers, shipped="nobody")


def test_merged_candidates_are_one_of_the_rows_and_every_row_has_all_sizes(sample_report: Report) -> None:
    rows = sample_report.retrieval[0].sources
    with pytest.raises(ValidationError, match="merged to be one of the sources, found 'none'"):
        RetrievalTable(title="all", ks=(100, 500), sources=rows, merged="none")
    with pytest.raises(ValidationError, match=r"semantic: expected a recall for each of \(100,\), found 2"):
        RetrievalTable(title="all", ks=(100,), sources=rows, merged="merged")


def test_curve_has_a_loss_for_each_step() -> None:
    with pytest.raises(ValidationError, match="a loss for each step, found 2 and 1"):
        Curve(name="training", steps=(1, 2), losses=(0.1,))


def test_json_round_trip_keeps_everything(sample_report: Report) -> None:
    assert Report.model_validate_json(sample_report.model_dump_json()) == sample_report
    assert Report.model_validate(sample_report.model_dump(mode="json")) == sample_report


def test_task_names_keep_their_order(sample_report: Report) -> None:
    assert sample_report.task_names == ["purchase", "repurchase", "coupon_response", "churn"]


def test_total_counts_each_second_that_was_spent_once(sample_report: Report) -> None:
    # stage n of 7 takes 4 n^2 + .4 seconds; n = 1 was reused: 4 * (0+4+9+16+25+36) + 6 * .4 = 360 + 2.4
    assert sample_report.total_seconds.total_seconds() == pytest.approx(362.4)
    within = sample_report.stages[6].model_copy(update={"inside": True})  # without its 4 * 36 + .4
    report = sample_report.model_copy(update={"stages": (*sample_report.stages[:6], within)})
    assert report.total_seconds.total_seconds() == pytest.approx(218.0)
