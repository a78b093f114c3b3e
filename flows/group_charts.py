"""Drawings of an audit: a dot with its interval for each group."""

from __future__ import annotations

from flows.charts import ACCENT, INK, MUTED, QUIET, SERIES, chart, svg
from flows.report import ExposureTable, Figure, GroupComparison
from flows.words import metric_name

_SHARES = {"shown": ACCENT, "relevant": SERIES[1], "catalogue": QUIET}


def group_dots(comparison: GroupComparison, k: int) -> str:
    """Return one metric of every group; hollow dots are of groups that don't count for the gap.

    Args:
        comparison: what to draw.
        k: places that an order's metrics read.
    """
    rows = list(reversed(comparison.groups))
    name = metric_name(comparison.metric, k)
    with chart(height=0.7 + 0.34 * len(rows)) as (canvas, axes):
        for position, row in enumerate(rows):
            if row.figure is not None:
                counted = row.mark is None
                ends = _ends(row.figure)
                axes.plot(ends, [position, position], color=INK if counted else MUTED, linewidth=1.4)
                face = SERIES[0] if counted else "none"
                axes.plot(row.figure.value, position, "o", color=SERIES[0], markerfacecolor=face, markersize=6)
        axes.set_yticks(range(len(rows)), [row.group for row in rows])
        axes.set(xlabel=name, ylim=(-0.6, len(rows) - 0.4))
        axes.grid(visible=True, axis="x")
        axes.spines["bottom"].set_visible(False)
        axes.locator_params(axis="x", nbins=6)
    whose = "" if comparison.task is None else f" of {comparison.task}"
    return svg(canvas, f"{name}{whose} by {comparison.on} {comparison.column}")


def exposure_dots(table: ExposureTable) -> str:
    """Return each group's shares of what is shown, of what is relevant and of the catalogue."""
    rows = list(reversed(table.groups))
    with chart(height=1.0 + 0.5 * len(rows)) as (canvas, axes):
        for number, (name, colour) in enumerate(_SHARES.items()):
            figures = [(row.exposure, row.relevant, row.catalogue)[number] for row in rows]
            places = [position + 0.22 * (1 - number) for position in range(len(rows))]
            for place, figure in zip(places, figures, strict=True):
                axes.plot(_ends(figure), [place, place], color=INK, linewidth=1.4)
            axes.plot([figure.value for figure in figures], places, "o", color=colour, markersize=6, label=name)
        axes.set_yticks(range(len(rows)), [row.group for row in rows])
        axes.set(xlabel="share", ylim=(-0.6, len(rows) - 0.4))
        axes.set_xlim(left=0)
        axes.grid(visible=True, axis="x")
        axes.spines["bottom"].set_visible(False)
        axes.legend(loc="best", fontsize=10)
    return svg(canvas, f"Shares by item {table.column}")


def _ends(figure: Figure) -> list[float]:
    """Return where a figure's line begins and ends: at its value where it has no interval."""
    return [
        figure.value if figure.low is None else figure.low,
        figure.value if figure.high is None else figure.high,
    ]
