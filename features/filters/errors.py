"""Errors of filters and formulas: what was expected and found, and a caret under the character where."""

from __future__ import annotations

import unicodedata
from typing import ClassVar, Final

from infra.errors import InvalidInputError

# What is shown of a long text around the character, in characters.
_BEFORE: Final = 60
_AFTER: Final = 40


class ExpressionError(InvalidInputError):
    """A mistake at a character of a text in one of the small languages.

    Args:
        problem: what was expected and what was found.
        text: what was read.
        position: of the character that the problem is about, from 0 to `len(text)`.

    Attributes:
        language: what the text is in, as the message names it.
        position: the same.
    """

    language: ClassVar[str]

    def __init__(self, problem: str, text: str, position: int) -> None:
        super().__init__(f"{self.language}, character {position + 1}: {problem}\n{_pointed(text, position)}")
        self.position = position


class FilterError(ExpressionError):
    """The text is no filter, names an attribute that the items lack, or compares unlike kinds."""

    language = "filter"


def _pointed(text: str, position: int) -> str:
    """Return the text around the character as one line, and a line with a caret under it."""
    start, end = max(position - _BEFORE, 0), position + _AFTER
    shown = text[start:end]
    if start:
        # In place of the first character, so that the caret needs no other count.
        shown = "…" + shown[1:]
    if end < len(text):
        shown += "…"
    line = "".join(one if one.isprintable() else " " for one in shown)
    return f"    {line}\n    {' ' * sum(map(_width, line[: position - start]))}^"


def _width(character: str) -> int:
    """Return the columns that a terminal gives a character: two to a wide one, none to a combining mark."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
