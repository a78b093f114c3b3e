"""From the tags of a text's units to the slots they make: what `/v1/predict` says of a tag task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.units import OUTSIDE
from ranking.contract import SlotPrediction, TagPrediction, TagsPrediction
from retrieval.encoder.layout import TaskEntry
from retrieval.encoder.units import TextTags

_BEGIN: Final = "B"
_INSIDE: Final = "I"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What a tag says of slots: the kind of slot, and whether one begins here whatever stood before."""

    name: str
    begins: bool = False


def tags_prediction(text: str, found: TextTags, task: TaskEntry) -> TagsPrediction:
    """Return the likeliest tag of each unit of a text, and the slots that the tags make.

    Args:
        text: whose units.
        found: their probabilities.
        task: names the tags.
    """
    # A unit without a tag has NaN all along.
    best = np.nan_to_num(found.probabilities).argmax(axis=1)
    chances = found.probabilities[np.arange(len(best)), best].tolist()
    carries = found.units.carries.tolist()
    tags = [
        TagPrediction(
            start=start,
            end=end,
            text=text[start:end],
            tag=task.classes[code] if has_tag else None,
            probability=chance if has_tag else None,
        )
        for (start, end), code, chance, has_tag in zip(
            found.units.span.tolist(), best.tolist(), chances, carries, strict=True
        )
    ]
    return TagsPrediction(tags=tags, slots=_slots(text, tags, (found.units.token >= 0).tolist(), task))


def _slots(text: str, tags: Sequence[TagPrediction], read: Sequence[bool], task: TaskEntry) -> list[SlotPrediction]:
    """Join the tags of consecutive units into slots.

    A unit that was read, but as one token with the unit before it, lies in that one's slot, if there is one.

    Args:
        text: whose units.
        tags: of all units.
        read: whether a token stands for the unit.
        task: its tags say whether B- and I- mark where slots begin and go on.
    """
    parts = _parts(task.name, task.classes)
    slots: list[SlotPrediction] = []
    name: str | None = None
    for unit, is_read in zip(tags, read, strict=True):
        going_on = _Part(name=name) if is_read and name is not None else None
        part = going_on if unit.tag is None else parts.get(unit.tag)
        if part is not None and part.name == name and not part.begins:
            slots[-1] = _longer(slots[-1], unit, text)
        elif part is not None:
            assert unit.probability is not None, "a slot begins at a unit with a tag"
            slots.append(
                SlotPrediction(
                    name=part.name, start=unit.start, end=unit.end, text=unit.text, probability=unit.probability
                )
            )
        name = None if part is None else part.name
    return slots


def _longer(slot: SlotPrediction, unit: TagPrediction, text: str) -> SlotPrediction:
    chance = slot.probability if unit.probability is None else min(slot.probability, unit.probability)
    return slot.model_copy(update={"end": unit.end, "text": text[slot.start : unit.end], "probability": chance})


def slot_names(task: str, tags: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the slots that a task of these tags can find, in the order of its tags."""
    return tuple(dict.fromkeys(part.name for part in _parts(task, tags).values()))


def _parts(task: str, tags: Sequence[str]) -> dict[str, _Part]:
    """Return what each tag says of slots; the outside tag says nothing.

    Where all other tags are B or I, bare or with a name behind a hyphen, they are read so (Ramshaw & Marcus, 1995), an
    I after none of its name as a B; bare ones speak of the task's one kind of slot. Otherwise a tag is the slot's name.
    """
    split = {tag: tag.partition("-") for tag in tags if tag != OUTSIDE}
    if all(mark in (_BEGIN, _INSIDE) and bool(hyphen) == bool(name) for mark, hyphen, name in split.values()):
        return {tag: _Part(name=name or task, begins=mark == _BEGIN) for tag, (mark, _, name) in split.items()}
    return {tag: _Part(name=tag) for tag in split}
