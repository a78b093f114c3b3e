"""The columns of a feature row, and the row as arrays: the only place that turns one into the other.

Offline rows (a polars frame) and online rows (what Feast returns) become `UserFeatures` through the same function.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import (
    CATEGORY_STATS,
    HISTORY_ITEM,
    HISTORY_STATS,
    ITEM_STATS,
    USER,
    USER_ID,
    USER_STATS,
    UserFeatures,
    feature_schema_hash,
)
from infra.errors import UnavailableError

# Prefixed by view, so that one entity's views can be read side by side.
USER_STATS_COLUMNS: Final = tuple(f"user_{name}" for name in USER_STATS)
USER_AS_OF_COLUMN: Final = "user_as_of"
HISTORY_ITEMS_COLUMN: Final = f"history_{HISTORY_ITEM}"
HISTORY_COLUMNS: Final = tuple(f"history_{name}" for name in HISTORY_STATS)
CATEGORY_CODES_COLUMN: Final = "category_codes"
CATEGORY_COLUMNS: Final = tuple(f"category_{name}" for name in CATEGORY_STATS)
ITEM_STATS_COLUMNS: Final = tuple(f"item_{name}" for name in ITEM_STATS)

# Rows of other feature lists must never be read as ours.
SCHEMA_TAG: Final = bytes.fromhex(feature_schema_hash())[:8]
_HEADER: Final = struct.Struct("<8sdII")

Arrays = Mapping[str, npt.NDArray[np.generic]]


class RowFormatError(UnavailableError):
    """A stored row that these feature lists cannot read; the next materialisation replaces it."""


def to_user_features(user_id: str, as_of: float, stats: npt.NDArray[np.generic], lists: Arrays) -> UserFeatures:
    """Return the row of a known user.

    Args:
        user_id: the id asked for.
        as_of: epoch seconds (UTC) that ages count back from.
        stats: `[len(USER_STATS)]`.
        lists: one array for each list column: history columns `[n]`, category columns `[c]`.
    """
    items = np.ascontiguousarray(lists[HISTORY_ITEMS_COLUMN], np.int32)
    codes = np.ascontiguousarray(lists[CATEGORY_CODES_COLUMN], np.int32)
    history = np.empty((len(items), len(HISTORY_STATS)), np.float32)
    for position, column in enumerate(HISTORY_COLUMNS):
        history[:, position] = lists[column]
    category_stats = np.empty((len(codes), len(CATEGORY_STATS)), np.float32)
    for position, column in enumerate(CATEGORY_COLUMNS):
        category_stats[:, position] = lists[column]
    return UserFeatures(
        user_id=user_id,
        known=True,
        as_of=as_of,
        stats=np.ascontiguousarray(stats, np.float32),
        items=items,
        history=history,
        categories=codes,
        category_stats=category_stats,
    )


def user_features(rows: pl.DataFrame) -> list[UserFeatures]:
    """Return each row of a frame as `UserFeatures`, in order.

    Args:
        rows: `user_id`, `user_as_of`, USER_STATS_COLUMNS and the list columns; a row whose `user_as_of` is null is one
            the store didn't hold, and comes back as unknown.
    """
    stats = rows.select(USER_STATS_COLUMNS).to_numpy(order="c").astype(np.float32, copy=False)
    as_ofs = rows[USER_AS_OF_COLUMN].to_list()
    flat: dict[str, npt.NDArray[np.generic]] = {}
    ends: dict[str, npt.NDArray[np.int64]] = {}
    for key, columns in (
        (HISTORY_ITEMS_COLUMN, (HISTORY_ITEMS_COLUMN, *HISTORY_COLUMNS)),
        (CATEGORY_CODES_COLUMN, (CATEGORY_CODES_COLUMN, *CATEGORY_COLUMNS)),
    ):
        lengths = rows[key].list.len().fill_null(0).to_numpy()
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        for column in columns:
            flat[column] = rows[column].explode(empty_as_null=False, keep_nulls=False).to_numpy()
            ends[column] = bounds
    return [
        UserFeatures.unknown(user_id)
        if as_of is None
        else to_user_features(
            user_id,
            as_of,
            stats[row],
            {column: values[ends[column][row] : ends[column][row + 1]] for column, values in flat.items()},
        )
        for row, (user_id, as_of) in enumerate(zip(rows[USER_ID].to_list(), as_ofs, strict=True))
    ]


def wide_user_rows(user_ids: Sequence[str] | pl.Series, *frames: pl.DataFrame) -> pl.DataFrame:
    """Return the user frames of one cut side by side under `user_id`, in order.

    Args:
        user_ids: ids by user position.
        frames: user frames of `features.transforms`, one row per user in order.
    """
    ids = pl.DataFrame({USER_ID: pl.Series(user_ids, dtype=pl.String)})
    return pl.concat([ids, *(frame.drop(USER) for frame in frames)], how="horizontal")


def pack(user: UserFeatures) -> bytes:
    """Return a known user's row as one value for the online store.

    One value is one cell to read: with 500 history items the read and the conversion take a third of the time that
    29 typed values take, and NaN survives (Feast turns a NaN scalar into a null).

    Layout, little-endian: 8 bytes of the schema's sha256, as_of f64, n u32, c u32, stats f32, items i32 `[n]`, history
    f32 `[n, k]` by row, categories i32 `[c]`, category stats f32 `[c, m]` by row.
    """
    header = _HEADER.pack(SCHEMA_TAG, user.as_of, len(user.items), len(user.categories))
    arrays = (user.stats, user.items, user.history, user.categories, user.category_stats)
    return header + b"".join(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for array in arrays)


def unpack(user_id: str, data: bytes) -> UserFeatures:
    """Return the row that `pack` wrote; its arrays are read-only views of `data`.

    Raises:
        RowFormatError: the row was written under other feature lists, or is cut short.
    """
    if len(data) < _HEADER.size:
        raise RowFormatError(f"user {user_id!r}: expected a row of at least {_HEADER.size} bytes, found {len(data)}")
    tag, as_of, n, c = _HEADER.unpack_from(data)
    if tag != SCHEMA_TAG:
        raise RowFormatError(f"user {user_id!r}: expected a row of schema {SCHEMA_TAG.hex()}, found {tag.hex()}")
    k, m = len(HISTORY_STATS), len(CATEGORY_STATS)
    cells = len(USER_STATS) + n * (1 + k) + c * (1 + m)
    if len(data) != _HEADER.size + 4 * cells:
        raise RowFormatError(f"user {user_id!r}: expected {_HEADER.size + 4 * cells} bytes, found {len(data)}")
    floats = np.frombuffer(data, np.dtype("<f4"), offset=_HEADER.size)
    ints = floats.view(np.dtype("<i4"))
    stats, items, history, codes = np.cumsum([len(USER_STATS), n, n * k, c]).tolist()
    return UserFeatures(
        user_id=user_id,
        known=True,
        as_of=as_of,
        stats=floats[:stats],
        items=ints[stats:items],
        history=floats[items:history].reshape(n, k),
        categories=ints[history:codes],
        category_stats=floats[codes:].reshape(c, m),
    )
