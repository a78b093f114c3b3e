"""The feature store: Feast behind the few calls that flows and services make.

Offline, a snapshot is one Parquet file per view and cut, stamped with the cut. Online, a user is one packed value.

Measured on 2 cores with other work beside it. Feast's join on DuckDB: 1.6 s for 2,467 users x 3 cuts with their lists
(polars join_asof .2 s), 3 s for 400,000 (item, cut) rows (polars 1.7 s), so it carries training sets of this size.
Online, SQLite / Redis: one read with its conversion .37 / .84 ms, one pushed row 7 / 11 ms, materialising 2,467 users
1.7 / 4 s.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import string
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import polars as pl
import structlog
import yaml

from features.feast_import import CONNECTION_ERRORS, feast
from features.rows import pack, unpack, user_features, wide_user_rows
from features.schema import CUT, ITEM, ITEM_ID, USER, USER_ID, UserFeatures
from features.transforms import FeatureFrames
from features.views import (
    EVENT_TIMESTAMP,
    ITEM_SERVICE,
    ITEM_STATS_VIEW,
    ONLINE_SERVICE,
    TRAINING_SERVICE,
    USER_CATEGORY_VIEW,
    USER_HISTORY_VIEW,
    USER_ROW_COLUMN,
    USER_ROW_VIEW,
    USER_STATS_VIEW,
    define,
    snapshot_pattern,
)
from infra.errors import InvalidInputError, PolyrankError, UnavailableError
from infra.files import write_atomic
from infra.settings import Settings

_log = structlog.get_logger(__name__)
_REPO: Final = Path(__file__).parent / "repo" / "feature_store.yaml"
_ROW: Final = "row"


class FeaturesUnavailableError(UnavailableError):
    """The online store cannot be read or written; callers answer with default features and say so."""

    title = "Features unavailable"


class SnapshotNotFoundError(InvalidInputError):
    """Features were asked for that no snapshot holds."""


class HistoricalJoinError(PolyrankError):
    """The historical join gave other rows than were asked for."""


@dataclass(frozen=True, kw_only=True)
class StoreHealth:
    """What the online store said: its kind, whether it answered, and the error if not."""

    kind: str
    reachable: bool
    error: str | None
    materialized_until: datetime | None


class FeatureStore:
    """Feast on a folder; nothing is opened before the first call.

    Args:
        state: the workspace's folder of feature files (registry, offline snapshots, SQLite online store).
        settings: `online_store_url` puts Redis or Valkey in SQLite's place, `timeout_s` bounds its calls.
    """

    def __init__(self, state: Path, settings: Settings) -> None:
        self._state = state.absolute()
        self._settings = settings
        self._write_lock = threading.Lock()

    @cached_property
    def _feast(self) -> Any:
        self._state.mkdir(parents=True, exist_ok=True)
        store = feast.FeatureStore(config=feast.RepoConfig(**_repo_config(self._state, self._settings)))
        # The file registry ignores the option of this name (0.67), so it is set where it is read. Without it every
        # online read fails while another process materialises, and for ever after one that was killed at it.
        store.registry.serve_features_while_materializing = True
        return store

    @cached_property
    def _online_service(self) -> Any:
        return self._feast.get_feature_service(ONLINE_SERVICE)

    @cached_property
    def _kind(self) -> str:
        return str(self._feast.config.online_store.type)

    # --- offline -------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Register the repo's definitions and create the online tables; safe to repeat."""
        for view in (USER_STATS_VIEW, USER_HISTORY_VIEW, USER_CATEGORY_VIEW, ITEM_STATS_VIEW, USER_ROW_VIEW):
            snapshot_pattern(self._state, view).parent.mkdir(parents=True, exist_ok=True)
        with _reaching("apply"):
            self._feast.apply(define(self._state).objects())
            if self._kind == "sqlite":
                # Readers must not wait for the writer: the journal mode stays with the file.
                with contextlib.closing(sqlite3.connect(self._feast.config.online_store.path)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
        self.__dict__.pop("_online_service", None)
        _log.info("features_applied", state=str(self._state), online=self._kind)

    def write_snapshot(self, frames: FeatureFrames, user_ids: pl.Series, item_ids: pl.Series) -> None:
        """Write the features of a cut offline, in place of an earlier snapshot of that cut.

        Args:
            frames: `features.transforms.compute`; one row per user and item in order.
            user_ids: String `[n_users]` by position.
            item_ids: String `[n_items]` by position.
        """
        users = (frames.user_stats, frames.user_history, frames.user_category)
        wide = wide_user_rows(user_ids, *users)
        tables = {
            USER_STATS_VIEW: _keyed(frames.user_stats, USER, USER_ID, user_ids),
            USER_HISTORY_VIEW: _keyed(frames.user_history, USER, USER_ID, user_ids),
            USER_CATEGORY_VIEW: _keyed(frames.user_category, USER, USER_ID, user_ids),
            ITEM_STATS_VIEW: _keyed(frames.item_stats, ITEM, ITEM_ID, item_ids),
            USER_ROW_VIEW: _packed(wide),
        }
        for view, table in tables.items():
            stamped = table.with_columns(pl.lit(frames.cut).cast(pl.Datetime("us", "UTC")).alias(EVENT_TIMESTAMP))
            buffer = io.BytesIO()
            stamped.write_parquet(buffer)
            write_atomic(self._snapshot(view, frames.cut), buffer.getvalue())
        _log.info("snapshot_written", cut=frames.cut.isoformat(), users=len(user_ids), items=len(item_ids))

    def has_snapshot(self, cut: datetime) -> bool:
        """Return whether every view has a snapshot of the cut under the present feature lists."""
        return all(self._snapshot(view, cut).is_file() for view in (USER_ROW_VIEW, USER_STATS_VIEW, ITEM_STATS_VIEW))

    def historical_users(
        self, user_ids: Sequence[str] | pl.Series, cuts: Sequence[datetime] | pl.Series
    ) -> pl.DataFrame:
        """Return each user's features as of the cut beside it, by Feast's point-in-time join.

        Args:
            user_ids: ids, repeats allowed.
            cuts: one time-zone aware time for each id.

        Returns:
            `user_id`, `cut`, stats and list columns, one row for each pair asked for, in order; null features where no
            snapshot at or before the cut holds the user (`features.rows.user_features` reads that as unknown).

        Raises:
            SnapshotNotFoundError: no snapshot was ever written.
            HistoricalJoinError: Feast gave another number of rows than asked for.
        """
        return self._historical(TRAINING_SERVICE, USER_STATS_VIEW, USER_ID, user_ids, cuts)

    def historical_items(
        self, item_ids: Sequence[str] | pl.Series, cuts: Sequence[datetime] | pl.Series
    ) -> pl.DataFrame:
        """Return each item's stats as of the cut beside it; as `historical_users`, for items."""
        return self._historical(ITEM_SERVICE, ITEM_STATS_VIEW, ITEM_ID, item_ids, cuts)

    def _historical(
        self, service: str, view: str, key: str, ids: Sequence[str] | pl.Series, cuts: Sequence[datetime] | pl.Series
    ) -> pl.DataFrame:
        pattern = snapshot_pattern(self._state, view)
        if not any(pattern.parent.glob(pattern.name)):
            raise SnapshotNotFoundError(f"expected a snapshot of {view} like {pattern}, found none: refresh features")
        asked = pl.DataFrame(
            {key: pl.Series(ids, dtype=pl.String), EVENT_TIMESTAMP: pl.Series(cuts, dtype=pl.Datetime("us", "UTC"))}
        ).with_row_index(_ROW)
        job = self._feast.get_historical_features(
            entity_df=asked.to_pandas(), features=self._feast.get_feature_service(service)
        )
        found = pl.from_arrow(job.to_arrow())
        assert isinstance(found, pl.DataFrame)  # from_arrow of a table
        # A join has no order of its own; the row number restores the caller's and shows a lost or doubled row.
        found = found.sort(_ROW)
        if not found[_ROW].cast(pl.UInt32).equals(asked[_ROW]):
            raise HistoricalJoinError(f"{view}: expected {asked.height} rows in order, found {found.height}")
        return found.drop(_ROW).rename({EVENT_TIMESTAMP: CUT})

    # --- online --------------------------------------------------------------------------------------------------

    def materialize(self, as_of: datetime, *, items: bool = False) -> None:
        """Put the snapshot of `as_of` online: every user's row, and item stats where something outside reads them.

        Raises:
            SnapshotNotFoundError: that snapshot was not written.
            FeaturesUnavailableError: the online store cannot be written.
        """
        if not self.has_snapshot(as_of):
            raise SnapshotNotFoundError(f"expected {self._snapshot(USER_ROW_VIEW, as_of)}, found none")
        views = [USER_ROW_VIEW, ITEM_STATS_VIEW] if items else [USER_ROW_VIEW]
        with self._write_lock, _reaching("materialize"), _quiet():
            self._feast.materialize(start_date=as_of, end_date=as_of, feature_views=views)
        _log.info("features_materialized", as_of=as_of.isoformat(), views=views)

    def online_user(self, user_id: str) -> UserFeatures:
        """Return a user's features by one online read; an unknown user comes back with `known=False`.

        Raises:
            FeaturesUnavailableError: the store cannot be read.
            RowFormatError: the row was written under other feature lists.
        """
        with _reaching("read"):
            answer = self._feast.get_online_features(self._online_service, {USER_ID: [user_id]}).proto
        column = list(answer.metadata.feature_names.val).index(USER_ROW_COLUMN)
        data = answer.results[column].values[0].bytes_val
        return unpack(user_id, data) if data else UserFeatures.unknown(user_id)

    def push_users(self, rows: pl.DataFrame) -> None:
        """Write the rows of some users online at once.

        Args:
            rows: as `features.rows.user_features` takes them, none unknown.

        Raises:
            FeaturesUnavailableError: the store cannot be written.
        """
        stamps = pl.from_epoch((rows["user_as_of"] * 1e6).cast(pl.Int64), time_unit="us").dt.replace_time_zone("UTC")
        table = _packed(rows).with_columns(stamps.alias(EVENT_TIMESTAMP)).to_pandas()
        with self._write_lock, _reaching("push"):
            # What `push` calls for the views of the push source. `push` also parses the whole registry again on every
            # call, for a feature (precomputed services) that we don't use: 3 ms become 25.
            view = self._online_service.feature_view_projections[0].name
            self._feast.write_to_online_store(view, table)

    def health(self) -> StoreHealth:
        """Ask the online store for a user that doesn't exist and say how that went; raises nothing."""
        try:
            self.online_user("")
            view = self._feast.get_feature_view(USER_ROW_VIEW)
        except PolyrankError as error:
            kind = "redis" if self._settings.online_store_url else "sqlite"
            return StoreHealth(kind=kind, reachable=False, error=str(error), materialized_until=None)
        until = view.most_recent_end_time
        return StoreHealth(kind=self._kind, reachable=True, error=None, materialized_until=until)

    def _snapshot(self, view: str, cut: datetime) -> Path:
        return snapshot_pattern(self._state, view, cut.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ"))


def _keyed(frame: pl.DataFrame, position: str, key: str, ids: pl.Series) -> pl.DataFrame:
    return frame.drop(position).insert_column(0, ids.alias(key))


def _packed(rows: pl.DataFrame) -> pl.DataFrame:
    values = [pack(user) for user in user_features(rows)]
    return pl.DataFrame({USER_ID: rows[USER_ID], USER_ROW_COLUMN: pl.Series(values, dtype=pl.Binary)})


def _repo_config(state: Path, settings: Settings) -> dict[str, Any]:
    """Return the repo's YAML with the state folder filled in, and Redis in SQLite's place where the settings say so."""
    text = string.Template(_REPO.read_text(encoding="utf-8")).substitute(POLYRANK_FEATURE_STATE=str(state))
    config: dict[str, Any] = yaml.safe_load(text)
    if settings.online_store_url is not None:
        config["online_store"] = {
            "type": "redis",
            "connection_string": _redis_string(settings.online_store_url.get_secret_value(), settings.timeout_s),
            # Feast drops a write whose time equals the stored row's; two events of one basket have one time.
            "skip_dedup": True,
        }
    return config


def _redis_string(url: str, timeout_s: float) -> str:
    """Return Feast's form (host:port,key=value,...) of a redis:// or rediss:// URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise InvalidInputError(
            f"POLYRANK_ONLINE_STORE_URL: expected redis://host:port/db or rediss://, found scheme {parts.scheme!r}"
        )
    options: dict[str, object] = {
        "db": int(parts.path.strip("/") or 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    if parts.scheme == "rediss":
        options["ssl"] = True
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value:
            options[name] = unquote(value)
    if any("," in str(value) for value in options.values()):
        raise InvalidInputError("POLYRANK_ONLINE_STORE_URL: Feast cannot carry a comma in a user name or password")
    return ",".join([f"{parts.hostname}:{parts.port or 6379}", *(f"{k}={json.dumps(v)}" for k, v in options.items())])


@contextlib.contextmanager
def _reaching(action: str) -> Iterator[None]:
    """Turn a failed connection, or a store that was never applied, into FeaturesUnavailableError."""
    try:
        yield
    except (*CONNECTION_ERRORS, feast.errors.FeastObjectNotFoundException) as error:
        raise FeaturesUnavailableError(f"feature store {action}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Feast's prints and bars for terminals."""
    if sys.stderr.isatty():
        yield
        return
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield
