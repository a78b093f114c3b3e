"""All rules on one user's list, in their sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import numpy as np
import numpy.typing as npt

from features.schema import Int32
from ranking.rules.caps import cap
from ranking.rules.catalogue import Catalogue
from ranking.rules.config import Deduplicate, RuleName, Rules
from ranking.rules.discovery import discover
from ranking.rules.diversity import diversify
from ranking.rules.exposure import expose
from ranking.rules.places import pin, shift

Rows = npt.NDArray[np.intp]
Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]
Marks = npt.NDArray[np.uint16]

_NAMES: Final[Sequence[RuleName]] = get_args(RuleName)


@dataclass(frozen=True, kw_only=True, eq=False)
class Listed:
    """A user's items and what rules read of them.

    Attributes:
        items: int32 `[n]` distinct positions.
        scores: float64 `[n]`, on any scale, NaN where missing.
        order: intp `[n]` rows, best first.
        bought: bool `[n]`: whether the user ever bought each.
        shown: item id -> how often it was shown to the user of late without an answer.
    """

    items: Int32
    scores: Float64
    order: Rows
    bought: Bool
    shown: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordered:
    """The order that rules make.

    Attributes:
        rows: intp `[m]`, rows of the list, best first.
        moved: for each of them, the rules that moved it.
    """

    rows: Rows
    moved: Sequence[Sequence[RuleName]]


def apply(rules: Rules, listed: Listed, catalogue: Catalogue, k: int | None = None) -> Ordered:
    """Return the list as rules order it.

    Args:
        rules: at least one.
        listed: the list.
        catalogue: what the rules name is looked up in.
        k: how many rows to return; None for all. They are the first of those that more would give.

    Raises:
        NamedItemsError: a filter doesn't fit the items.
        RuleError: an attribute that the items lack, or one of lists or structures.
    """
    return _Pass(rules, listed, catalogue).run(k)


class _Pass:
    """One way through the rules.

    Args:
        rules, listed, catalogue: as in `apply`.
    """

    def __init__(self, rules: Rules, listed: Listed, catalogue: Catalogue) -> None:
        self._rules, self._listed, self._catalogue = rules, listed, catalogue
        self._marks: Marks = np.zeros(len(listed.items), np.uint16)
        # What later rules reorder, and what stays behind it: shown too often, then buried.
        self._ahead, self._behind = listed.order, listed.order[:0]

    def run(self, k: int | None) -> Ordered:
        """Apply every rule that is set, in the sequence of the package."""
        self._remove()
        self._boost()
        self._set_behind()
        self._diversify(k)
        self._cap(k)
        self._expose()
        self._discover()
        rows = self._pin()[:k]
        return Ordered(rows=rows, moved=[_names(mark) for mark in self._marks[rows].tolist()])

    def _remove(self) -> None:
        rules, order = self._rules, self._ahead
        if rules.block is not None:
            order = order[~self._catalogue.named(rules.block, self._listed.items, "block")[order]]
        for n, rule in enumerate(rules.deduplicate):
            order = order[self._first_of_each(rule, order, f"deduplicate.{n}")]
        self._ahead = order

    def _first_of_each(self, rule: Deduplicate, order: Rows, where: str) -> Bool:
        """Return bool `[len(order)]`: which rows are the first with their values, or lack one."""
        items = self._listed.items[order]
        codes = np.stack([self._catalogue.codes(attribute, items, where) for attribute in rule.by])
        _, first = np.unique(codes, axis=1, return_index=True)
        kept: Bool = np.any(codes < 0, axis=0)
        kept[first] = True
        return kept

    def _boost(self) -> None:
        if not self._rules.boost:
            return
        places = np.zeros(len(self._listed.items), np.int64)
        for n, rule in enumerate(self._rules.boost):
            places += rule.places * self._catalogue.named(rule, self._listed.items, f"boost.{n}")
        self._ahead = shift(self._ahead, places)
        self._mark("boost", np.flatnonzero(places))

    def _set_behind(self) -> None:
        rules, items = self._rules, self._listed.items
        often, buried = np.zeros(len(items), bool), np.zeros(len(items), bool)
        if rules.frequency is not None:
            shown = [item for item, times in self._listed.shown.items() if times >= rules.frequency.times]
            often = np.isin(items, self._catalogue.snapshot.positions(shown))
        if rules.bury is not None:
            buried = self._catalogue.named(rules.bury, items, "bury")
        order = self._ahead
        drop = rules.frequency is not None and rules.frequency.then == "drop"
        sunk = order[:0] if drop else order[(often & ~buried)[order]]
        last = order[(buried & ~(often & drop))[order]]
        self._ahead, self._behind = order[~(often | buried)[order]], np.concatenate([sunk, last])
        self._mark("frequency", sunk)
        self._mark("bury", last)

    def _diversify(self, k: int | None) -> None:
        rule, order = self._rules.diversity, self._ahead
        if rule is None:
            return
        vectors = self._catalogue.vectors_of(self._listed.items[order[: rule.first]])
        later = self._rules.caps or self._rules.exposure or self._rules.discovery or self._rules.pin
        self._ahead = diversify(order, self._listed.scores, vectors, rule, None if later else k)
        self._mark("diversity", _risen(order, self._ahead))

    def _cap(self, k: int | None) -> None:
        caps, order = self._rules.caps, np.concatenate([self._ahead, self._behind])
        if not caps:
            return
        codes = [self._catalogue.codes(rule.attribute, self._listed.items, f"caps.{n}") for n, rule in enumerate(caps)]
        later = self._rules.exposure or self._rules.discovery or self._rules.pin
        found = cap(order, caps, codes, ahead=len(self._ahead), k=None if later else k)
        self._ahead, self._behind = found[: len(self._ahead)], found[len(self._ahead) :]
        self._mark("caps", _risen(found, order))

    def _expose(self) -> None:
        rules, order = self._rules.exposure, self._ahead
        if not rules:
            return
        named = [self._catalogue.named(rule, self._listed.items, f"exposure.{n}") for n, rule in enumerate(rules)]
        self._ahead = expose(order, rules, named)
        self._mark("exposure", _risen(order, self._ahead))

    def _discover(self) -> None:
        rule, order = self._rules.discovery, self._ahead
        if rule is None:
            return
        self._ahead = discover(order, self._listed.bought, rule)
        self._mark("discovery", _risen(order, self._ahead))

    def _pin(self) -> Rows:
        order = np.concatenate([self._ahead, self._behind])
        if not self._rules.pin:
            return order
        found, pinned = pin(
            order,
            [
                (self._catalogue.named(rule, self._listed.items, f"pin.{n}"), rule.places)
                for n, rule in enumerate(self._rules.pin)
            ],
        )
        self._mark("pin", pinned)
        return found

    def _mark(self, name: RuleName, rows: Rows) -> None:
        self._marks[rows] |= np.uint16(1 << _NAMES.index(name))


def _risen(before: Rows, after: Rows) -> Rows:
    """Return the rows that stand further ahead in one order than in another of the same rows."""
    rank = np.empty(int(before.max(initial=-1)) + 1, np.intp)
    rank[before] = np.arange(len(before))
    return after[np.arange(len(after)) < rank[after]]


def _names(mark: int) -> list[RuleName]:
    return [name for bit, name in enumerate(_NAMES) if mark >> bit & 1]
