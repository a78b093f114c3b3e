"""A release beside the current one: better on one metric, worse on three, undecided on two."""

from __future__ import annotations

from datetime import UTC, datetime

from flows.report import BesideCurrent, BesideRow
from tests.flows.sample_figures import figure

CURRENT = "20171106T000000Z-77aa01"


def row(name: str, current: float, candidate: float, half: float) -> BesideRow:
    """One metric, its difference's interval `half` to either side."""
    metric, _, task = name.partition(".")
    return BesideRow(
        metric=metric,
        task=task or None,
        current=figure(current, 0.01),
        candidate=figure(candidate, 0.01),
        difference=figure(candidate - current, half),
    )


def beside() -> BesideCurrent:
    """Of churn the current release knows nothing."""
    return BesideCurrent(
        release_id=CURRENT,
        as_of=datetime(2017, 11, 6, tzinfo=UTC),
        note="120 items may be recommended by this release alone, 7 by the current one alone.",
        k=10,
        lacking=("auc.churn", "log_loss.churn"),
        rows=(
            row("ndcg", 0.41, 0.4203, 0.004),
            row("recall", 0.1121, 0.1121, 0.0),
            row("new_items_ndcg", 0.053, 0.0471, 0.002),
            row("auc.purchase", 0.88, 0.86, 0.005),
            row("log_loss.purchase", 0.043, 0.044, 0.0002),
            row("accuracy.intent", 0.9, 0.91, 0.03),
        ),
    )
