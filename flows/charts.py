"""Plots of a report as inline SVG that follows the page's colours, light or dark.

Matplotlib writes colours into each element's style; each chart is drawn in stand-in colours, which are then replaced by
the page's CSS variables. Text stays text, in the page's font. Figures are drawn without pyplot, so no state is shared.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, product
from typing import Any, Final, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator

from flows.report import (
    Curve,
    Figure,
    RankingTable,
    ReliabilityBin,
    StageRecord,
    TaskScores,
    TextScores,
    TrainingRun,
)

# Stand-in colour -> CSS variable of templates/page.css. Odd values, so that nothing else in the SVG equals one.
INK: Final = "#010203"
MUTED: Final = "#040506"
GRID: Final = "#070809"
ACCENT: Final = "#0a0b0c"
QUIET: Final = "#0d0e0f"
SERIES: Final = ("#131415", "#161718", "#191a1b", "#1c1d1e", "#1f2021", "#222324")
VARIABLES: Final = {
    INK: "--ink", MUTED: "--muted", GRID: "--grid", ACCENT: "--accent", QUIET: "--quiet",
    **{colour: f"--series-{position}" for position, colour in enumerate(SERIES)},
}  # fmt: skip

# Inches at 72 dots: 430 px, so a chart is near its own size both on a phone and in the two-column layout.
WIDTH: Final = 6.0
# Characters of a name beside a bar: as many take half the drawing, and leave the bars the other.
LINE: Final = 30
# More curves than this hide behind a legend among them.
CROWDED: Final = 4
# Colours first, then dashes: more curves than colours still differ.
CURVES: Final = tuple(product(("-", (0, (5, 2)), (0, (1, 1.5))), SERIES))
# Any: matplotlib types the keys as one Literal of all its settings.
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none", "svg.hashsalt": "polyrank", "text.parse_math": False,
    "font.family": "sans-serif", "font.size": 11.5,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID, "xtick.color": MUTED, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": GRID, "grid.linewidth": 0.8,
    "xtick.major.size": 0.0, "ytick.major.size": 0.0, "xtick.major.pad": 6.0,
    "legend.frameon": False, "legend.labelcolor": INK,
}  # fmt: skip


def ranking_bars(table: RankingTable) -> str:
    """Return NDCG@k of each scorer as horizontal bars with intervals; the shipped scorer stands out."""
    rows = list(reversed(table.scorers))
    names = [wrapped(row.scorer) for row in rows]
    with chart(height=0.6 + rows_height(names)) as (canvas, axes):
        for position, row in enumerate(rows):
            colour = ACCENT if row.scorer == table.shipped else SERIES[1] if row.group == "stage" else QUIET
            axes.barh(position, row.ndcg.value, height=0.66, color=colour)
            _interval(axes, row.ndcg, position)
        axes.set_yticks(range(len(rows)), names)
        axes.set_xlabel(f"NDCG@{table.k}")
        axes.set_xlim(left=0)
        _plain(axes, "x")
    return svg(canvas, f"NDCG@{table.k} by scorer, {table.title}")


def reliability(scores: Sequence[TaskScores]) -> str:
    """Return one task's reliability curves, one line per scorer."""
    return _reliability(scores[0].task, {row.scorer: row.reliability for row in scores})


def text_reliability(scores: TextScores) -> str:
    """Return the reliability curve of a task on texts."""
    return _reliability(scores.task, {"encoder head": scores.reliability})


def _reliability(task: str, curves: Mapping[str, Sequence[ReliabilityBin]]) -> str:
    """Return reliability curves by scorer, predicted against observed.

    Both axes are logarithmic when the positives are rare: on a linear scale every bin of a 1% task sits in the corner.
    """
    with chart(height=3.8) as (canvas, axes):
        points = [(bin_.predicted, bin_.observed) for curve in curves.values() for bin_ in curve]
        positive = [value for pair in points for value in pair if value > 0]
        rare = bool(positive) and sorted(value for value, _ in points)[len(points) // 2] < 0.05
        low, high = (min(positive) * 0.7, min(1.0, max(positive) * 1.4)) if rare else (0.0, _ceiling(positive))
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 4)), label="calibrated")
        for colour, (scorer, curve) in zip(cycle(SERIES), curves.items(), strict=False):
            bins = [bin_ for bin_ in curve if not rare or min(bin_.predicted, bin_.observed) > 0]
            predicted, observed = [bin_.predicted for bin_ in bins], [bin_.observed for bin_ in bins]
            axes.plot(predicted, observed, color=colour, linewidth=1.8, marker="o", markersize=4, label=scorer)
        if rare:
            axes.set(xscale="log", yscale="log")
            # Beyond three decades ticks at 3, too, would run into each other.
            subs = (1.0, 3.0) if high / low < 1_000 else (1.0,)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(subs=subs))
                axis.set_major_formatter(FuncFormatter(_plain_number))
        axes.set(xlabel="predicted probability", ylabel="observed share", xlim=(low, high), ylim=(low, high))
        axes.minorticks_off()
        _plain(axes, "both")
        axes.legend(loc="upper left", fontsize=10)
    return svg(canvas, f"Reliability of {task}")


def training_curves(run: TrainingRun) -> str:
    """Return the losses by step, with the kept step marked; the names of many curves stand below the drawing."""
    crowded = len(run.curves) > CROWDED
    columns = 3 if max((len(curve.name) for curve in run.curves), default=0) <= LINE // 2 else 2
    below = 0.22 * -(-(len(run.curves) + 1) // columns) if crowded else 0.0
    with chart(height=3.2 + below) as (canvas, axes):
        for (dashes, colour), curve in zip(cycle(CURVES), run.curves, strict=False):
            (line,) = axes.plot(curve.steps, curve.losses, label=curve.name, color=colour, linestyle=dashes)
            line.set(linewidth=1.8, marker=_marker(curve), markersize=4)
        if run.best_step is not None:
            axes.axvline(run.best_step, color=MUTED, linewidth=1, linestyle=(0, (4, 4)), label="kept")
        axes.set(xlabel="step", ylabel=wrapped(run.measure))
        _plain(axes, "both")
        if crowded:
            canvas.legend(loc="outside lower left", ncols=columns, fontsize=10)
        else:
            axes.legend(loc="best", fontsize=10)
    return svg(canvas, "Encoder training loss by step")


def stage_bars(stages: Sequence[StageRecord]) -> str:
    """Return the time of each stage as horizontal bars, in the order they ran; reused ones are grey."""
    rows = list(reversed(stages))
    names = [wrapped(row.name) for row in rows]
    with chart(height=0.6 + rows_height(names)) as (canvas, axes):
        colours = [QUIET if row.reused else SERIES[0] for row in rows]
        axes.barh(range(len(rows)), [row.seconds for row in rows], height=0.66, color=colours)
        axes.set_yticks(range(len(rows)), names)
        axes.set_xlabel("seconds")
        _plain(axes, "x")
    return svg(canvas, "Seconds of each stage")


def wrapped(name: str) -> str:
    """Return a name in lines of at most `LINE` characters where its words allow; underscores part them as spaces do."""
    lines = [""]
    for piece in re.findall(r"[^ _]*[ _]?", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > LINE:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def rows_height(names: Sequence[str]) -> float:
    """Return the inches that rows of these names take, each as much as that of the most lines."""
    return len(names) * (0.34 + 0.14 * max((name.count("\n") for name in names), default=0))


def _interval(axes: Axes, figure: Figure, position: int) -> None:
    if figure.low is None or figure.high is None:
        return
    axes.plot([figure.low, figure.high], [position, position], color=INK, linewidth=1.4, solid_capstyle="butt")


def _marker(curve: Curve) -> str:
    # A validation curve has a few points only, which a bare line would hide.
    return "o" if len(curve.steps) <= 12 else ""


def _ceiling(values: Iterable[float]) -> float:
    return min(1.0, max(values, default=1.0) * 1.08)


def _plain(axes: Axes, grid: Literal["x", "both"]) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=grid)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(side == "left")


def _plain_number(value: float, _: int) -> str:
    # 0.00003 is one of a row of such labels, 3e-05 isn't.
    return f"{value:.10f}".rstrip("0").rstrip(".")


@contextmanager
def chart(height: float, width: float = WIDTH) -> Iterator[tuple[Canvas, Axes]]:
    """Yield a canvas of `width` and `height` inches, and its axes, to be drawn on in the house's style."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        yield canvas, canvas.add_subplot()


def svg(canvas: Canvas, label: str) -> str:
    """Return the drawing as an `<svg>` element without prologue or date, in CSS variables.

    It has no size but `--natural`, the width at which its text has the size it was drawn in.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        canvas.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    head, body = text.split(">", 1)
    view_box = head[head.index('viewBox="') :].split('"')[1]
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return (
        f'<svg viewBox="{view_box}" style="--natural: {72 * canvas.get_figwidth():.0f}px" role="img" '
        f'aria-label="{html.escape(label)}" xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    )
