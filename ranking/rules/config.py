"""The rules that a workspace or a request declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.filters.items import FilterText

# Bounds on what one request may ask.
MAX_PLACE: Final = 10_000
MAX_RULES: Final = 100
MAX_IDS: Final = 10_000
# Every pick of diversity compares all items that it may pick: quadratic in their number.
MAX_DIVERSE: Final = 1_000

RuleName = Literal["boost", "frequency", "bury", "diversity", "caps", "exposure", "discovery", "pin"]

Place = Annotated[int, Field(ge=1, le=MAX_PLACE)]
Attribute = Annotated[str, Field(min_length=1, max_length=512)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(_Rule):
    """Items that a rule is about: those that a filter holds of, and those listed.

    Attributes:
        items: a filter over the items' attributes and statistics.
        ids: item ids; unknown ones are ignored.
    """

    items: FilterText | None = None
    ids: tuple[str, ...] = Field((), max_length=MAX_IDS)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.items is None and not self.ids:
            raise ValueError("expected items (a filter) or ids, found neither")
        return self


class Boost(Named):
    """So many places up: the item passes so many that no boost names, as far as there are any before it.

    Attributes:
        places: down where negative; of several boosts that name an item, their sum.
    """

    places: int = Field(ge=-MAX_PLACE, le=MAX_PLACE)


class Deduplicate(_Rule):
    """Of items that agree in every one of some attributes only the best stays.

    Attributes:
        by: the attributes; an item that lacks a value is like no other.
    """

    by: tuple[Attribute, ...] = Field(min_length=1, max_length=MAX_RULES)


class Frequency(_Rule):
    """What to do with items that were shown to the user again and again and that she didn't answer.

    Attributes:
        times: shown so often, or more often.
        days: in so many last days, since her last answer to that item: a response or a purchase, by the events' names
            under `features`. A request's own `context.shown` goes before what the event log says.
        then: behind the others, or not at all.
    """

    times: int = Field(ge=1)
    days: float = Field(7.0, gt=0, le=365)
    then: Literal["sink", "drop"] = "sink"


class Diversity(_Rule):
    """Items picked one by one, each weighed by its relevance and by how unlike those before it is.

    Attributes:
        method: `mmr`, its cosine to the likest one before; `dpp`, what it adds to the volume that all before span.
        relevance: weight of relevance: 1 leaves the order, 0 looks at likeness alone (after the best item).
        first: of so many best items; those behind stay.
    """

    method: Literal["mmr", "dpp"] = "mmr"
    relevance: float = Field(0.8, ge=0, le=1)
    first: int = Field(100, ge=1, le=MAX_DIVERSE)


class Cap(_Rule):
    """At most so many items of one value; those that lack a value are not counted.

    Attributes:
        attribute: whose values.
        most: so many.
        within: among any so many consecutive places.
        first: among the first so many places; one of the two is given.
    """

    attribute: Attribute
    most: int = Field(ge=1)
    within: int | None = Field(None, ge=2, le=MAX_PLACE)
    first: Place | None = None

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        if (self.within is None) == (self.first is None):
            found = "neither" if self.within is None else "both"
            raise ValueError(f"expected one of within and first, found {found}")
        return self


class Exposure(Named):
    """Named items get at least a share of what is seen of the first places.

    A place's exposure is 1 / log2(rank + 1), as an audit counts it. A limit from above is one from below on the others.

    Attributes:
        share: of the exposure of these places.
        first: so many places.
    """

    share: float = Field(gt=0, le=1)
    first: Place = 10


class Discovery(_Rule):
    """Items that the user never bought come forward where too many bought ones would follow each other.

    Attributes:
        every: any so many consecutive positions after the first page hold at least one, as long as any is left.
        first_page: positions that stay as they are.
    """

    every: int = Field(ge=1)
    first_page: int = Field(default=10, ge=0)


class Pin(Named):
    """The best of the named items stand at given places, the best of them at the first.

    Attributes:
        places: counted from 1; one behind the list's end is its end.
    """

    places: tuple[Place, ...] = Field(min_length=1, max_length=MAX_RULES)


class Rules(_Rule):
    """Rules on the order, in the sequence in which they apply (see `ranking.rules`).

    Attributes:
        block: never shown.
        deduplicate: see there, one after another.
        boost: see there.
        frequency: see there.
        bury: behind all others.
        diversity: see there.
        caps: see there; all at once.
        exposure: see there; all at once.
        discovery: see there.
        pin: see there; an item is pinned once, by the first rule that names it.
    """

    block: Named | None = None
    deduplicate: tuple[Deduplicate, ...] = Field((), max_length=MAX_RULES)
    boost: tuple[Boost, ...] = Field((), max_length=MAX_RULES)
    frequency: Frequency | None = None
    bury: Named | None = None
    diversity: Diversity | None = None
    caps: tuple[Cap, ...] = Field((), max_length=MAX_RULES)
    exposure: tuple[Exposure, ...] = Field((), max_length=MAX_RULES)
    discovery: Discovery | None = None
    pin: tuple[Pin, ...] = Field((), max_length=MAX_RULES)

    @model_validator(mode="after")
    def _distinct_places(self) -> Self:
        counts = Counter(place for pin in self.pin for place in pin.places)
        twice = [place for place, count in counts.items() if count > 1]
        if twice:
            raise ValueError(f"pin: expected every place once, found place {twice[0]} {counts[twice[0]]} times")
        return self

    @property
    def are_set(self) -> bool:
        """Whether a rule is set."""
        return any(getattr(self, name) for name in Rules.model_fields)

    @property
    def pinned(self) -> Sequence[str]:
        """Item ids that have places."""
        return [item_id for pin in self.pin for item_id in pin.ids]

    def named(self) -> Sequence[tuple[str, Named]]:
        """Return where each rule stands that names items, and what it names."""
        lists = {"boost": self.boost, "exposure": self.exposure, "pin": self.pin}
        several = [(f"{key}.{n}", rule) for key, rules in lists.items() for n, rule in enumerate(rules)]
        single = [(key, rule) for key, rule in (("block", self.block), ("bury", self.bury)) if rule is not None]
        return [*single, *several]

    def attributes(self) -> Sequence[tuple[str, str]]:
        """Return where each attribute stands that a rule reads, and its name."""
        by = [(f"deduplicate.{n}", name) for n, rule in enumerate(self.deduplicate) for name in rule.by]
        return [*by, *((f"caps.{n}", cap.attribute) for n, cap in enumerate(self.caps))]


NO_RULES: Final = Rules()
