"""Plots of a search, in the look of `flows.charts`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from flows.charts import ACCENT, INK, MUTED, QUIET, SERIES, chart, rows_height, svg, wrapped
from flows.report import Figure
from flows.tune.report import SideSearch, TaskGain


def search_chart(search: SideSearch) -> str:
    """Return the error of each trial with the best so far; failed trials are crosses at the bottom.

    The error's axis ends a little above the workspace's own configuration or the worst quarter, whichever is higher: a
    configuration that learnt nothing would press all others together.
    """
    errors = {row.number: row.error for row in search.trials if row.error is not None}
    numbers, values = np.array(list(errors)), np.array(list(errors.values()))
    with chart(height=2.8) as (canvas, axes):
        axes.scatter(numbers + 1, values, s=22, color=SERIES[0], zorder=3, label="trial", clip_on=True)
        axes.step(numbers + 1, np.minimum.accumulate(values), where="post", color=ACCENT, linewidth=1.8, label="best")
        low, own = float(values.min()), float(values[0])
        high = max(own, float(np.quantile(values, 0.75)))
        room = 0.15 * (high - low) or 0.05 * abs(high) or 0.05
        axes.set(xlabel="trial", ylabel="error", ylim=(low - room, high + room), xlim=(0.4, len(search.trials) + 0.6))
        for row in search.failed:
            axes.plot(row.number + 1, low - 0.6 * room, marker="x", color=SERIES[4], markersize=7, zorder=4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_axisbelow(True)
        axes.grid(visible=True)
        axes.legend(loc="best", fontsize=10)
    return svg(canvas, f"Error of {search.side} by trial")


def gain_chart(gains: Sequence[TaskGain]) -> str:
    """Return each task's gain in percent with its interval, around zero."""
    rows = {row.task: row.gain for row in gains if row.gain is not None}
    losers = [row.task for row in gains if row.loses]
    return share_bars(rows, "error saved by training together, %", "Gain of each task from training together", losers)


def share_bars(rows: Mapping[str, Figure], axis: str, label: str, bad: Collection[str] = ()) -> str:
    """Return shares as bars in percent around zero, with intervals.

    Args:
        rows: by name, from top to bottom.
        axis: what a bar's length is.
        label: read out in place of the drawing.
        bad: names of rows that stand out as losses; gains told apart from zero stand out the other way.
    """
    names = list(rows)[::-1]
    shown = [wrapped(name) for name in names]
    with chart(height=0.8 + rows_height(shown)) as (canvas, axes):
        axes.axvline(0, color=MUTED, linewidth=1)
        for position, name in enumerate(names):
            share = rows[name]
            colour = SERIES[4] if name in bad else ACCENT if share.verdict == "above" else QUIET
            axes.barh(position, 100 * share.value, height=0.62, color=colour)
            if share.low is not None and share.high is not None:
                axes.plot([100 * share.low, 100 * share.high], [position, position], color=INK, linewidth=1.4)
        axes.set_yticks(range(len(names)), shown)
        axes.set_xlabel(axis)
        axes.set_axisbelow(True)
        axes.grid(visible=True, axis="x")
    return svg(canvas, label)


def importance_chart(importance: Mapping[str, float]) -> str:
    """Return how much of the error's variance each option explains, largest first."""
    names = list(importance)[::-1]
    shown = [wrapped(name) for name in names]
    with chart(height=0.6 + rows_height(shown)) as (canvas, axes):
        axes.barh(range(len(names)), [importance[name] for name in names], height=0.62, color=SERIES[0])
        axes.set_yticks(range(len(names)), shown)
        axes.set_xlabel("share of variance explained")
        axes.set_axisbelow(True)
        axes.grid(visible=True, axis="x")
    return svg(canvas, "Importance of each option")
