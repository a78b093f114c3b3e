"""The heat map: every value to be read, strength as opacity, groups framed, colours the page's own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from flows import charts
from flows.heatmap import heat_map

NAMES = ["purchase", "repurchase & more", "churn"]
# Off the diagonal .04 is strongest.
MATRIX = [[0.5, 0.02, -0.01], [0.04, 0.5, None], [-0.02, 0.0, 0.5]]
POSITIVE, NEGATIVE = "var(--series-0)", "var(--series-4)"


def _texts(svg: str) -> list[str]:
    return list(re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def _strengths(svg: str, colour: str) -> list[float]:
    return [float(found) for found in re.findall(rf"fill: {re.escape(colour)}; opacity: ([\d.e-]+)", svg)]


@pytest.fixture(scope="module")
def svg() -> str:
    return heat_map(NAMES, MATRIX, title='what a "step" does', rows="step on", columns="effect on")


def test_every_value_is_written_with_digits_enough(svg: str) -> None:
    # log10 .04 = -1.4: two digits of the strongest need 1 + 2 = 3 decimals.
    values = ["0.500", "0.020", "−0.010", "0.040", "0.500", "–", "−0.020", "0.000", "0.500"]
    texts = _texts(svg)
    assert [text for text in texts if text in set(values)] == values
    assert {"purchase", "repurchase &amp; more", "churn", "step on", "effect on"} <= set(texts)


def test_strength_is_relative_to_the_strongest_pair(svg: str) -> None:
    # Half at most: .02 and .04 of .04; the diagonal's .5 is beyond and no stronger; zero and unknown have no colour.
    assert _strengths(svg, POSITIVE) == pytest.approx([0.5, 0.25, 0.5, 0.5, 0.5])
    assert _strengths(svg, NEGATIVE) == pytest.approx([0.125, 0.25])


def test_drawing_is_well_formed_and_in_the_pages_colours(svg: str) -> None:
    root = ET.fromstring(svg)  # noqa: S314  drawn here, not received
    assert root.attrib["aria-label"] == 'what a "step" does'
    assert not any(stand_in in svg for stand_in in charts.VARIABLES)
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000"}
    assert heat_map(NAMES, MATRIX, title='what a "step" does', rows="step on", columns="effect on") == svg


def test_groups_order_the_tasks_and_are_framed(svg: str) -> None:
    grouped = heat_map(NAMES, MATRIX, title="t", groups=[["churn", "purchase"], [NAMES[1]]])
    texts = [text for text in _texts(grouped) if text in {"purchase", "churn", "repurchase &amp; more"}]
    assert texts == ["churn", "purchase", "repurchase &amp; more"] * 2
    # churn's row begins with its own .5, then its effect on purchase.
    assert _strengths(grouped, NEGATIVE) == pytest.approx([0.25, 0.125])
    frame = r"fill: none; stroke: var\(--ink\)"
    assert len(re.findall(frame, grouped)) - len(re.findall(frame, svg)) == 2


@pytest.mark.parametrize("matrix", [[[1.0]], [[None]]])
def test_one_task(matrix: list[list[float | None]]) -> None:
    assert ("1.00" if matrix[0][0] else "–") in _texts(heat_map(["only"], matrix, title="t"))


def test_a_tiny_negative_is_no_negative_zero() -> None:
    texts = _texts(heat_map(["a", "b"], [[1.0, 0.5], [-0.001, 1.0]], title="t"))
    assert "0.00" in texts
    assert "−0.00" not in texts


def _width(svg: str) -> float:
    return float(re.findall(r"--natural: (\d+)px", svg)[0]) / 72


def test_many_tasks_get_a_wider_drawing() -> None:
    assert _width(heat_map(["a", "b"], [[1.0, 0.5]] * 2, title="t")) == charts.WIDTH
    # 20 points, three letters of 11.5 * .6, and 18 columns of 5 * .6 * 8: 472.7 points, shown as 473 pixels.
    names = [f"t{n:02d}" for n in range(18)]
    wide = heat_map(names, [[0.25] * 18] * 18, title="t")
    assert _width(wide) == pytest.approx(473 / 72)
    assert _texts(wide).count("0.25") == 18**2


def test_long_names_leave_the_cells_their_height() -> None:
    short, long = (heat_map([name] * 3, [[0.5] * 3] * 3, title="t") for name in ("a" * 2, "a" * 34))
    heights = [float(re.findall(r'viewBox="0 0 \S+ (\S+)"', svg)[0]) for svg in (short, long)]
    # 32 letters more, sloping 40 degrees: 32 * 11.5 * .6 * .6428.
    assert heights[1] - heights[0] == pytest.approx(141.9, abs=0.1)


def test_figures_too_small_to_read_are_left_out() -> None:
    names = [f"t{n}" for n in range(40)]
    crowded = heat_map(names, [[0.25] * 40] * 40, title="t")
    # (576 - 20 - 3 * 11.5 * .6) / 40 points of a cell for 4 + 1 figures: 4.5 points each at most.
    assert "0.25" not in _texts(crowded)
    assert len(_strengths(crowded, POSITIVE)) == 40**2
