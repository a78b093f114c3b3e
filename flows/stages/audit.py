"""The audit of a release: what it is worth to each group of users, and what it shows of each group of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.groups import Groups
from features.schema import Int32
from flows.report import (
    AuditMetric,
    AuditReport,
    ExposureShare,
    ExposureTable,
    Figure,
    GroupComparison,
    GroupFigure,
    GroupsOf,
)
from flows.stages.data import Mask
from ranking.audit import ByGroup, GroupedRows, exposure_shares, gap, mean_by_group, relevant_shares
from retrieval.evaluate import ranking_metrics

Float64 = npt.NDArray[np.float64]

_NO_VALUE: Final = "(no value)"


class AuditConfig(BaseModel):
    """Which groups an evaluation compares; left empty, none.

    Attributes:
        users: columns of the users whose values tell groups.
        items: columns of the items.
        smallest: users (items) that a group needs to count for a gap; smaller ones are shown and marked.
        selected: share of the users whom an action on a user task takes, the likeliest first: its selection rate by
            group is what such an action would mean for each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    smallest: int = Field(30, ge=2)
    selected: float = Field(0.1, gt=0, lt=1)

    @property
    def asks(self) -> bool:
        """Whether there is anything to compare."""
        return bool(self.users or self.items)


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedTask:
    """What the release says of one task's held-out rows.

    Attributes:
        name: the task's.
        on: what a row is.
        users: int32 `[m]` position of each row's user.
        labels: float64 `[m]`, NaN for rows without one.
        probabilities: float64 `[m]` as served; NaN where the task doesn't apply.
    """

    name: str
    on: Literal["pair", "user"]
    users: Int32
    labels: Float64
    probabilities: Float64


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What held-out users are shown, and what they took.

    Attributes:
        users: int32 `[u]` positions.
        lists: per user, int32 item positions, best first.
        relevant: per user, int32 item positions; at least one.
        eligible: bool `[n_items]`: the catalogue.
        k: places that are seen.
    """

    users: Int32
    lists: Sequence[Int32]
    relevant: Sequence[Int32]
    eligible: Mask
    k: int


def audit(
    config: AuditConfig, users: pl.DataFrame, items: pl.DataFrame, tasks: Sequence[ServedTask], shown: Shown
) -> AuditReport | None:
    """Compare groups.

    Args:
        config: which.
        users: the users table, by position.
        items: the items table, by position.
        tasks: on held-out rows.
        shown: to held-out users, of whom there are some.

    Returns:
        None where nothing is asked for.

    Raises:
        InvalidInputError: no such column, or one that makes no groups.
    """
    if not config.asks:
        return None
    comparisons: list[GroupComparison] = []
    for column in config.users:
        groups = _Audited.of(users, column, "user", config.smallest)
        for task in tasks:
            comparisons += _task_comparisons(groups, task, config.selected)
        comparisons.append(_ndcg(groups, shown))
    tables = []
    for column in config.items:
        comparison, table = _exposure(_Audited.of(items, column, "item", config.smallest), shown)
        comparisons.append(comparison)
        tables.append(table)
    return AuditReport(
        smallest=config.smallest,
        selected=config.selected,
        k=shown.k,
        comparisons=tuple(comparisons),
        exposure=tuple(tables),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Audited:
    """A column's groups, the last of which may be those without a value; codes int32 `[n]` by position."""

    column: str
    on: GroupsOf
    names: tuple[str, ...]
    codes: Int32
    smallest: int

    @classmethod
    def of(cls, table: pl.DataFrame, column: str, on: GroupsOf, smallest: int) -> _Audited:
        groups = Groups.of(table, column, f"{on}s")
        codes = groups.codes(table)
        lacking: Int32 = np.where(codes < 0, len(groups.names), codes).astype(np.int32)
        names = (*groups.names, _NO_VALUE) if (codes < 0).any() else groups.names
        return cls(column=column, on=on, names=names, codes=lacking, smallest=smallest)

    def compare(
        self, found: ByGroup, sizes: npt.NDArray[np.intp], metric: AuditMetric, *, task: str | None = None,
        users: int | None = None,
    ) -> GroupComparison:  # fmt: skip
        """Return a metric by group.

        Args:
            found: the metric.
            sizes: `[groups]` what takes part of each; a group without anything is left out.
            metric: its name.
            task: whose.
            users: over whom every group's figure is taken; None where that is the group's own size.
        """
        marks = [self._mark(name, int(size)) for name, size in zip(self.names, sizes, strict=True)]
        apart = gap(found, np.array([mark is None for mark in marks]))
        counted = int(sum(size for size, mark in zip(sizes, marks, strict=True) if mark is None))
        rows = zip(self.names, sizes, marks, range(len(self.names)), strict=True)
        return GroupComparison(
            task=task,
            on=self.on,
            column=self.column,
            metric=metric,
            groups=tuple(
                GroupFigure(group=name, size=int(size), mark=mark, figure=figure_of(found, code, users or int(size)))
                for name, size, mark, code in rows
                if size
            ),
            highest=self.names[apart.highest] if apart else None,
            lowest=self.names[apart.lowest] if apart else None,
            gap=Figure(value=apart.value, low=apart.low, high=apart.high, n=users or counted) if apart else None,
        )

    def _mark(self, name: str, size: int) -> Literal["small", "no value"] | None:
        if name == _NO_VALUE:
            return "no value"
        return "small" if size < self.smallest else None


def figure_of(found: ByGroup, group: int, n: int) -> Figure | None:
    """Return a group's figure; None where the metric is undefined."""
    value, ends = float(found.values[group]), found.interval(group)
    if np.isnan(value):
        return None
    return Figure(value=value, n=n) if ends is None else Figure(value=value, low=ends[0], high=ends[1], n=n)


def _task_comparisons(groups: _Audited, task: ServedTask, selected: float) -> Iterator[GroupComparison]:
    """Yield the metrics of one task's probabilities; nothing where no row has a label."""
    kept = ~np.isnan(task.labels) & ~np.isnan(task.probabilities)
    if not kept.any():
        return
    labels, probabilities = task.labels[kept] > 0, task.probabilities[kept]
    rows = GroupedRows.of(task.users[kept], groups.codes, len(groups.names))
    yield groups.compare(rows.auc(labels, probabilities), rows.sizes, "auc", task=task.name)
    yield groups.compare(rows.log_loss(labels, probabilities), rows.sizes, "log_loss", task=task.name)
    yield groups.compare(rows.ratio(probabilities, labels), rows.sizes, "calibration", task=task.name)
    if task.on == "user":
        # On pairs every user is shown as many as any other: there is no rate to compare.
        taken = probabilities >= np.sort(probabilities)[-max(1, round(selected * len(probabilities)))]
        yield groups.compare(rows.ratio(taken), rows.sizes, "selection", task=task.name)


def _ndcg(groups: _Audited, shown: Shown) -> GroupComparison:
    """Return the shipped order's NDCG by group."""
    found = ranking_metrics(shown.lists, shown.relevant, k=shown.k, catalogue=int(shown.eligible.sum()))
    rows = GroupedRows.of(shown.users, groups.codes, len(groups.names))
    return groups.compare(rows.ratio(found.ndcg), rows.sizes, "ndcg")


def _exposure(groups: _Audited, shown: Shown) -> tuple[GroupComparison, ExposureTable]:
    """Return the groups' shares of what is shown, of what is relevant and of the catalogue."""
    catalogue = np.bincount(groups.codes[np.flatnonzero(shown.eligible)], minlength=len(groups.names))
    seen = exposure_shares(shown.lists, groups.codes, len(groups.names), k=shown.k)
    took = relevant_shares(shown.relevant, groups.codes, len(groups.names))
    n, exposure, relevant = len(shown.users), mean_by_group(seen), mean_by_group(took)
    rows = []
    for code, name in enumerate(groups.names):
        of_exposure, of_relevant = figure_of(exposure, code, n), figure_of(relevant, code, n)
        assert of_exposure is not None
        assert of_relevant is not None
        share = Figure(value=catalogue[code] / catalogue.sum(), n=int(catalogue.sum()))
        rows.append(
            ExposureShare(
                group=name, items=int(catalogue[code]), exposure=of_exposure, relevant=of_relevant, catalogue=share
            )
        )
    comparison = groups.compare(mean_by_group(seen - took), catalogue, "exposure", users=n)
    return comparison, ExposureTable(column=groups.column, groups=tuple(rows))
