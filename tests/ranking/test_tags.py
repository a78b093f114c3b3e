"""Slots of tags, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from features.units import Unit, unit_spans
from ranking.tags import tags_prediction
from retrieval.encoder.layout import TaskEntry
from retrieval.encoder.units import TextTags, TextUnits

Slots = list[tuple[str, int, int, str, float]]


def slots(text: str, tags: list[str | None], classes: tuple[str, ...], unit: Unit = "word") -> Slots:
    """Slots of these tags of the units; the n-th has the probability .9 - n / 100."""
    entry = TaskEntry(name="food", kind="token_tags", on="text", classes=classes, unit=unit)
    spans = unit_spans(text, unit)
    offsets = [span for span, tag in zip(spans, tags, strict=True) if tag is not None]
    probabilities = np.full((len(spans), len(classes)), np.nan, np.float32)
    for place, tag in enumerate(tags):
        if tag is not None:
            # The others share less than half of it.
            probabilities[place] = 0
            probabilities[place, classes.index(tag)] = 0.9 - place / 100
    found = TextTags(units=TextUnits.of(text, unit, offsets), probabilities=probabilities)
    return _rows(text, found, entry)


def _rows(text: str, found: TextTags, entry: TaskEntry) -> Slots:
    own = tags_prediction(text, found, entry).slots
    return [(one.name, one.start, one.end, one.text, round(one.probability, 4)) for one in own]


BIO = ("O", "B-CITY", "I-CITY", "B-DAY", "I-DAY")


def test_begin_and_inside_make_one_slot_of_the_lowest_probability() -> None:
    found = slots("to New York City on Monday", ["O", "B-CITY", "I-CITY", "I-CITY", "O", "B-DAY"], BIO)
    # .9 - .03 of the third unit of the first slot, .9 - .05 of the only one of the second.
    assert found == [("CITY", 3, 16, "New York City", 0.87), ("DAY", 20, 26, "Monday", 0.85)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-CITY", "B-CITY"], ["Rome", "Oslo"]),  # two of a kind side by side
        (["O", "I-CITY"], ["Oslo"]),  # an inside after nothing begins
        (["B-DAY", "I-CITY"], ["Rome", "Oslo"]),  # and so after another kind
        (["I-CITY", "I-CITY"], ["Rome Oslo"]),
        (["B-CITY", None], ["Rome"]),  # cut off
        (["O", "O"], []),
    ],
)
def test_where_slots_begin_and_end(tags: list[str | None], expected: list[str]) -> None:
    assert [text for _, _, _, text, _ in slots("Rome Oslo", tags, BIO)] == expected


def test_plain_tags_join_where_equal() -> None:
    found = slots("two red apples please now", ["number", "food", "food", "O", "food"], ("O", "number", "food"))
    assert [row[:4] for row in found] == [
        ("number", 0, 3, "two"),
        ("food", 4, 14, "red apples"),
        ("food", 22, 25, "now"),
    ]


def test_bare_marks_speak_of_the_tasks_own_slots() -> None:
    found = slots("四川辣椒酱 好", ["O", "O", "B", "I", "I", "O"], ("B", "I", "O"), "character")
    assert [row[:4] for row in found] == [("food", 2, 5, "辣椒酱")]
    # One class that is no such mark, and all are names.
    named = slots("a b", ["B", "X"], ("B", "O", "X"))
    assert [row[0] for row in named] == ["B", "X"]


def test_characters_of_one_token_lie_in_its_slot() -> None:
    # "买 250g": the tokenizer reads "250" as one token, whose first character has its tag.
    units = TextUnits.of("买 250g", "character", [(0, 1), (2, 5), (5, 6)])
    rows = [(1, 0, 0), (0, 0.8, 0.2), (np.nan,) * 3, (np.nan,) * 3, (0, 0.3, 0.7)]
    entry = TaskEntry(name="food", kind="token_tags", on="text", classes=("O", "B", "I"), unit="character")
    found = TextTags(units=units, probabilities=np.array(rows, np.float32))
    assert _rows("买 250g", found, entry) == [("food", 2, 6, "250g", 0.7)]
    outside = np.array([(1, 0, 0), (1, 0, 0), (np.nan,) * 3, (np.nan,) * 3, (0, 0.3, 0.7)], np.float32)
    assert _rows("买 250g", TextTags(units=units, probabilities=outside), entry) == [("food", 5, 6, "g", 0.7)]
    tags = tags_prediction("买 250g", found, entry).tags
    assert [one.tag for one in tags] == ["O", "B", None, None, "I"]
    assert [one.probability for one in tags] == pytest.approx([1, 0.8, None, None, 0.7])


def test_a_text_without_units() -> None:
    assert slots(" ", [], BIO) == []
