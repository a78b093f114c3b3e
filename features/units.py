"""Units of a text that tags are of: words, or characters where a script puts no spaces between words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

Unit = Literal["word", "character"]

# The tag of a unit that belongs to no slot, by the custom of the field (Ramshaw & Marcus, 1995).
OUTSIDE: Final = "O"
_PATTERNS: Final[Mapping[Unit, re.Pattern[str]]] = {"word": re.compile(r"\S+"), "character": re.compile(r"\S")}


def unit_spans(text: str, unit: Unit) -> list[tuple[int, int]]:
    """Return the first character of each unit and the one after its last: what training tags and serving answers."""
    return [found.span() for found in _PATTERNS[unit].finditer(text)]
