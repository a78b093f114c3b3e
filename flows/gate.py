"""The gate before publishing: what a release's report must show, declared in the workspace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.tasks import TaskSpec
from flows.gate_current import NotWorseThanCurrent
from flows.report import AuditMetric, GroupsOf, RankingTable, Report, TextMetric
from flows.report.texts import LOWER_IS_BETTER, METRICS
from infra.errors import ConflictError, InvalidInputError, unknown_name

# What is measured of the shipped order as a whole, and of which groups.
_WITHOUT_TASK: Final[dict[AuditMetric, GroupsOf]] = {"ndcg": "user", "exposure": "item"}


class GateError(ConflictError):
    """The release may not be published: its report misses what the workspace asks for."""

    title: ClassVar[str] = "Gate refused"


class MaxGap(BaseModel):
    """A limit of an observed difference between groups.

    Attributes:
        task: whose probabilities; none for `ndcg` and `exposure`.
        on: whose column: the items' for `exposure`, the users' for every other metric.
        column: which the workspace's `audit` names.
        metric: as the report's audit has them.
        limit: of the largest difference, in the metric's unit.
        strict: refuse as well where the difference isn't shown to be below the limit; else only where it is shown to be
            above.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str | None = None
    on: GroupsOf = "user"
    column: str
    metric: AuditMetric
    limit: float = Field(gt=0, allow_inf_nan=False)
    strict: bool = False

    @model_validator(mode="after")
    def _metric_is_measured(self) -> Self:
        on = _WITHOUT_TASK.get(self.metric, "user")
        if self.on != on:
            raise ValueError(f"expected on: {on} for metric {self.metric}, found {self.on}")
        if (self.task is None) != (self.metric in _WITHOUT_TASK):
            expected = "no task" if self.metric in _WITHOUT_TASK else "a task"
            raise ValueError(f"expected {expected} for metric {self.metric}, found {self.task}")
        return self

    @property
    def name(self) -> str:
        """What is compared, as refusals say it."""
        return f"{'' if self.task is None else f'task {self.task}, '}{self.metric} by {self.on} {self.column}"


class GateConfig(BaseModel):
    """What publishing asks of the report; left empty, nothing.

    Attributes:
        not_worse_than: scorers that the shipped order must not be shown to be worse than on any item space where they
            are compared (the interval of the paired difference may include zero).
        better_than: scorers that it must be shown to be better than on the first item space.
        min_ndcg: least NDCG@k of the shipped order on the first item space.
        min_auc: task -> least AUC of its last scorer in the report, the blend.
        texts: task on texts -> metric -> bound of its value on held-out texts: the least where more is better, the most
            where less is (log loss, RMSE, MAE).
        min_index_recall: least recall of the index against exact search.
        max_gap: largest observed differences between groups, of those that `audit` compares.
        not_worse_than_current: metrics of the release that would be replaced; None compares nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    not_worse_than: tuple[str, ...] = ()
    better_than: tuple[str, ...] = ()
    min_ndcg: float | None = Field(default=None, ge=0, le=1)
    min_auc: dict[str, float] = Field(default_factory=dict)
    texts: dict[str, dict[TextMetric, float]] = Field(default_factory=dict)
    min_index_recall: float | None = Field(default=None, ge=0, le=1)
    max_gap: tuple[MaxGap, ...] = ()
    not_worse_than_current: NotWorseThanCurrent | None = None

    @property
    def asks(self) -> bool:
        """Whether publishing needs a report at all."""
        return self != GateConfig()

    def refusals(self, report: Report, current: str | None = None) -> list[str]:
        """Return why the report does not pass, one sentence each; empty when it does.

        What a rule needs and the report lacks is a refusal too: an unmeasured release is not a good one.

        Args:
            report: of the release.
            current: the release that it would replace; None for none.
        """
        found = [_compared(name, report.rankings[:1], worse_only=False) for name in self.better_than]
        found += [_compared(name, report.rankings, worse_only=True) for name in self.not_worse_than]
        if self.min_ndcg is not None:
            found.append(_ndcg(report, self.min_ndcg))
        found += [_auc(report, task, least) for task, least in self.min_auc.items()]
        found += [
            _text(report, task, metric, bound) for task, own in self.texts.items() for metric, bound in own.items()
        ]
        if self.min_index_recall is not None:
            found.append(_recall(report, self.min_index_recall))
        found += [_gap(report, limit) for limit in self.max_gap]
        if self.not_worse_than_current is not None:
            found += self.not_worse_than_current.refusals(report, current)
        return [reason for reason in found if reason]

    def check_names(self, users: Iterable[str], items: Iterable[str], tasks: Sequence[TaskSpec]) -> None:
        """Check that what the gaps and the bounds of texts are of is measured at all.

        Args:
            users: columns of the users that are compared.
            items: columns of the items.
            tasks: of the workspace.

        Raises:
            InvalidInputError: a gap names a column that is not compared, or no task; a bound names no task on texts, or
                a metric that its kind doesn't have; a metric compared with the current release is of no task.
        """
        self._check_texts(tasks)
        if self.not_worse_than_current is not None:
            self.not_worse_than_current.check_names(tasks)
        columns, known = {"user": tuple(users), "item": tuple(items)}, tuple(task.name for task in tasks)
        for limit in self.max_gap:
            if limit.column not in columns[limit.on]:
                where = f"gate.max_gap, column of audit.{limit.on}s"
                raise InvalidInputError(f"{where}: {unknown_name('column', limit.column, columns[limit.on])}")
            if limit.task is not None and limit.task not in known:
                raise InvalidInputError(f"gate.max_gap: {unknown_name('task', limit.task, known)}")

    def _check_texts(self, tasks: Sequence[TaskSpec]) -> None:
        kinds = {task.name: task.kind for task in tasks if task.on == "text" and task.kind in METRICS}
        for task, bounds in self.texts.items():
            if task not in kinds:
                raise InvalidInputError(f"gate.texts: {unknown_name('task on texts', task, kinds)}")
            # A calibration has a best value in the middle, which no bound tells.
            known = [metric for metric in METRICS[kinds[task]] if metric != "calibration"]
            for metric in bounds:
                if metric not in known:
                    where = f"gate.texts.{task}, of kind {kinds[task]}"
                    raise InvalidInputError(f"{where}: {unknown_name('bounded metric', metric, known)}")

    def check(self, report: Report, current: str | None = None) -> None:
        """Check a report; arguments as for `refusals`.

        Raises:
            GateError: every reason, one a line.
        """
        reasons = self.refusals(report, current)
        if reasons:
            listing = "\n".join(f"  {reason}" for reason in reasons)
            raise GateError(f"release {report.release_id} does not pass the workspace's gate:\n{listing}")


def _compared(name: str, tables: tuple[RankingTable, ...], *, worse_only: bool) -> str | None:
    rows = [
        (table, row)
        for table in tables
        for row in table.differences
        if row.scorer == table.shipped and row.baseline == name
    ]
    if not rows:
        return f"expected a paired difference of the shipped order to {name!r}, found none in the report"
    for table, row in rows:
        verdict = row.difference.verdict
        if verdict == "below" or (verdict == "level" and not worse_only):
            wanted = "not worse than" if worse_only else "better than"
            figure = row.difference
            return (
                f"{table.title}: expected {table.shipped} {wanted} {name}, found {row.metric} {figure.value:+.4f} "
                f"with interval {figure.low} to {figure.high}"
            )
    return None


def _ndcg(report: Report, least: float) -> str | None:
    if not report.rankings:
        return f"expected NDCG of at least {least}, found no ranking in the report"
    table = report.rankings[0]
    value = next(row.ndcg.value for row in table.scorers if row.scorer == table.shipped)
    if value >= least:
        return None
    return f"{table.title}: expected NDCG@{table.k} of at least {least}, found {value:.4f}"


def _auc(report: Report, task: str, least: float) -> str | None:
    rows = [row for row in report.tasks if row.task == task]
    if not rows or rows[-1].auc is None:
        return f"task {task}: expected an AUC of at least {least}, found none in the report"
    value = rows[-1].auc.value
    return None if value >= least else f"task {task}: expected an AUC of at least {least}, found {value:.4f}"


def _text(report: Report, task: str, metric: TextMetric, bound: float) -> str | None:
    most = metric in LOWER_IS_BETTER
    wanted = f"task {task}: expected {metric} of at {'most' if most else 'least'} {bound} on held-out texts"
    found = next((row.figure(metric) for row in report.texts if row.task == task), None)
    if found is None:
        return f"{wanted}, found none in the report"
    passes = found.value <= bound if most else found.value >= bound
    return None if passes else f"{wanted}, found {found.value:.4f}"


def _recall(report: Report, least: float) -> str | None:
    if not report.index:
        return f"expected an index recall of at least {least}, found none in the report"
    worst = min(report.index, key=lambda row: row.recall.value)
    if worst.recall.value >= least:
        return None
    return f"index {worst.kind}: expected a recall of at least {least}, found {worst.recall.value:.4f}"


def _gap(report: Report, limit: MaxGap) -> str | None:
    wanted = (limit.task, limit.on, limit.column, limit.metric)
    rows = [
        row
        for row in (report.audit.comparisons if report.audit else ())
        if (row.task, row.on, row.column, row.metric) == wanted
    ]
    most = f"{limit.name}: expected an observed difference of at most {limit.limit}"
    if not rows:
        return f"{most}, found none in the report"
    found, between = rows[0].gap, f"between {rows[0].highest} and {rows[0].lowest}"
    if found is None or found.low is None or found.high is None:
        return f"{most}, found fewer than two groups that count"
    if found.low > limit.limit:
        return f"{most}, found {found.value:.4f} {between}, with interval {found.low:.4f} to {found.high:.4f} above it"
    if limit.strict and found.high > limit.limit:
        shown = f"{found.value:.4f} {between}, with interval {found.low:.4f} to {found.high:.4f}"
        return f"{most}, shown by its whole interval (strict), found {shown}"
    return None
