"""One filter expression over item attributes -> a boolean mask over items.

An expression is a JSON object whose entries must all hold:

    {"department": "GROCERY"}                      equal to
    {"price": {"gte": 1, "lt": 5}}                 eq ne gt gte lt lte
    {"brand": {"in": ["A", "B"]}}                  one of
    {"brand": {"exists": false}}                   has no value
    {"any": [{...}, {...}], "not": {...}}          all any not, nested at will

A name is an attribute of the snapshot, one of the item statistics, or `item_id`. A missing value satisfies no
comparison, so `{"not": {"price": {"lt": 5}}}` holds for an item without a price.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import ITEM_ID, ITEM_STATS
from infra.errors import InvalidInputError, unknown_name
from retrieval.snapshot import ItemSnapshot

Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]
FilterExpression = Mapping[str, Json]
Mask = npt.NDArray[np.bool_]

# Bounds on what one request may ask; a thousand brands in one list is real, more than ten thousand is not.
MAX_DEPTH: Final = 16
MAX_VALUES: Final = 10_000

_COMPARISONS: Final[Mapping[str, Callable[[pl.Series, object], pl.Series]]] = {
    "eq": pl.Series.__eq__,
    "ne": pl.Series.__ne__,
    "gt": pl.Series.__gt__,
    "gte": pl.Series.__ge__,
    "lt": pl.Series.__lt__,
    "lte": pl.Series.__le__,
}
_OPERATORS: Final = (*_COMPARISONS, "in", "exists")


class FilterError(InvalidInputError):
    """The filter expression names an unknown attribute or operator, or compares unlike types."""


class ItemFilters:
    """Evaluates filter expressions on one snapshot; equal expressions are evaluated once.

    Args:
        snapshot: the items.
        cache_size: masks kept, the least recently used leaves first; a mask takes `n_items` bytes.
    """

    def __init__(self, snapshot: ItemSnapshot, *, cache_size: int = 256) -> None:
        self._snapshot = snapshot
        self._cache_size = cache_size
        self._cache: OrderedDict[str, Mask] = OrderedDict()
        self._lock = threading.Lock()
        self._stats = {name: column for column, name in enumerate(ITEM_STATS)}

    def mask(self, expression: FilterExpression) -> Mask:
        """Return bool `[n_items]` (read-only): which items satisfy `expression`.

        Raises:
            FilterError: with the nearest known name for an unknown one.
        """
        _check_size(expression)
        try:
            key = json.dumps(expression, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise FilterError(f"filter: expected JSON values, found {error}") from error
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        mask = self._all(expression)
        mask.flags.writeable = False
        with self._lock:
            self._cache[key] = mask
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return mask

    def _all(self, expression: FilterExpression) -> Mask:
        mask = np.ones(len(self._snapshot), bool)
        for name, condition in expression.items():
            mask &= self._entry(name, condition)
        return mask

    def _entry(self, name: str, condition: Json) -> Mask:
        if name in ("all", "any"):
            if isinstance(condition, str) or not isinstance(condition, Sequence) or not condition:
                raise FilterError(f"filter: {name!r} expects a non-empty list of expressions, found {condition!r}")
            masks = [self._all(_expression(part, name)) for part in condition]
            return np.asarray(np.all(masks, axis=0) if name == "all" else np.any(masks, axis=0))
        if name == "not":
            return ~self._all(_expression(condition, name))
        return self._attribute(name, condition)

    def _attribute(self, name: str, condition: Json) -> Mask:
        column = self._column(name)
        if condition is None:
            return column.is_null().to_numpy()
        if isinstance(condition, Mapping):
            if not condition:
                raise FilterError(f"filter on {name!r}: expected one of {list(_OPERATORS)}, found an empty object")
            masks = [_compare(name, column, operator, value) for operator, value in condition.items()]
            return np.asarray(np.all(masks, axis=0))
        if isinstance(condition, Sequence) and not isinstance(condition, str):
            raise FilterError(f'filter on {name!r}: expected a value or an object, found a list; write {{"in": [...]}}')
        return _compare(name, column, "eq", condition)

    def _column(self, name: str) -> pl.Series:
        """Return the column `name` as Float64, Boolean or String: the three kinds a JSON value compares with."""
        attributes = self._snapshot.attributes
        if name in attributes.columns:
            column = attributes[name]
        elif name in self._stats:
            column = pl.Series(name, self._snapshot.stats[:, self._stats[name]])
        elif name == ITEM_ID:
            column = pl.Series(name, self._snapshot.item_ids, pl.String)
        else:
            known = {*attributes.columns, *self._stats, ITEM_ID}
            raise FilterError("filter: " + unknown_name("attribute", name, known))
        if column.dtype.is_numeric():
            return column.cast(pl.Float64).fill_nan(None)
        return column if column.dtype == pl.Boolean else column.cast(pl.String)


def _compare(name: str, column: pl.Series, operator: str, value: Json) -> Mask:
    """Return bool `[n_items]` of one comparison; nulls compare false."""
    if operator not in _OPERATORS:
        raise FilterError(f"filter on {name!r}: " + unknown_name("operator", operator, _OPERATORS))
    if operator == "exists":
        if not isinstance(value, bool):
            raise FilterError(f"filter on {name!r}: 'exists' expects true or false, found {value!r}")
        return (column.is_not_null() if value else column.is_null()).to_numpy()
    if operator == "in":
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise FilterError(f"filter on {name!r}: 'in' expects a list of values, found {value!r}")
        wanted = pl.Series([_comparable(name, column, one) for one in value], dtype=column.dtype)
        matched = column.is_in(wanted.implode())
    else:
        matched = _COMPARISONS[operator](column, _comparable(name, column, value))
    return np.asarray(matched.fill_null(value=False).to_numpy(), bool)


def _comparable(name: str, column: pl.Series, value: Json) -> str | float | bool:
    """Return `value` as what `column` holds, or raise FilterError."""
    if column.dtype == pl.Boolean and isinstance(value, bool):
        return value
    if column.dtype == pl.Float64 and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if column.dtype == pl.String and isinstance(value, str):
        return value
    expected = {pl.Boolean: "true or false", pl.Float64: "a number"}.get(type(column.dtype), "a string")
    raise FilterError(f"filter on {name!r}: expected {expected}, found {value!r}")


def _expression(value: Json, inside: str) -> FilterExpression:
    if not isinstance(value, Mapping):
        raise FilterError(f"filter: {inside!r} expects an object, found {value!r}")
    return value


def _check_size(value: Json, depth: int = 0) -> int:
    """Return how many values `value` holds; raise FilterError when it is too deep or too large."""
    if depth > MAX_DEPTH:
        raise FilterError(f"filter: expected at most {MAX_DEPTH} levels, found more")
    if isinstance(value, Mapping):
        total = sum(_check_size(part, depth + 1) for part in value.values())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        total = sum(_check_size(part, depth + 1) for part in value)
    else:
        total = 1
    if total > MAX_VALUES:
        raise FilterError(f"filter: expected at most {MAX_VALUES} values, found more")
    return total
