"""Templates of replies: text with `{slot}` placeholders, which is sent with all of them filled or not at all."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names of a template's slots, each once, in order.

    Raises:
        ValueError: braces that don't match, or a placeholder that is more than a name.
    """
    names = []
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        # A format or an attribute could make text of a slot that nobody wrote.
        if spec or conversion or not name.isidentifier():
            raise ValueError(f"template {template!r}: expected plain {{slot}} placeholders, found {name!r}")
        names.append(name)
    return tuple(dict.fromkeys(names))


def missing_slots(template: str, slots: Mapping[str, str]) -> tuple[str, ...]:
    """Return the placeholders that no slot fills, in order."""
    return tuple(name for name in placeholders(template) if name not in slots)


def filled(template: str, slots: Mapping[str, str]) -> str:
    """Return the text of a template none of whose slots is missing."""
    assert not missing_slots(template, slots), "a template is never sent half filled"
    return template.format_map(slots)


def _checked(template: str) -> str:
    if not template.strip():
        raise ValueError("expected the text of a reply, found a blank one")
    placeholders(template)
    return template


ReplyTemplate = Annotated[str, AfterValidator(_checked)]
