"""The gate's rule on the current release: a candidate must not be shown to be worse than what it would replace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from features.tasks import TaskSpec
from flows.report import PROBABILITY_METRICS, RANKING_METRICS, BesideCurrent, BesideRow, Report
from flows.report.texts import METRICS
from infra.errors import InvalidInputError, unknown_name
from ranking.spaces import pair_tasks, user_tasks

_WITHOUT: Final = "`polyrank publish --without-comparison` publishes it all the same"


class NotWorseThanCurrent(BaseModel):
    """Which metrics of a candidate may not be worse than the current release's, on the same users and texts.

    A metric is worse once the interval of the paired difference lies wholly beyond the margin: a tie passes, and so
    does what can't be told from noise. Of two releases alike, 1 in 40 is refused by mistake, for each metric.

    Attributes:
        metrics: of the order that is served `ndcg`, `recall`, `mrr`, and the same of items that a user never bought
            before as `new_items_ndcg`, ...; `auc.TASK` and `log_loss.TASK` of a binary task on pairs or users; of a
            task on texts any of its metrics but calibration, as `accuracy.TASK`.
        margin: how much worse passes, in the metric's unit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metrics: tuple[str, ...] = Field(min_length=1)
    margin: float = Field(0.0, ge=0, allow_inf_nan=False)

    @field_validator("metrics")
    @classmethod
    def _distinct(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(metrics)) < len(metrics):
            raise ValueError(f"expected distinct metrics, found {list(metrics)}")
        return metrics

    def check_names(self, tasks: Sequence[TaskSpec]) -> None:
        """Check that every metric is one that the workspace's tasks have.

        Raises:
            InvalidInputError: naming the nearest.
        """
        known = list(metric_names(tasks))
        for metric in self.metrics:
            if metric not in known:
                where = "gate.not_worse_than_current.metrics"
                raise InvalidInputError(f"{where}: {unknown_name('compared metric', metric, known)}")

    def refusals(self, report: Report, current: str | None) -> list[str]:
        """Return why a report's release may not take the current one's place, one sentence each.

        Args:
            report: of the candidate.
            current: the release that is current now; where there is none, or it is the candidate, all passes.
        """
        if current in (None, report.release_id):
            return []
        beside = report.beside
        if beside is None or beside.release_id != current:
            found = "none" if beside is None else f"one with {beside.release_id}"
            anew = f"`polyrank evaluate {report.release_id}` makes it"
            return [f"expected a comparison with the current release {current}, found {found} in the report; {anew}"]
        if beside.void:
            return [
                f"expected a comparison with the current release {current}, found it void: {beside.void}; {_WITHOUT}"
            ]
        return [reason for metric in self.metrics if (reason := self._refusal(beside, metric)) is not None]

    def _refusal(self, beside: BesideCurrent, metric: str) -> str | None:
        row = next((row for row in beside.rows if row.name == metric), None)
        if row is None:
            # What is new can't be worse than before.
            missing = f"{metric}: expected it compared with the current release {beside.release_id}, found no such rows"
            return None if metric in beside.lacking else f"{missing}; {_WITHOUT}"
        worse = row.worse_by
        return None if worse is None or worse <= self.margin else self._told(beside, row)

    def _told(self, beside: BesideCurrent, row: BesideRow) -> str:
        found = row.difference
        return (
            f"{row.name}: expected no worse than the current release {beside.release_id} by more than {self.margin:g}, "
            f"found {row.candidate.value:.4f} against its {row.current.value:.4f}, a difference of {found.value:+.4f} "
            f"with interval {found.low:+.4f} to {found.high:+.4f}"
        )


def metric_names(tasks: Sequence[TaskSpec]) -> Iterator[str]:
    """Yield every metric that two releases with these tasks can be compared by."""
    binary = (*pair_tasks(tasks), *user_tasks(tasks))
    if binary:
        yield from RANKING_METRICS
    for task in binary:
        yield from (f"{metric}.{task.name}" for metric in PROBABILITY_METRICS)
    for task in tasks:
        if task.on == "text":
            # A calibration is best in the middle.
            yield from (f"{metric}.{task.name}" for metric in METRICS.get(task.kind, ()) if metric != "calibration")
