"""What rules name, looked up in a release's items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features.filters.errors import FilterError
from features.filters.items import NamedItemsError
from features.schema import Float32, Int32
from infra.errors import InvalidInputError, unknown_name
from ranking.rules.config import Named, Rules
from retrieval.rows import ItemRows
from retrieval.snapshot import ItemSnapshot

Bool = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


class RuleError(InvalidInputError):
    """A rule names an attribute that the items lack, or one without values to compare."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalogue:
    """The items that rules are about.

    Attributes:
        snapshot: all of them.
        matching: from a filter to bool `[n_items]`, the items that satisfy it.
        vectors: float32 `[n_items, dim]`, rows of length 1 or 0.
    """

    snapshot: ItemSnapshot
    matching: Callable[[str], Bool]
    vectors: ItemRows

    def named(self, rule: Named, items: Int32, where: str) -> Bool:
        """Return bool `[n]`: which of the items (int32 `[n]` positions) a rule names.

        Args:
            rule: see there.
            items: positions.
            where: place of the rule, for the error.

        Raises:
            NamedItemsError: its filter doesn't fit the items.
        """
        found = np.zeros(len(items), bool)
        if rule.items is not None:
            try:
                found |= self.matching(rule.items)[items]
            except FilterError as error:
                raise NamedItemsError(f"rules.{where}.items: {error}") from None
        if rule.ids:
            found |= np.isin(items, self.snapshot.positions(rule.ids))
        return found

    def codes(self, attribute: str, items: Int32, where: str) -> Codes:
        """Return int64 `[n]`: one number for each value that an attribute has among the items; -1 where it is missing.

        Raises:
            RuleError: no such attribute, or one of lists or structures.
        """
        check_attribute(attribute, self.snapshot.attributes, where)
        values = self.snapshot.attributes[attribute].gather(items)
        if values.dtype.is_float():
            values = values.fill_nan(None)
        elif values.dtype == pl.Boolean:
            values = values.cast(pl.Int8)
        return values.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()

    def check(self, rules: Rules) -> None:
        """Check everything that rules name.

        Raises:
            NamedItemsError: a filter doesn't fit the items.
            RuleError: an attribute that the items lack, or one of lists or structures.
        """
        nothing = np.empty(0, np.int32)
        for where, rule in rules.named():
            self.named(rule, nothing, where)
        check_attributes(rules, self.snapshot.attributes)

    def vectors_of(self, items: Int32) -> Float32:
        """Return float32 `[n, dim]` of the items."""
        return self.vectors[items]


def check_attributes(rules: Rules, items: pl.DataFrame) -> None:
    """Check every attribute that rules read against the items' columns; raises `RuleError`."""
    for where, attribute in rules.attributes():
        check_attribute(attribute, items, where)


def check_attribute(attribute: str, items: pl.DataFrame, where: str) -> None:
    """Check one; raises `RuleError`."""
    if attribute not in items.columns:
        raise RuleError(f"rules.{where}: {unknown_name('attribute', attribute, items.columns)}")
    dtype = items[attribute].dtype
    if dtype.is_nested():
        raise RuleError(f"rules.{where}: expected an attribute of single values, found {attribute!r}: {dtype}")
