"""A release beside the one that is current: the same metrics over the same users, pairs and texts."""

from __future__ import annotations

from typing import Final, Literal, get_args

from pydantic import AwareDatetime

from flows.report.figures import Figure, Part
from flows.report.texts import LOWER_IS_BETTER

# Of the order that is served: over all items, and over those that the user never bought before.
RankingMetric = Literal["ndcg", "recall", "mrr", "new_items_ndcg", "new_items_recall", "new_items_mrr"]
RANKING_METRICS: Final[tuple[RankingMetric, ...]] = get_args(RankingMetric)
# Of a binary task on pairs or users.
PROBABILITY_METRICS: Final = ("auc", "log_loss")

Verdict = Literal["better", "worse", "level"]


class BesideRow(Part):
    """One metric of both releases.

    Attributes:
        metric: one of `RANKING_METRICS`, of `PROBABILITY_METRICS`, or of a task on texts.
        task: whose; None for metrics of the order.
        current: what the current release has.
        candidate: what the evaluated one has, on the same rows.
        difference: candidate less current, with the interval of the paired bootstrap.
    """

    metric: str
    task: str | None = None
    current: Figure
    candidate: Figure
    difference: Figure

    @property
    def name(self) -> str:
        """How a gate names it: `ndcg`, `auc.purchase`."""
        return self.metric if self.task is None else f"{self.metric}.{self.task}"

    @property
    def worse_by(self) -> float | None:
        """How much worse the candidate is shown to be, at the interval's nearer end; negative or 0 for not at all.

        None without an interval, which shows nothing.
        """
        if self.difference.low is None or self.difference.high is None:
            return None
        return self.difference.low if self.metric in LOWER_IS_BETTER else -self.difference.high

    @property
    def verdict(self) -> Verdict:
        """What the interval shows of the candidate."""
        where = self.difference.verdict
        if where == "level":
            return "level"
        return "better" if (where == "above") != (self.metric in LOWER_IS_BETTER) else "worse"


class BesideCurrent(Part):
    """The evaluated release, the candidate, beside the one that was current when it was evaluated.

    Attributes:
        release_id: of the current release.
        as_of: it saw nothing at or after this time.
        void: why the two can't be compared; empty where they can.
        note: what else to know of the comparison.
        k: cut-off of the order's metrics.
        lacking: metrics that the current release has no counterpart of: a task that is new, say.
        rows: what was compared.
    """

    release_id: str
    as_of: AwareDatetime | None
    void: str = ""
    note: str = ""
    k: int
    lacking: tuple[str, ...] = ()
    rows: tuple[BesideRow, ...] = ()
