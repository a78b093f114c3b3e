from __future__ import annotations

import numpy as np
import pytest

from retrieval.encoder.ship.fidelity import neighbour_overlap, rank_correlation, tag_distance
from retrieval.encoder.ship.session import Float32
from retrieval.encoder.units import TextTags, TextUnits


def _at(*degrees: float) -> Float32:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_two_rows_that_change_places() -> None:
    expected, found = _at(0, 10, 30, 70), _at(0, 30, 10, 70)
    # Each row sees three others. Row 0 at 0 degrees has them 10, 30, 70 away, then 30, 10, 70: ranks 3, 2, 1 become
    # 2, 3, 1, so rho = 1 - 6 * (1 + 1 + 0) / (3 * (9 - 1)) = .5. Row 1: 10, 20, 60, then 30, 20, 40: 3, 2, 1 and 2, 3,
    # 1. Row 2: 30, 20, 40, then 10, 20, 60. Row 3: 70, 60, 40, then 70, 40, 60. Each has two ranks swapped.
    assert rank_correlation(expected, found) == pytest.approx(0.5)
    # The nearest: 1, 0, 1, 2 by one, 2, 2, 0, 1 by the other. The two nearest are the same two for every row.
    assert neighbour_overlap(expected, found, k=1) == 0
    assert neighbour_overlap(expected, found, k=2) == 1


def test_the_same_order_at_other_distances() -> None:
    # From each of 0, 10, 30, 70 the others are in the same order as from 0, 4, 14, 60.
    assert rank_correlation(_at(0, 10, 30, 70), _at(0, 4, 14, 60)) == pytest.approx(1.0)


def test_equally_near_rows_count_as_the_same() -> None:
    # Rows 1 and 2 are one point by the first encoder; the second prefers row 2 by a degree. Row 3's nearest is theirs.
    expected, found = _at(0, 20, 20, 50), _at(0, 21, 20, 50)
    assert neighbour_overlap(expected, found, k=1) == 1
    # Row 0 alone, with its nearest made the farthest: 0 of 1.
    assert neighbour_overlap(_at(0, 10, 50), _at(0, 50, 10), k=1, queries=1) == 0


def test_vectors_of_another_length() -> None:
    expected = _at(0, 10, 30, 70)
    wider = np.hstack([expected, np.zeros((4, 3), np.float32)])
    assert rank_correlation(expected, wider) == pytest.approx(1.0)


def _tags(*rows: tuple[float, float]) -> TextTags:
    """One word of one token for each row; the last word was cut off."""
    units = TextUnits.of("a " * (len(rows) + 1), "word", [(2 * place, 2 * place + 1) for place in range(len(rows))])
    return TextTags(units=units, probabilities=np.array([*rows, (np.nan, np.nan)], np.float32))


def test_distance_of_tags_by_hand() -> None:
    expected, found = [_tags((1, 0), (0.5, 0.5)), _tags((0.2, 0.8))], [_tags((0, 1), (0.5, 0.5)), _tags((0.5, 0.5))]
    # (|1 - 0| + |0 - 1|) / 2 = 1, then 0, then (.3 + .3) / 2: 1.3 over three words.
    assert tag_distance(expected, found) == pytest.approx(1.3 / 3)
    assert tag_distance(expected, expected) == 0
    assert tag_distance([_tags()], [_tags()]) == 0
