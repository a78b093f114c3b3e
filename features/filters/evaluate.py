"""From a checked filter to a mask: a pass over each column that it names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.filters.check import check
from features.filters.tree import (
    Comparison,
    Expression,
    Flag,
    Joined,
    Membership,
    Missing,
    Name,
    Negation,
    Node,
    Symbol,
    Value,
)

Mask = npt.NDArray[np.bool_]

_COMPARE: Final[Mapping[Symbol, Callable[[pl.Series, pl.Series], pl.Series]]] = {
    "==": pl.Series.__eq__,
    "!=": pl.Series.__ne__,
    "<": pl.Series.__lt__,
    "<=": pl.Series.__le__,
    ">": pl.Series.__gt__,
    ">=": pl.Series.__ge__,
}


def mask(expression: Expression, columns: Mapping[str, pl.Series]) -> Mask:
    """Return bool `[n]`: in which rows the filter holds.

    A number is rounded to the column's own precision: `price == 1.1` holds where a float32 column was given 1.1.

    Args:
        expression: from `parse`.
        columns: name -> `n` values; read are those that the filter names.

    Raises:
        FilterError: it doesn't fit the columns.
    """
    return _mask(expression.root, check(expression, columns))


def _mask(node: Node, columns: Mapping[str, pl.Series]) -> Mask:
    match node:
        case Joined(word, parts):
            joined = np.logical_and if word == "and" else np.logical_or
            return functools.reduce(joined, (_mask(part, columns) for part in parts))
        case Negation(part):
            return ~_mask(part, columns)
        case Flag(name):
            return _known(columns[name.name])
        case Missing(name):
            return columns[name.name].is_null().to_numpy()
        case Membership(name, values, negated):
            found = _among(columns[name.name], values)
            return _known(~found if negated else found)
        case Comparison(name, operator, other):
            theirs = columns[other.name] if isinstance(other, Name) else other
            return _compared(columns[name.name], operator.symbol, theirs)


def _compared(column: pl.Series, symbol: Symbol, other: pl.Series | Value) -> Mask:
    if isinstance(other, Value):
        if column.dtype == pl.Int64 and isinstance(other.value, float):
            column = column.cast(pl.Float64)
        other = pl.Series([other.value], dtype=column.dtype)
    if pl.Null in (column.dtype, other.dtype):
        return np.zeros(len(column), bool)
    return _known(_COMPARE[symbol](column, other))


def _among(column: pl.Series, values: tuple[Value, ...]) -> pl.Series:
    """Return Boolean `[n]`, null where the value is missing."""
    wanted = [one.value for one in values]
    if column.dtype == pl.Int64:
        # A float here is not whole or beyond 64 bits, so nothing equals it.
        wanted = [value for value in wanted if isinstance(value, int)]
    return column.is_in(pl.Series(wanted, dtype=column.dtype).implode())


def _known(found: pl.Series) -> Mask:
    """Return bool `[n]`, nulls as false."""
    return found.fill_null(value=False).to_numpy()
