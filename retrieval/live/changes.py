"""From changes of the catalogue to a retriever that knows them: a new one over the arrays of the one before.

What depends on behaviour stays as the release has it: a new item has no statistics, no neighbours and no place in what
trends until the next refresh, so texts alone find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from features.filters.items import named_items
from features.item_changes import changed_items, fitting_changes
from features.item_log import LoggedChange
from features.schema import AVAILABLE_FROM, ITEM_ID, Int32
from features.texts import item_texts, item_titles
from retrieval.catalogue import CatalogueConfig
from retrieval.engine import Retriever
from retrieval.live.index import LayeredIndex
from retrieval.rows import LayeredRows
from retrieval.snapshot import ItemSnapshot

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Changed:
    """A retriever after some changes.

    Attributes:
        retriever: knows them.
        encoded: int32 `[c]`, ascending: items whose text is new, hence their vector.
        refused: why values were left out, one line each: the release's items have no such column, or of another type.
    """

    retriever: Retriever
    encoded: Int32
    refused: Sequence[str]


def apply_changes(retriever: Retriever, changes: Sequence[LoggedChange]) -> Changed:
    """Lay changes over a retriever, which stays as it is; only texts that are new are encoded.

    Args:
        retriever: of a release, or with earlier changes over it.
        changes: in the log's order, each later than those already applied.

    Raises:
        EncoderUnavailableError: the release has no encoder that this version reads.
    """
    old, catalogue = retriever.snapshot, retriever.catalogue
    assert catalogue is not None, "the follower's check: a release that says how its items are read"
    fitting, errors = fitting_changes(old.frame.schema, changes)
    found = changed_items(old.frame, fitting)
    positions = found.positions
    rows = found.frame.gather(positions)
    known = positions[positions < len(old)]
    texts = item_texts(rows, catalogue.texts)
    before = item_texts(old.frame.gather(known), catalogue.texts)
    # Positions ascend and new items follow all others, so the first rows are those that were known.
    same = np.zeros(len(positions), bool)
    same[: len(known)] = (texts.head(len(known)) == before).to_numpy()
    encoded = positions[~same]
    snapshot = _snapshot(old, catalogue, found.frame, positions, rows)
    rows_now = retriever.item_vectors
    if len(encoded):
        vectors = retriever.texts.encode(texts.filter(pl.Series(~same)).to_list(), "item")
        rows_now = LayeredRows.over(rows_now, encoded, vectors)
    index = retriever.index
    if not isinstance(index, LayeredIndex):
        index = LayeredIndex.over(index, old.eligible)
    changed = retriever.over(
        snapshot,
        item_vectors=rows_now,
        index=index.changed(rows_now, snapshot.eligible, positions, encoded),
        item_sequence=changes[-1].sequence,
    )
    return Changed(retriever=changed, encoded=encoded, refused=[str(error) for error in errors])


def _snapshot(
    old: ItemSnapshot, catalogue: CatalogueConfig, frame: pl.DataFrame, positions: Int32, rows: pl.DataFrame
) -> ItemSnapshot:
    """Return the items with rows at some positions in place of what stood there, or after all others."""
    n_new = frame.height - len(old)
    titles = [*old.titles, *([""] * n_new)]
    for position, title in zip(positions.tolist(), item_titles(rows, catalogue.texts), strict=True):
        titles[position] = title
    codes = np.pad(old.category_codes, (0, n_new), constant_values=-1)
    if catalogue.category_column is not None:
        codes[positions] = _codes(old, catalogue.category_column, rows)
    eligible = np.pad(old.eligible, (0, n_new))
    eligible[positions] = _eligible(old, catalogue, positions, rows)
    return ItemSnapshot(
        item_ids=frame[ITEM_ID].to_list(),
        attributes=frame.drop(ITEM_ID),
        stats=np.pad(old.stats, ((0, n_new), (0, 0)), constant_values=np.nan),
        category_codes=codes,
        eligible=eligible,
        titles=titles,
        as_of=old.as_of,
    )


def _codes(old: ItemSnapshot, column: str, rows: pl.DataFrame) -> Int32:
    """Return the codes int32 `[c]` of rows' categories; -1 for one that no item of the release has."""
    wanted = rows[column].unique().implode()
    every = old.frame.select(column, code=pl.Series(old.category_codes))
    held = every.filter(pl.col(column).is_in(wanted)).unique(column)
    found = rows.select(column).join(held, on=column, how="left", maintain_order="left")
    return found["code"].fill_null(-1).cast(pl.Int32).to_numpy()


def _eligible(old: ItemSnapshot, catalogue: CatalogueConfig, positions: Int32, rows: pl.DataFrame) -> Mask:
    """Return bool `[c]`: which of the rows may be candidates.

    Who bought them is known of the release's time alone: what was eligible then, or is new since shortly before.
    """
    known = positions[positions < len(old)]
    may = np.full(len(positions), catalogue.new_days is None)
    may[: len(known)] |= old.eligible[known]
    if catalogue.new_days is not None and AVAILABLE_FROM in rows.columns:
        since = old.as_of - timedelta(days=catalogue.new_days)
        may |= (rows[AVAILABLE_FROM] > since).fill_null(value=False).to_numpy()
    named = named_items(catalogue.eligible_items, rows, "eligible: items")
    return may if named is None else may & named
