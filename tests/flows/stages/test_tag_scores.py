"""Tags by hand: right ones, wrong ones, units cut off, and a tag that is no class."""

from __future__ import annotations

import numpy as np
import pytest

from features.column_labels import UnitTags
from flows.stages.tag_scores import TagCounts
from retrieval.encoder.units import TextTags, TextUnits

CLASSES = ("B", "O", "X")
# "ab cd ef": three words; "gh": one.
SPANS = [[(0, 2), (3, 5), (6, 8)], [(0, 2)]]


def said(row: int, codes: list[int], *, read: int = 3) -> TextTags:
    """The codes of a text's words, of which only the first `read` were read."""
    spans = SPANS[row]
    tokens = [number + 1 if number < read else -1 for number in range(len(spans))]
    chances = np.full((len(spans), len(CLASSES)), 0.1, np.float32)
    chances[np.arange(len(spans)), codes] = 0.8
    chances[read:] = np.nan
    units = TextUnits(span=np.array(spans, np.int32), token=np.array(tokens, np.int64))
    return TextTags(units=units, probabilities=chances)


def labels(*rows: tuple[int, int, int]) -> UnitTags:
    """Tags of (text, word, code)."""
    return UnitTags(
        text=np.array([text for text, _, _ in rows], np.int32),
        span=np.array([SPANS[text][word] for text, word, _ in rows], np.int32).reshape(-1, 2),
        code=np.array([code for _, _, code in rows], np.int32),
    )


# B O X, and B.
LABELS = labels((0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 0, 0))


def counts(found: TagCounts) -> tuple[list[int], list[int], list[int]]:
    return found.hits.tolist(), found.said.tolist(), found.labelled.tolist()


def test_units_are_counted_text_by_text() -> None:
    # B B X: two right, one O taken for B. O instead of B.
    found = TagCounts.of(LABELS, [said(0, [0, 0, 2]), said(1, [1])], CLASSES)
    assert counts(found) == ([2, 0], [3, 0], [2, 1])
    # 2 x 2 / (3 + 3) over both texts, and nothing of the second alone.
    f1 = found.statistics["micro_f1"]
    assert f1(np.array([0, 1])) == pytest.approx(4 / 6)
    assert f1(np.array([1])) == 0


def test_a_unit_that_was_cut_off_is_given_no_tag() -> None:
    found = TagCounts.of(LABELS, [said(0, [0, 1, 2], read=2), said(1, [0])], CLASSES)
    assert counts(found) == ([1, 1], [1, 1], [2, 1])


def test_a_tag_that_is_no_class_is_never_right() -> None:
    # The first word's tag was left out of the labels, as the model has no such tag.
    found = TagCounts.of(labels((0, 1, 1), (0, 2, 2)), [said(0, [0, 1, 2])], CLASSES)
    assert counts(found) == ([1], [2], [2])


def test_the_constant_is_the_most_frequent_tag_of_training() -> None:
    both = [said(0, [0, 1, 2]), said(1, [0])]
    often_b = TagCounts.constant(LABELS, both, CLASSES, labels((0, 0, 0), (1, 0, 0), (0, 1, 1)))
    assert often_b is not None
    assert counts(often_b) == ([1, 1], [3, 1], [2, 1])
    often_o = TagCounts.constant(LABELS, both, CLASSES, labels((0, 1, 1)))
    assert often_o is not None
    assert counts(often_o) == ([0, 0], [0, 0], [2, 1])
    assert TagCounts.constant(LABELS, both, CLASSES, labels()) is None
