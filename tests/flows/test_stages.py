"""The flows' stages on a small slice of real data: nothing after a cut reaches what is built before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.event_log import SEQUENCE
from features.splits import plan
from features.tables import Tables, encode
from features.tasks import ColumnLabel, EventLabel, SeenSpace, TaskSpec, ValueLabel
from features.texts import TextConfig
from features.transforms import FeatureConfig, compute
from flows.stages.data import Data, EligibleConfig
from flows.stages.encode import training_data
from flows.stages.frames import read_frames, write_frames
from flows.stages.rankings import held_out
from flows.stages.tables import content_hash, with_logged
from flows.stages.task_scores import beside_rows, task_scores

T = datetime(2017, 9, 4, tzinfo=UTC)
TASKS = (
    TaskSpec(name="retrieval", kind="contrastive", on="pair", label=EventLabel(event="purchase")),
    TaskSpec(
        name="repurchase",
        kind="binary",
        on="pair",
        label=EventLabel(event="purchase"),
        space=SeenSpace(event="purchase"),
    ),
    TaskSpec(
        name="demand", kind="regression", on="item", label=ValueLabel(event="purchase", reduce="count"),
        items='kind == "product"',
    ),
    TaskSpec(name="spend", kind="regression", on="user", label=ValueLabel(event="purchase", reduce="sum")),
    TaskSpec(name="income", kind="multiclass", on="user", label=ColumnLabel(column="income")),
)  # fmt: skip


def data_of(tables: Tables) -> Data:
    return Data(
        tables=tables, events=encode(tables), features=FeatureConfig(category_column="product_type"),
        texts=TextConfig(), eligibility=EligibleConfig(min_users=3, items='kind == "product"'),
    )  # fmt: skip


def test_a_planted_future_event_changes_no_training_data(small_journey: Tables, tmp_path: Path) -> None:
    drawn = plan(T, timedelta(days=28), ranker_folds=2, encoder_folds=1)
    last = max(drawn.end(cut) for cut in (*drawn.encoder_training, drawn.encoder_validation))
    past = small_journey.before(last)
    # everything at or after the encoder's last label, doubled
    future = small_journey.events.filter(pl.col("timestamp") >= last)
    planted = Tables(
        items=past.items,
        users=past.users,
        events=pl.concat([past.events, future, future.with_columns(value=pl.lit(9.0))]),
    )
    built = []
    for name, tables in (("past", past), ("planted", planted)):
        data = data_of(tables)
        frames = {}
        for cut in (*drawn.encoder_training, drawn.encoder_validation):
            folder = tmp_path / f"{name}-{cut:%Y%m%d}"
            folder.mkdir()
            frame = compute(data.events, data.categories, cut, n_users=data.n_users, config=data.features)
            write_frames(folder, frame)
            assert read_frames(folder, cut).item_stats.equals(frame.item_stats)
            frames[cut] = folder
        built.append(training_data(data, TASKS, drawn, frames))
    one, other = built
    np.testing.assert_array_equal(one.popularity, other.popularity)
    for left, right in zip((*one.train, one.validation), (*other.train, other.validation), strict=True):
        assert list(left.user_texts) == list(right.user_texts)
        for task in left.pairs:
            np.testing.assert_array_equal(left.pairs[task].item, right.pairs[task].item)
            np.testing.assert_array_equal(left.pairs[task].label, right.pairs[task].label)
        np.testing.assert_array_equal(left.universe["retrieval"], right.universe["retrieval"])
        for task in ("spend", "income"):
            np.testing.assert_array_equal(left.user_labels[task], right.user_labels[task])
        np.testing.assert_array_equal(left.item_labels["demand"], right.item_labels["demand"])
    assert one.validation is not None
    demand = one.validation.item_labels["demand"]
    cut, products = drawn.encoder_validation, past.items["kind"] == "product"
    sold = past.events.filter((pl.col("event") == "purchase") & (pl.col("timestamp") >= cut)).group_by("item_id").len()
    expected = dict(sold.iter_rows())
    known = np.flatnonzero(~np.isnan(demand))
    assert products.gather(known).all()
    assert [expected.get(past.items["item_id"][int(row)], 0) for row in known] == demand[known].tolist()
    assert (demand[known] == 0).any()
    # A household's income trains or is held out, never both.
    trained = one.train[0].users[~np.isnan(one.train[0].user_labels["income"])]
    held = one.validation.users[~np.isnan(one.validation.user_labels["income"])]
    assert len(trained) > len(held) > 0
    assert not set(trained.tolist()) & set(held.tolist())


def test_held_out_counts_eligible_purchases_of_known_users(small_journey: Tables) -> None:
    data = data_of(small_journey)
    eligible = data.eligible(T)
    truth = held_out(data, T, timedelta(days=28), eligible)
    events = data.events.filter(pl.col("event") == "purchase")
    position = int(truth.positions[0])
    own = events.filter(pl.col("user") == position)
    window = own.filter((pl.col("timestamp") >= T) & (pl.col("timestamp") < T + timedelta(days=28)))
    expected = {item for item in window["item"].to_list() if eligible[item]}
    before = set(own.filter(pl.col("timestamp") < T)["item"].to_list())
    assert set(truth.relevant[0].tolist()) == expected
    assert set(truth.fresh[0].tolist()) == expected - before


def test_logged_events_join_the_tables_and_unknown_items_are_counted() -> None:
    tables = Tables(
        items=pl.DataFrame({"item_id": ["a"]}),
        users=pl.DataFrame({"user_id": ["ann"], "age": ["30"]}),
        events=pl.DataFrame({"user_id": ["ann"], "item_id": ["a"], "event": ["purchase"], "timestamp": [T]}),
    )
    logged = pl.DataFrame(
        {
            SEQUENCE: [1, 2, 3], "event_id": ["1", "2", "3"], "user_id": ["ann", "bob", "bob"],
            "item_id": ["a", "a", "zzz"], "event": ["purchase"] * 3, "timestamp": [T] * 3,
        }
    )  # fmt: skip
    grown, (finding,) = with_logged(tables, logged)
    assert grown.events.height == 3
    assert grown.users["user_id"].to_list() == ["ann", "bob"]
    assert finding.count == 1
    assert finding.action == "drop"


def test_content_hash_knows_values_order_names_and_types() -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "n": [1, 2]})
    one = content_hash(frame)
    assert one == content_hash(frame.select("n", "id"))
    others = [
        frame.reverse(), frame.rename({"n": "m"}), frame.cast({"n": pl.Int32}), frame.head(1),
        frame.with_columns(n=pl.lit(None, pl.Int64)),
    ]  # fmt: skip
    found = [one, content_hash(frame, "more"), *(content_hash(other) for other in others)]
    assert len(set(found)) == len(found)


def test_two_releases_on_the_same_rows_by_hand() -> None:
    """Six users with a positive and a negative each, which one release ranks rightly and the other wrongly."""
    labels, users = np.tile([1.0, 0.0], 6), np.repeat(np.arange(6, dtype=np.int32), 2)
    right, wrong = np.tile([0.75, 0.25], 6), np.tile([0.25, 0.75], 6)
    rows = {row.name: row for row in beside_rows("buy", labels, right, wrong, users)}
    # ln .25 against ln .75 on every row, so in every resample: log 3 less, and all pairs ordered rightly.
    assert rows["log_loss.buy"].difference.value == pytest.approx(-np.log(3))
    assert (rows["log_loss.buy"].difference.low, rows["log_loss.buy"].verdict) == (pytest.approx(-np.log(3)), "better")
    assert (rows["auc.buy"].candidate.value, rows["auc.buy"].current.value) == (1.0, 0.0)
    assert (rows["auc.buy"].difference.low, rows["auc.buy"].verdict) == (1.0, "better")
    assert {row.verdict for row in beside_rows("buy", labels, wrong, right, users)} == {"worse"}
    for tied in beside_rows("buy", labels, right, right, users):
        assert (tied.difference.low, tied.difference.high, tied.verdict) == (0.0, 0.0, "level")


def test_rows_that_one_release_cannot_score_are_left_out_for_both() -> None:
    labels, users = np.array([1.0, 0.0, np.nan, 0.0, 1.0]), np.zeros(5, np.int32)
    one, other = np.array([0.5, 0.5, 0.5, np.nan, 0.5]), np.array([0.5, 0.5, 0.5, 0.5, np.nan])
    assert [row.difference.n for row in beside_rows("buy", labels, one, other, users)] == [2, 2]
    assert beside_rows("buy", labels, np.full(5, np.nan), other, users) == ()


def test_task_scores_by_hand() -> None:
    labels = np.array([1.0, 0.0, np.nan, 0.0])
    found = task_scores("buy", "blend", labels, np.array([0.5, 0.5, 0.9, 0.25]), np.array([0, 1, 2, 1], np.int32))
    assert found is not None
    assert (found.n, found.positives) == (3, 1)
    # -(ln .5 + ln .5 + ln .75) / 3
    assert found.log_loss is not None
    assert found.log_loss.value == pytest.approx((2 * np.log(2) - np.log(0.75)) / 3)
    # one tie and one win of the positive: (.5 + 1) / 2
    assert found.auc is not None
    assert found.auc.value == pytest.approx(0.75)
    assert found.calibration is not None
    assert found.calibration.value == pytest.approx(1.25)  # (.5 + .5 + .25) / 1
