"""What a workspace's source and tasks make of it: which parts are built, released, measured and served.

Decided here alone; nothing else asks for the name of a source or a scenario. The encoder is always there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from features.tables import EVENTS_TABLE, ITEMS_TABLE
from features.tasks import TaskSpec
from infra.errors import InvalidInputError
from ranking.spaces import pair_tasks
from retrieval.parts import Part

_ITEMS: Final = "items in the source"
_EVENTS: Final = "events in the source"
_RANKING: Final = "events in the source and a binary task on pairs"
# What each section of a workspace file is about, where that is not always there.
_ABOUT: Final[Mapping[str, str]] = {
    "features": _EVENTS,
    "eligible": _ITEMS,
    "texts": _ITEMS,
    "index": _ITEMS,
    "collaborative": _EVENTS,
    "sequence": _EVENTS,
    "candidates": _ITEMS,
    "ranking": _RANKING,
    "audit": _RANKING,
}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a workspace besides the encoder.

    Attributes:
        items: a catalogue: item vectors, the index and its snapshot.
        events: users who act on items: features, collaborative filtering, the feature store and the event log.
        ranking: trees, blend and calibration, which order a user's items by the tasks on pairs.
    """

    items: bool
    events: bool
    ranking: bool

    @classmethod
    def of(cls, tables: Collection[str], tasks: Sequence[TaskSpec]) -> Self:
        """Return the parts that a source's tables (their names) and the tasks make."""
        events = EVENTS_TABLE in tables
        return cls(items=ITEMS_TABLE in tables, events=events, ranking=events and bool(pair_tasks(tasks)))

    @property
    def held(self) -> tuple[Part, ...]:
        """The parts by the names that a release and its service call them."""
        given: tuple[tuple[Part, bool], ...] = (
            ("encoder", True), ("items", self.items), ("users", self.events), ("ranking", self.ranking),
        )  # fmt: skip
        return tuple(part for part, is_there in given if is_there)

    def check_sections(self, given: Collection[str]) -> None:
        """Check that no section of the file is about what the workspace doesn't have.

        Raises:
            InvalidInputError: naming the section and what it needs.
        """
        held = {_ITEMS: self.items, _EVENTS: self.events, _RANKING: self.ranking}
        for section, needed in _ABOUT.items():
            if section in given and not held[needed]:
                raise InvalidInputError(f"section {section}: expected {needed}, found none; leave the section out")
