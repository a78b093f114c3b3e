"""Whether a filter fits the columns: each name is one of them, and what is compared is of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from features.filters.errors import FilterError
from features.filters.tree import (
    KEYWORDS,
    Comparison,
    Expression,
    Flag,
    Joined,
    Kind,
    Membership,
    Missing,
    Name,
    Negation,
    Node,
    Value,
)
from infra.errors import unknown_name

_HOLDS: Final[Mapping[Kind, str]] = {"number": "numbers", "text": "texts", "true or false": "true or false"}
_A: Final[Mapping[Kind, str]] = {"number": "a number", "text": "a text", "true or false": "true or false"}
_NUMBERS: Final = (pl.Int64, pl.Float32, pl.Float64)
_OTHERS: Final[Mapping[pl.DataType, Kind | None]] = {
    pl.String(): "text",
    pl.Boolean(): "true or false",
    pl.Null(): None,
}
# Whole numbers of these count as floats.
_BEYOND_INT64: Final = (pl.UInt64, pl.Int128, pl.UInt128)
# What other languages call no value.
_NOTHING: Final = frozenset({"null", "none", "nil", "nan"})


def check(expression: Expression, columns: Mapping[str, pl.Series]) -> dict[str, pl.Series]:
    """Return the columns that the filter names: Boolean, String, Int64, Float32 or Float64; Null where all is missing.

    NaN is null in them; a date or time is its ISO text. One that holds something else may only be asked `is missing`.

    Raises:
        FilterError: at the first mistake in the text.
    """
    checker = _Checker(expression.text, columns)
    checker.check(expression.root)
    return checker.found


@dataclass
class _Checker:
    """One check.

    Attributes:
        text: the filter.
        columns: name -> values.
        found: those named so far, as `check` returns them.
    """

    text: str
    columns: Mapping[str, pl.Series]
    found: dict[str, pl.Series] = field(default_factory=dict)

    def check(self, node: Node) -> None:
        """Check a part of the tree, from left to right."""
        match node:
            case Joined(_, parts):
                for part in parts:
                    self.check(part)
            case Negation(part):
                self.check(part)
            case Missing(name):
                self._column(name)
            case Flag(name):
                self._check_flag(name)
            case Membership(name, values):
                kind = self._kind(name)
                for value in values:
                    self._check_value(name, kind, value)
            case Comparison():
                self._check_comparison(node)

    def _check_flag(self, name: Name) -> None:
        kind = self._kind(name)
        if kind in ("number", "text"):
            problem = f"expected a comparison, as {name.name!r} holds {_HOLDS[kind]}, found it alone"
            raise self._error(problem, name.start)

    def _check_comparison(self, node: Comparison) -> None:
        name, operator, other = node.name, node.operator, node.other
        kind = self._kind(name)
        if isinstance(other, Value):
            self._check_value(name, kind, other)
        else:
            theirs = self._kind(other, unquoted=True)
            if kind and theirs and kind != theirs:
                found = f"{other.name!r}, which holds {_HOLDS[theirs]}"
                raise self._error(
                    f"expected {_A[kind]}, as {name.name!r} holds {_HOLDS[kind]}, found {found}", other.start
                )
        if kind == "true or false" and operator.symbol not in ("==", "!="):
            problem = f"expected == or !=, as {name.name!r} holds true or false, found another comparison"
            raise self._error(problem, operator.start)

    def _check_value(self, name: Name, kind: Kind | None, value: Value) -> None:
        if kind and value.kind != kind:
            problem = f"expected {_A[kind]}, as {name.name!r} holds {_HOLDS[kind]}, found {_A[value.kind]}"
            raise self._error(problem, value.start)

    def _kind(self, name: Name, *, unquoted: bool = False) -> Kind | None:
        """Return what a column holds, None where it holds nothing; `unquoted` where a text may have been meant."""
        dtype = self._column(name, unquoted=unquoted).dtype
        if dtype in _NUMBERS:
            return "number"
        if dtype not in _OTHERS:
            problem = f"expected an attribute that holds numbers, texts, or true or false, found {name.name!r}: {dtype}"
            raise self._error(problem, name.start)
        return _OTHERS[dtype]

    def _column(self, name: Name, *, unquoted: bool = False) -> pl.Series:
        if name.name not in self.found:
            column = self.columns.get(name.name)
            if column is None:
                problem = unknown_name("attribute", name.name, self.columns) + _hint(name.name, unquoted)
                raise self._error(problem, name.start)
            self.found[name.name] = _comparable(column)
        return self.found[name.name]

    def _error(self, problem: str, position: int) -> FilterError:
        return FilterError(problem, self.text, position)


def _hint(name: str, unquoted: bool) -> str:
    if name.lower() in KEYWORDS:
        return f"; did you mean {name.lower()!r}?"
    if name.lower() in _NOTHING:
        return "; `x is missing` asks for no value"
    return f'; a text stands in quotes, "{name}"' if unquoted else ""


def _comparable(column: pl.Series) -> pl.Series:
    """Return a column as one of the types that `check` names; as it is where nothing can be compared with it."""
    dtype = column.dtype
    if dtype.is_integer() and dtype not in _BEYOND_INT64:
        return column.cast(pl.Int64)
    if dtype.is_numeric():
        return column.cast(pl.Float32 if dtype == pl.Float32 else pl.Float64).fill_nan(None)
    if dtype in (pl.Date, pl.Datetime):
        return column.dt.to_string("iso:strict")
    return column.cast(pl.String) if dtype in (pl.Categorical, pl.Enum) else column
