"""The canonical tables as one value: dense positions, growth that keeps them, eligibility, and a folder of Parquet.

The row of an item in `Tables.items` is its int32 position everywhere else (index, factors, snapshot), and likewise for
users. A catalogue therefore only ever appends: `extend` keeps every earlier position.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import (
    AVAILABLE_FROM,
    AVAILABLE_TO,
    EVENT,
    ITEM,
    ITEM_ID,
    QUANTITY,
    SPLIT,
    TEXT,
    TEXT_ID,
    TIMESTAMP,
    USER,
    USER_ID,
    UTC,
    VALUE,
)
from infra.errors import InvalidInputError, NotFoundError
from infra.files import atomic_directory

ITEMS_TABLE: Final = "items"
USERS_TABLE: Final = "users"
EVENTS_TABLE: Final = "events"
TEXTS_TABLE: Final = "texts"
# Without texts, what a shop has.
SHOP_TABLES: Final = frozenset({ITEMS_TABLE, USERS_TABLE, EVENTS_TABLE})
PURCHASE: Final = "purchase"

# Values of the texts' `split`. No fitted part sees a row of `test`.
TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
SPLITS: Final = (TRAIN, VALIDATION, TEST)


class UnknownIdError(InvalidInputError):
    """An event names a user or item that its table lacks."""

    title = "Unknown id"


class TablesNotFoundError(NotFoundError):
    """A folder that should hold stored tables lacks one."""

    title = "Tables not found"


def no_items() -> pl.DataFrame:
    """Return the items table of a source that has none."""
    return pl.DataFrame(schema={ITEM_ID: pl.String})


def no_users() -> pl.DataFrame:
    """Return the users table of a source that has none."""
    return pl.DataFrame(schema={USER_ID: pl.String})


def no_events() -> pl.DataFrame:
    """Return the events table of a source that has none."""
    ids = dict.fromkeys((USER_ID, ITEM_ID, EVENT), pl.String)
    return pl.DataFrame(schema={**ids, TIMESTAMP: UTC, VALUE: pl.Float64, QUANTITY: pl.Float64})


def no_texts() -> pl.DataFrame:
    """Return the texts table of a source that has none."""
    return pl.DataFrame(schema={TEXT_ID: pl.String, TEXT: pl.String})


@dataclass(frozen=True, kw_only=True)
class Tables:
    """One catalogue, its events, and the texts that tasks are about; a table that a source lacks has no rows.

    Attributes:
        items: `item_id` and attribute columns; the row is the item's position.
        users: `user_id` and attribute columns; the row is the user's position.
        events: `user_id`, `item_id`, `event`, `timestamp` (UTC, microseconds); value, quantity, request id if there.
        texts: `text_id`, `text`, label columns of any type; `timestamp` and `split` (see `SPLITS`) if there.
    """

    items: pl.DataFrame = field(default_factory=no_items)
    users: pl.DataFrame = field(default_factory=no_users)
    events: pl.DataFrame = field(default_factory=no_events)
    texts: pl.DataFrame = field(default_factory=no_texts)

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        """Each table by its name."""
        return {ITEMS_TABLE: self.items, USERS_TABLE: self.users, EVENTS_TABLE: self.events, TEXTS_TABLE: self.texts}

    def before(self, cut: datetime) -> Tables:
        """Return the same catalogue with the events and texts strictly before the cut (an aware datetime).

        A text that has a split in place of a time stays.
        """
        earlier = pl.col(TIMESTAMP) < cut
        undated = pl.col(TIMESTAMP).is_null()
        texts = self.texts.filter(earlier | undated) if TIMESTAMP in self.texts.columns else self.texts
        return replace(self, events=self.events.filter(earlier), texts=texts)

    def only(self, names: Collection[str]) -> Tables:
        """Return the same with the rows of the named tables alone."""
        return replace(self, **{name: frame.clear() for name, frame in self.frames.items() if name not in names})

    def without_test(self) -> Tables:
        """Return the same without the texts of split `test`: all that training, however indirectly, may read."""
        if SPLIT not in self.texts.columns:
            return self
        return replace(self, texts=self.texts.filter(pl.col(SPLIT).ne_missing(TEST)))


def encode(tables: Tables) -> pl.DataFrame:
    """Return the events with int32 `user` and `item` positions in place of ids, sorted by time.

    Events of one time keep their order in the table. Other columns stay as they are.

    Raises:
        UnknownIdError: if an event names an id that its table lacks (`features.validate` settles those first).
    """
    events = _with_position(tables.events, tables.users, USER_ID, USER)
    events = _with_position(events, tables.items, ITEM_ID, ITEM)
    rest = [column for column in events.columns if column not in (USER, ITEM)]
    return events.select(USER, ITEM, *rest).sort(TIMESTAMP, maintain_order=True)


def _with_position(events: pl.DataFrame, catalogue: pl.DataFrame, key: str, position: str) -> pl.DataFrame:
    positions = catalogue.select(key, pl.int_range(pl.len(), dtype=pl.Int32).alias(position))
    joined = events.join(positions, on=key, how="left", maintain_order="left")
    unknown = joined.filter(pl.col(position).is_null())
    if unknown.height:
        found = unknown[key].unique(maintain_order=True).head(5).to_list()
        msg = (
            f"events.{key}: expected one of the {catalogue.height} ids of its table, "
            f"found {unknown.height} events of others, first {found}"
        )
        raise UnknownIdError(msg)
    return joined.drop(key)


def extend(previous: Tables | None, new: Tables) -> Tables:
    """Return the new tables with the previous catalogue's positions kept and new ids appended.

    An id in both takes the new attributes; one that only the previous catalogue has keeps its row as it was (an
    attribute that the new table lacks is null). Events and texts are the new ones: a refresh reads its sources whole.
    """
    if previous is None:
        return new
    return replace(
        new,
        items=_extend_catalogue(previous.items, new.items, ITEM_ID),
        users=_extend_catalogue(previous.users, new.users, USER_ID),
    )


def _extend_catalogue(previous: pl.DataFrame, new: pl.DataFrame, key: str) -> pl.DataFrame:
    gone = previous.join(new.select(key), on=key, how="anti")
    kept_columns = [column for column in gone.columns if column in new.columns]
    rows = pl.concat([new, gone.select(kept_columns)], how="diagonal_relaxed")
    order = pl.concat([previous.select(key), new.select(key)]).unique(maintain_order=True)
    return order.join(rows, on=key, how="left", maintain_order="left").select(new.columns)


def eligible_items(
    items: pl.DataFrame,
    events: pl.DataFrame,
    *,
    cut: datetime,
    event: str = PURCHASE,
    min_users: int | None = 5,
    new_since: datetime | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.bool_]:
    """Return which items may be recommended as of a cut.

    An item that has ended by the cut (`available_to`) may not. One that begins after it may: whoever asks is shown it
    from then on.

    Args:
        items: the catalogue.
        events: encoded events (`encode`).
        cut: only events strictly before it count.
        event: the event whose users are counted.
        min_users: fewest distinct users; None asks for none, as where a source has no events.
        new_since: an item that begins (`available_from`) later needs no users, or nobody would ever find it; None makes
            no such exception.
        allowed: bool `[n_items]`, which items to keep; None keeps all.

    Returns:
        bool `[n_items]`.
    """
    eligible = np.full(items.height, min_users is None)
    if min_users is not None:
        users_of_item = (
            events.lazy()
            .filter((pl.col(EVENT) == event) & (pl.col(TIMESTAMP) < cut))
            .group_by(ITEM)
            .agg(pl.col(USER).n_unique().alias("users"))
            .filter(pl.col("users") >= min_users)
            .collect()
        )
        eligible[users_of_item[ITEM].to_numpy()] = True
    if new_since is not None and AVAILABLE_FROM in items.columns:
        eligible |= (items[AVAILABLE_FROM] > new_since).fill_null(value=False).to_numpy()
    if AVAILABLE_TO in items.columns:
        eligible &= ~(items[AVAILABLE_TO] <= cut).fill_null(value=False).to_numpy()
    return eligible if allowed is None else eligible & allowed


def write_tables(tables: Tables, folder: Path) -> None:
    """Write every table as Parquet into `folder`, in place of what stands there, whole or not at all."""
    with atomic_directory(folder, replace=True) as partial:
        for name, frame in tables.frames.items():
            frame.write_parquet(partial / f"{name}.parquet")


def read_tables(folder: Path) -> Tables:
    """Read what `write_tables` wrote.

    Raises:
        TablesNotFoundError: if the folder lacks one of the tables.
    """
    paths = {name: folder / f"{name}.parquet" for name in (ITEMS_TABLE, USERS_TABLE, EVENTS_TABLE, TEXTS_TABLE)}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        msg = f"expected the four tables in {folder}, found none at {', '.join(missing)}"
        raise TablesNotFoundError(msg)
    return Tables(**{name: pl.read_parquet(path) for name, path in paths.items()})
