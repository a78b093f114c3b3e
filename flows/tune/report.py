"""A finished search as typed figures: the content of its `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Self

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat, NonNegativeInt
from scipy.stats import t as student

from flows.report import Figure
from flows.tune.config import Scalar
from retrieval.encoder.trial import Metric

ERROR_NAMES: Final[Mapping[Metric, str]] = {
    "auc": "1 − AUC", "accuracy": "1 − accuracy", "relative_loss": "relative loss",
}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrialRow(_Part):
    """One trial of a search.

    Attributes:
        number: from 0, which is the workspace's own configuration.
        point: values by dotted key of the `encoder` section.
        error: what the search lowers; None where the trial failed.
        seconds: wall time.
        reason: why it failed.
    """

    number: NonNegativeInt
    point: dict[str, Scalar]
    error: FiniteFloat | None = None
    seconds: float = 0.0
    reason: str = ""


class SideSearch(_Part):
    """The trials of one side.

    Attributes:
        side: `multi-task`, or a task's name.
        measure: what `error` is.
        trials: in order, as many on every side.
        best: the number of the one that won.
        importance: share of the error's variance that each option explains (fANOVA), largest first; empty where the
            trials are too few to tell.
    """

    side: str
    measure: str
    trials: tuple[TrialRow, ...]
    best: NonNegativeInt
    importance: dict[str, FiniteFloat] = {}

    @property
    def failed(self) -> tuple[TrialRow, ...]:
        """Trials without an error."""
        return tuple(row for row in self.trials if row.error is None)

    @property
    def winner(self) -> TrialRow:
        """The trial that won."""
        return self.trials[self.best]


class TaskGain(_Part):
    """What training with the others does to a task, on rows that no run read.

    Attributes:
        task: its name.
        metric: of which the errors are; None where neither side was measured.
        alone: error of its own tuned model, over seeds.
        joint: error of the tuned multi-task model.
        gain: share of the former that the latter takes away, seed by seed; None without a seed that both finished.
        loses: whether the mean joint error is above the mean one of its own model by more than that one's standard
            deviation over seeds; None where one seed can't tell.
    """

    task: str
    metric: Metric | None
    alone: Figure | None = None
    joint: Figure | None = None
    gain: Figure | None = None
    loses: bool | None = None

    @classmethod
    def of(
        cls, task: str, metric: Metric | None, alone: dict[int, float], joint: dict[int, float], gains: dict[int, float]
    ) -> Self:
        """Compare errors by seed."""
        loses = None
        if len(gains) > 1:
            own = [alone[seed] for seed in gains]
            loses = float(np.mean([joint[seed] for seed in gains])) > float(np.mean(own)) + float(np.std(own, ddof=1))
        return cls(
            task=task,
            metric=metric,
            alone=_known(alone),
            joint=_known(joint),
            gain=_known(gains),
            loses=loses,
        )


class TuneReport(_Part):
    """A search, and the comparison of what it found.

    Attributes:
        workspace: its name.
        as_of: nothing at or after it was read.
        created_at: when the search ended.
        folder: where trials, runs and this report lie.
        trials: that each side had, failed ones included.
        wanted: that each side was to have; more where the time ran out.
        seeds: of the comparison's runs.
        searches: the multi-task side first.
        gains: by task.
        mean_gain: of the tasks, seed by seed.
        failed_runs: of the comparison, in words.
        best: lines of the winning multi-task configuration, for the workspace file.
    """

    workspace: str
    as_of: AwareDatetime
    created_at: AwareDatetime
    folder: str
    trials: NonNegativeInt
    wanted: NonNegativeInt
    seeds: tuple[int, ...]
    searches: tuple[SideSearch, ...]
    gains: tuple[TaskGain, ...]
    mean_gain: Figure | None = None
    failed_runs: tuple[str, ...] = ()
    best: str

    @property
    def failed(self) -> int:
        """Trials that failed, on all sides."""
        return sum(len(search.failed) for search in self.searches)

    @property
    def losers(self) -> tuple[str, ...]:
        """Tasks that do worse together."""
        return tuple(row.task for row in self.gains if row.loses)


def over_seeds(values: Sequence[float]) -> Figure:
    """Return the mean over at least one seed with its 95% Student interval, which one seed hasn't."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Figure(value=mean, n=1)
    half = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Figure(value=mean, low=mean - half, high=mean + half, n=n)


def _known(values: dict[int, float]) -> Figure | None:
    return over_seeds(list(values.values())) if values else None


def error_name(metric: Metric | None) -> str:
    """Return what the error of a metric is; a dash where none was measured."""
    return "–" if metric is None else ERROR_NAMES[metric]


def in_percent(figure: Figure | None) -> Figure | None:
    """Return a share as a figure in percent."""
    if figure is None:
        return None
    low, high = (None if end is None else 100 * end for end in (figure.low, figure.high))
    return Figure(value=100 * figure.value, low=low, high=high, n=figure.n)
