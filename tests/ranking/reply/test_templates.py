"""A template names its slots plainly, and is filled whole."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from ranking.reply.templates import ReplyTemplate, filled, missing_slots, placeholders

CARD = "Your card {digits} comes by {day}; the {day} is sure. {{really}}"


def test_slots_are_named_once_in_order() -> None:
    assert placeholders(CARD) == ("digits", "day")
    assert placeholders("no slot") == ()


def test_filling_puts_every_value_as_it_is() -> None:
    values = {"digits": "{day}", "day": "Monday", "other": "unused"}
    # A value that looks like a placeholder stays as it is, doubled braces are braces.
    assert filled(CARD, values) == "Your card {day} comes by Monday; the Monday is sure. {really}"
    assert missing_slots(CARD, {"day": "Monday"}) == ("digits",)
    with pytest.raises(AssertionError, match="half filled"):
        filled(CARD, {"day": "Monday"})


@pytest.mark.parametrize("template", ["{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{}", "{0}", "{a", "  "])
def test_anything_but_plain_slots_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        TypeAdapter(ReplyTemplate).validate_python(template)
