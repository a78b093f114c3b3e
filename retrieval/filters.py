"""Filters on one release's items: masks by the language of `features.filters`, each made once.

A name is an attribute of the snapshot, one of the item statistics, or `item_id`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import polars as pl

from features.filters.evaluate import Mask, mask
from features.filters.parse import parse
from features.filters.tree import canonical
from features.schema import ITEM_ID, ITEM_STATS
from retrieval.snapshot import ItemSnapshot


class ItemFilters:
    """Evaluates filters on one snapshot; those that mean the same are evaluated once.

    Args:
        snapshot: the items.
        cache_size: spellings whose masks are kept, the least recently used leaves first; a mask takes `n_items` bytes.
    """

    def __init__(self, snapshot: ItemSnapshot, *, cache_size: int = 256) -> None:
        self._columns = ItemColumns(snapshot)
        self._cache_size = cache_size
        self._cache: OrderedDict[str, Mask] = OrderedDict()
        self._lock = threading.Lock()

    def mask(self, text: str) -> Mask:
        """Return bool `[n_items]` (read-only): which items satisfy the filter.

        Raises:
            FilterError: the text is no filter, or doesn't fit the items.
        """
        found = self._cached(text)
        if found is None:
            expression = parse(text)
            spelling = canonical(expression.root)
            found = self._cached(spelling)
            if found is None:
                found = mask(expression, self._columns)
                found.flags.writeable = False
            self._keep({spelling: found, text: found})
        return found

    def _cached(self, text: str) -> Mask | None:
        with self._lock:
            if text in self._cache:
                self._cache.move_to_end(text)
            return self._cache.get(text)

    def _keep(self, masks: Mapping[str, Mask]) -> None:
        with self._lock:
            self._cache |= masks
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)


class ItemColumns(Mapping[str, pl.Series]):
    """A snapshot's columns by name, each made when asked for: a filter or formula names a few."""

    def __init__(self, snapshot: ItemSnapshot) -> None:
        self._snapshot = snapshot
        self._names = dict.fromkeys([*snapshot.attributes.columns, *ITEM_STATS, ITEM_ID])

    def __getitem__(self, name: str) -> pl.Series:
        snapshot = self._snapshot
        if name in snapshot.attributes.columns:
            return snapshot.attributes[name]
        if name in ITEM_STATS:
            return pl.Series(name, snapshot.stats[:, ITEM_STATS.index(name)])
        if name == ITEM_ID:
            return pl.Series(name, snapshot.item_ids, pl.String)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
