"""A task-by-task matrix as a heat map: inline SVG in the page's colours, like the plots of `flows.charts`.

Strength is the opacity of one colour for each sign, over the page's own background: it reads on light and dark pages,
where a fixed colour map would fit one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from flows.charts import GRID, INK, MUTED, SERIES, STYLE, WIDTH, chart, svg

POSITIVE: Final = SERIES[0]
NEGATIVE: Final = SERIES[4]
# Ink on half of either colour has a contrast above 4.5 (WCAG 2.2, AA), on light and dark pages.
STRONGEST: Final = 0.5
# Points; smaller figures can't be read on a phone, and the colours alone are shown.
SMALLEST_TEXT: Final = 5.5
LARGEST_TEXT: Final = 10.0
# Points for which a drawing grows, up to so many inches; from there on its figures shrink.
WANTED_TEXT: Final = 8.0
WIDEST: Final = 8.0
# Width of a letter over its font's size, a digit's in most fonts.
_LETTER: Final = 0.6
# Degrees of the names below.
_SLOPE: Final = 40
# Points of a row: where rows are many, and where there is room.
_DENSE, _LOOSE = 22.0, 30.0


def heat_map(
    names: Sequence[str],
    matrix: Sequence[Sequence[float | None]],
    *,
    title: str,
    rows: str = "",
    columns: str = "",
    short: Sequence[str] = (),
    groups: Sequence[Sequence[str]] = (),
) -> str:
    """Return a matrix as coloured cells with their values; unknown ones show a dash.

    The strongest colour is that of the largest absolute value off the diagonal.

    Args:
        names: of rows and columns, at least one.
        matrix: `[T, T]`, None where unknown.
        title: read out in place of the drawing.
        rows: what a row stands for ("step on").
        columns: what a column stands for ("effect on").
        short: names to set below the columns, level; empty takes the whole names, on a slope.
        groups: partition of the names; they are drawn in this order, each group in a frame.
    """
    order = [names.index(name) for group in groups for name in group] or list(range(len(names)))
    cells = [[matrix[row][column] for column in order] for row in order]
    apart = [abs(value) for i, row in enumerate(cells) for j, value in enumerate(row) if i != j and value is not None]
    full = max(apart, default=0.0) or 1.0
    decimals = max(2, 1 - math.floor(math.log10(full)))
    size = _Size.of(
        names, max(len(_text(value, decimals)) for row in cells for value in row), has_title=bool(rows), short=short
    )
    with chart(height=size.height, width=size.width) as (canvas, axes):
        for i, row in enumerate(cells):
            for j, value in enumerate(row):
                _cell(axes, i, j, value, full)
        _digits(axes, cells, decimals, size.text)
        _frames(axes, groups)
        labels = [names[position] for position in order]
        axes.set_yticks(range(len(labels)), labels)
        if short:
            axes.set_xticks(range(len(labels)), [short[position] for position in order])
        else:
            axes.set_xticks(range(len(labels)), labels, rotation=_SLOPE, ha="right", rotation_mode="anchor")
        axes.set(xlim=(-0.55, len(names) - 0.45), ylim=(len(names) - 0.45, -0.55), xlabel=columns, ylabel=rows)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return svg(canvas, title)


@dataclass(frozen=True, kw_only=True)
class _Size:
    """How large a drawing is.

    Attributes:
        width: inches.
        height: inches.
        text: points of the figures in its cells.
    """

    width: float
    height: float
    text: float

    @classmethod
    def of(cls, names: Sequence[str], wide: int, *, has_title: bool, short: Sequence[str]) -> Self:
        """Return the size for these names and figures of `wide` characters."""
        longest = _LETTER * STYLE["font.size"] * max(len(name) for name in names)
        # The margins, and what the rows stand for, set upright.
        beside = longest + (40 if has_title else 20)
        figure = _LETTER * (wide + 1)
        width = min(WIDEST, max(WIDTH, (beside + len(names) * figure * WANTED_TEXT) / 72))
        text = min(LARGEST_TEXT, (72 * width - beside) / len(names) / figure)
        row = _LOOSE if len(names) <= 8 else _DENSE
        # The names on their slope, or short ones in a line, what the columns stand for, and the margins.
        tallest = 0.0 if short else longest * math.sin(math.radians(_SLOPE))
        below = tallest + STYLE["font.size"] * math.sin(math.radians(_SLOPE)) + 50
        return cls(width=width, height=(below + len(names) * row) / 72, text=text)


def _cell(axes: Axes, row: int, column: int, value: float | None, full: float) -> None:
    strength = 0.0 if value is None else STRONGEST * min(1.0, abs(value) / full)
    colour = POSITIVE if value is None or value >= 0 else NEGATIVE
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=strength, linewidth=0))
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=GRID, linewidth=0.8))


def _digits(axes: Axes, cells: Sequence[Sequence[float | None]], decimals: int, size: float) -> None:
    """Write the values, all with as many decimals as show two digits of the strongest, if they can be read."""
    if size < SMALLEST_TEXT:
        return
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            colour = MUTED if value is None else INK
            axes.text(j, i, _text(value, decimals), ha="center", va="center", fontsize=size, color=colour)


def _text(value: float | None, decimals: int) -> str:
    # A true minus sign, as wide as a digit.
    return "–" if value is None else f"{value:z.{decimals}f}".replace("-", "−")


def _frames(axes: Axes, groups: Sequence[Sequence[str]]) -> None:
    start = 0
    for group in groups:
        axes.add_patch(Rectangle((start - 0.5, start - 0.5), len(group), len(group), fill=False, edgecolor=INK))
        start += len(group)
