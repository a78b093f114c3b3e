"""The evaluation report as typed figures: the content of `report.json`.

Every estimate is a `Figure`: its value, its interval and the number of rows it was taken over. A section left empty is
left out wherever the report is shown: `flows.page` writes the HTML page, `flows.console` prints the terminal's version.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, model_validator

from retrieval.encoder.labels.report import FewLabelsReport
from retrieval.encoder.relatedness.report import RelatednessReport

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Part):
    """An estimate.

    Attributes:
        value: the estimate.
        low: lower end of its 95% interval; None where nothing was sampled (a share of the whole catalogue, say).
        high: upper end.
        n: rows (users, pairs, items) it was taken over.
    """

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: NonNegativeInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"expected both ends of an interval or neither, found low={self.low}, high={self.high}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"expected low <= high, found {self.low} > {self.high}")
        return self

    @property
    def verdict(self) -> Literal["above", "below", "level"]:
        """Where the interval lies against zero; without an interval nothing can be told apart from zero."""
        if self.low is None or self.high is None:
            return "level"
        return "above" if self.low > 0 else "below" if self.high < 0 else "level"


class ReliabilityBin(_Part):
    """Rows of like prediction: mean predicted probability against the observed share of positives."""

    predicted: Probability
    observed: Probability
    n: NonNegativeInt


class TaskScores(_Part):
    """One scorer's quality on one task's held-out rows; None where it is undefined (AUC with one class only).

    Attributes:
        task: the task's name.
        scorer: encoder head, GBDT, blend ...
        auc: area under the ROC curve.
        log_loss: mean negative log likelihood, in nats.
        calibration: mean prediction / mean label; 1 is calibrated in the large.
        ece: expected calibration error over the bins of `reliability`.
        n: rows.
        positives: rows whose label is 1.
        reliability: the bins, by rising prediction.
    """

    task: str
    scorer: str
    auc: Figure | None
    log_loss: Figure | None
    calibration: Figure | None
    ece: Figure | None
    n: NonNegativeInt
    positives: NonNegativeInt
    reliability: tuple[ReliabilityBin, ...] = ()


class ScorerRanking(_Part):
    """One scorer's full ranking over all eligible items, averaged over users.

    Attributes:
        scorer: the scorer's name.
        group: whether it is a baseline or a stage of the system.
        ndcg: NDCG@k.
        recall: Recall@k.
        mrr: mean reciprocal rank of the first relevant item in the top k.
        coverage: share of eligible items that reach any user's top k.
    """

    scorer: str
    group: Literal["baseline", "stage"]
    ndcg: Figure
    recall: Figure
    mrr: Figure
    coverage: Figure


class PairedDifference(_Part):
    """Mean over users of one scorer's metric minus another's, with the interval of that paired difference."""

    scorer: str
    baseline: str
    metric: str
    difference: Figure


class RankingTable(_Part):
    """Every scorer on one space of items.

    Attributes:
        title: what is ranked ("All eligible items").
        note: how to read it, in one sentence.
        k: the cut-off of every metric.
        scorers: in the order to show.
        shipped: the scorer that the release serves.
        differences: paired differences.
    """

    title: str
    note: str = ""
    k: int = 10
    scorers: tuple[ScorerRanking, ...]
    shipped: str
    differences: tuple[PairedDifference, ...] = ()

    @model_validator(mode="after")
    def _shipped_is_listed(self) -> Self:
        if self.shipped not in {row.scorer for row in self.scorers}:
            raise ValueError(f"expected shipped to be one of the scorers, found {self.shipped!r}")
        return self


class AblationRow(_Part):
    """What one family of signals is worth to the blend, in log loss (lower is better).

    Attributes:
        task: the task.
        family: the family (encoder heads, collaborative filtering, GBDT).
        alone: the blend of this family only.
        without: the blend of all others.
        worth: paired `without - full`; above zero means the family helps.
        full: the whole blend.
    """

    task: str
    family: str
    alone: Figure | None
    without: Figure | None
    full: Figure
    worth: Figure | None = None


AuditMetric = Literal["auc", "log_loss", "calibration", "selection", "ndcg", "exposure"]
GroupsOf = Literal["user", "item"]


class GroupFigure(_Part):
    """One group's figure.

    Attributes:
        group: the column's value.
        size: users (items) of the group that take part.
        mark: why it doesn't count for the gap: it is small, or has no value of the column; None where it counts.
        figure: of the metric; None where it is undefined.
    """

    group: str
    size: NonNegativeInt
    mark: Literal["small", "no value"] | None = None
    figure: Figure | None


class GroupComparison(_Part):
    """One metric by group: observed differences, of which nothing here tells the cause.

    Attributes:
        task: whose served probabilities; None for what is of the shipped order.
        on: whose column tells the groups.
        column: its name.
        metric: AUC; log loss in nats; calibration, mean prediction over mean label; selection, the share of a group
            among whom an action on a user task takes; NDCG of the shipped order; exposure, a group's share of what is
            shown less its share of what is relevant.
        groups: in the column's order.
        highest: the counted group with the largest figure; None without a gap.
        lowest: that with the smallest.
        gap: largest minus smallest, with an interval that holds for all pairs of groups at once; None where fewer than
            two groups count.
    """

    task: str | None
    on: GroupsOf
    column: str
    metric: AuditMetric
    groups: tuple[GroupFigure, ...]
    highest: str | None = None
    lowest: str | None = None
    gap: Figure | None = None


class ExposureShare(_Part):
    """A group of items: its share of what users are shown, of what they took in the window, and of the catalogue."""

    group: str
    items: NonNegativeInt
    exposure: Figure
    relevant: Figure
    catalogue: Figure


class ExposureTable(_Part):
    """Every group of a column of the items."""

    column: str
    groups: tuple[ExposureShare, ...]


class AuditReport(_Part):
    """Quality by groups of users, exposure by groups of items.

    Attributes:
        smallest: users (items) from which on a group counts for a gap.
        selected: share of the users whom an action on a user task takes, the likeliest first.
        k: places of an order that are seen.
        comparisons: by column, task and metric.
        exposure: by column of the items.
    """

    smallest: int
    selected: Probability
    k: int = 10
    comparisons: tuple[GroupComparison, ...]
    exposure: tuple[ExposureTable, ...] = ()


class IndexRecall(_Part):
    """The index's recall of exact search's top k, and the time of one query."""

    kind: str
    k: int
    recall: Figure
    query_ms: Figure | None = None


class Window(_Part):
    """One as-of time and the window its labels come from, `[cut, end)`, with what it is used for."""

    role: str
    cut: AwareDatetime
    end: AwareDatetime


class ValidationRow(_Part):
    """Rows of a source table that broke a rule, and what was done with them."""

    table: str
    column: str
    rule: str
    action: str
    count: NonNegativeInt


class Curve(_Part):
    """A loss by training step."""

    name: str
    steps: tuple[int, ...]
    losses: tuple[FiniteFloat, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.steps) != len(self.losses):
            raise ValueError(f"expected a loss for each step, found {len(self.steps)} and {len(self.losses)}")
        return self


class TrainingRun(_Part):
    """The encoder's training.

    Attributes:
        curves: by step.
        best_step: the step whose weights were kept.
        measure: what the curves' vertical axis is.
        few_labels: what was done where labels are few.
    """

    curves: tuple[Curve, ...]
    best_step: int | None = None
    measure: str = "loss"
    few_labels: FewLabelsReport | None = None


class StageRecord(_Part):
    """What a stage took.

    Attributes:
        name: its name.
        seconds: wall time.
        peak_rss_bytes: the process's largest resident memory meanwhile.
        reused: built in an earlier run; the figures are those of that run.
        inside: its time is part of another stage's, so it stays out of the sum.
    """

    name: str
    seconds: Annotated[float, Field(ge=0)]
    peak_rss_bytes: NonNegativeInt | None = None
    reused: bool = False
    inside: bool = False


class Recommendation(_Part):
    """One recommended item, with the reason to show; `hit` tells whether the held-out window has the event."""

    item_id: str
    title: str
    score: FiniteFloat
    tasks: dict[str, Probability] = {}
    reason: str = ""
    sources: tuple[str, ...] = ()
    hit: bool | None = None


class ExampleUser(_Part):
    """A user's recommendations in words: who they are, what they lately bought, what they are shown."""

    user_id: str
    summary: str = ""
    recent: tuple[str, ...] = ()
    recommendations: tuple[Recommendation, ...]


class NextCommand(_Part):
    """A command to try next, and what it does."""

    command: str
    purpose: str


class DataSummary(_Part):
    """The size of what was read; event counts by event kind."""

    users: NonNegativeInt
    items: NonNegativeInt
    eligible_items: NonNegativeInt | None = None
    events: dict[str, NonNegativeInt] = {}
    first_event: AwareDatetime | None = None
    last_event: AwareDatetime | None = None


class Report(_Part):
    """Everything one evaluation found.

    Attributes:
        title: the page's heading.
        workspace: the workspace's name.
        release_id: the release evaluated.
        as_of: the release saw nothing at or after this time.
        created_at: when the evaluation ran.
        note: a caution to show at the top (about the data, say).
    """

    schema_version: Literal[1] = 1
    title: str
    workspace: str
    release_id: str
    as_of: AwareDatetime
    created_at: AwareDatetime
    note: str = ""
    data: DataSummary | None = None
    rankings: tuple[RankingTable, ...] = ()
    tasks: tuple[TaskScores, ...] = ()
    ablation: tuple[AblationRow, ...] = ()
    audit: AuditReport | None = None
    examples: tuple[ExampleUser, ...] = ()
    time_plan: tuple[Window, ...] = ()
    training: TrainingRun | None = None
    relatedness: RelatednessReport | None = None
    index: tuple[IndexRecall, ...] = ()
    validation: tuple[ValidationRow, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    next_commands: tuple[NextCommand, ...] = ()

    @property
    def task_names(self) -> list[str]:
        """Task names in the order first seen."""
        return list(dict.fromkeys(row.task for row in self.tasks))

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """First cut and last label end of the time plan."""
        if not self.time_plan:
            return None
        return min(window.cut for window in self.time_plan), max(window.end for window in self.time_plan)

    @property
    def total_seconds(self) -> timedelta:
        """Sum of the time of the stages that ran, each second counted once."""
        return timedelta(seconds=sum(row.seconds for row in self.stages if not (row.inside or row.reused)))


def read(path: Path) -> Report:
    """Read a `report.json`."""
    return Report.model_validate_json(path.read_bytes())
