"""Units of texts with and without spaces."""

from __future__ import annotations

import pytest

from features.units import Unit, unit_spans


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("a bc,  d\n", "word", [(0, 1), (2, 5), (7, 8)]),
        ("ab c", "character", [(0, 1), (1, 2), (3, 4)]),
        # An ideographic space and a no-break space are spaces; the emoji is one character of one code point.
        ("辣椒\u3000酱", "character", [(0, 1), (1, 2), (3, 4)]),
        ("tea\u00a0\U0001f375", "word", [(0, 3), (4, 5)]),
        (" \t", "word", []),
        ("", "character", []),
    ],
)
def test_spans(text: str, unit: Unit, expected: list[tuple[int, int]]) -> None:
    assert unit_spans(text, unit) == expected
