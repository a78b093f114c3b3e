"""The audit: quality by groups of users, exposure by groups of items."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt

from flows.report.figures import Figure, Part, Probability

AuditMetric = Literal["auc", "log_loss", "calibration", "selection", "ndcg", "exposure"]
GroupsOf = Literal["user", "item"]


class GroupFigure(Part):
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


class GroupComparison(Part):
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


class ExposureShare(Part):
    """A group of items: its share of what users are shown, of what they took in the window, and of the catalogue."""

    group: str
    items: NonNegativeInt
    exposure: Figure
    relevant: Figure
    catalogue: Figure


class ExposureTable(Part):
    """Every group of a column of the items."""

    column: str
    groups: tuple[ExposureShare, ...]


class AuditReport(Part):
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
