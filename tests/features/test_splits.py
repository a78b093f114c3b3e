"""Windows of a time plan never overlap with what they must not."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import SPLIT, TEXT_ID, TIMESTAMP
from features.splits import SplitConfig, SplitError, TimePlan, held_out_ids, plan, split_texts

T = datetime(2017, 12, 4, tzinfo=UTC)
H = timedelta(days=28)


def assert_out_of_time(drawn: TimePlan) -> None:
    """No label of an earlier stage is seen at or after the next stage's cut, and none reaches the evaluation window."""
    encoder_labels_end = max(drawn.end(cut) for cut in (*drawn.encoder_training, drawn.encoder_validation))
    assert encoder_labels_end <= min(drawn.ranker)
    assert max(drawn.end(cut) for cut in drawn.encoder_training) <= drawn.encoder_validation
    assert max(drawn.end(cut) for cut in drawn.gbdt) <= drawn.blend
    assert drawn.end(drawn.blend) <= drawn.as_of
    windows = drawn.windows()
    assert all(earlier.end <= later.cut for earlier, later in itertools.pairwise(windows))
    assert [window.role for window in windows].count("evaluation") == 1


def test_cuts_of_the_demo() -> None:
    drawn = plan(T, H)
    # 4 December less 28 days is 6 November; then 9 October, 11 September (validation), 14 August, 17 July, 19 June.
    assert drawn.ranker == (datetime(2017, 11, 6, tzinfo=UTC), datetime(2017, 10, 9, tzinfo=UTC))
    assert drawn.blend == datetime(2017, 11, 6, tzinfo=UTC)
    assert drawn.gbdt == (datetime(2017, 10, 9, tzinfo=UTC),)
    assert drawn.encoder_validation == datetime(2017, 9, 11, tzinfo=UTC)
    assert drawn.encoder_training == tuple(datetime(2017, *day, tzinfo=UTC) for day in ((8, 14), (7, 17), (6, 19)))
    assert drawn.cuts[0] == datetime(2017, 6, 19, tzinfo=UTC)
    assert drawn.cuts[-1] == T
    assert_out_of_time(drawn)


@given(
    as_of=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
    days=st.integers(1, 400),
    ranker_folds=st.integers(2, 6),
    encoder_folds=st.integers(1, 8),
)
def test_no_window_overlaps(as_of: datetime, days: int, ranker_folds: int, encoder_folds: int) -> None:
    drawn = plan(as_of, timedelta(days=days), ranker_folds, encoder_folds)
    assert_out_of_time(drawn)
    assert len(drawn.cuts) == ranker_folds + encoder_folds + 2
    assert len(set(drawn.cuts)) == len(drawn.cuts)


def test_describe_names_what_each_window_fits() -> None:
    rows = plan(T, H).describe()
    assert [row["fits"] for row in rows] == [
        "encoder", "encoder", "encoder", "early stopping", "GBDT", "blend and calibration", "nothing: held out",
    ]  # fmt: skip
    assert rows[-1]["labels from"] == "2017-12-04T00:00+00:00"
    assert rows[-1]["labels until"] == "2018-01-01T00:00+00:00"


def test_a_zone_other_than_utc_is_the_same_instant() -> None:
    local = datetime(2017, 12, 4, 2, tzinfo=timezone(timedelta(hours=2)))
    assert plan(local, H) == plan(T, H)


@pytest.mark.parametrize(
    ("as_of", "horizon", "ranker_folds", "encoder_folds", "expected"),
    [
        (datetime(2017, 12, 4), H, 2, 3, "naive"),
        (T, timedelta(0), 2, 3, "positive"),
        (T, H, 1, 3, "ranker_folds >= 2"),
        (T, H, 2, 0, "encoder_folds >= 1"),
    ],
)
def test_impossible_plans_are_refused(
    as_of: datetime, horizon: timedelta, ranker_folds: int, encoder_folds: int, expected: str
) -> None:
    with pytest.raises(SplitError, match=expected):
        plan(as_of, horizon, ranker_folds, encoder_folds)


def test_too_little_history_says_how_many_folds_fit() -> None:
    # From 1 July to the validation cut 11 September are 72 days; less 28 of history 44 are left: one 28-day fold.
    with pytest.raises(SplitError, match="hold 1 encoder folds, found encoder_folds=3"):
        SplitConfig(minimum_history_days=28).plan(T, first_event=datetime(2017, 7, 1, tzinfo=UTC))
    SplitConfig(minimum_history_days=28, encoder_folds=1).plan(T, first_event=datetime(2017, 7, 1, tzinfo=UTC))


def texts(*days: float) -> pl.DataFrame:
    """Texts dated some days before the oldest ranker cut of `plan(T, H)`, 9 October."""
    oldest = min(plan(T, H).ranker)
    return pl.DataFrame(
        {TEXT_ID: [f"t{row}" for row in range(len(days))], TIMESTAMP: [oldest - timedelta(days=day) for day in days]}
    )


def test_dated_texts_are_held_out_in_the_encoders_validation_window() -> None:
    # The window is the 28 days before 9 October, its start inclusive, its end exclusive.
    train, held = split_texts(texts(200, 28.1, 28, 0.1, 0, -10), plan(T, H))
    assert train[TEXT_ID].to_list() == ["t0", "t1"]
    assert held[TEXT_ID].to_list() == ["t2", "t3"]


@pytest.mark.parametrize("days", [range(30, 430), [1] * 400])
def test_texts_that_all_fall_into_one_part_are_held_out_by_id(days: list[float]) -> None:
    train, held = split_texts(texts(*days, 0), plan(T, H))
    assert held[TEXT_ID].to_list() == [
        f"t{row}" for row in held_out_ids(pl.Series([f"t{n}" for n in range(400)])).nonzero()[0]
    ]
    assert train.height + held.height == 400  # the last one stands at the oldest ranker cut


def test_undated_texts_are_held_out_by_id() -> None:
    train, held = split_texts(texts(*range(30)).drop(TIMESTAMP), plan(T, H))
    # blake2b of 8 bytes, as hexdigest() gives it, divides by ten for these of t0 to t29.
    assert held[TEXT_ID].to_list() == ["t2", "t3", "t19", "t23"]
    assert train.height == 26


def test_a_split_goes_before_dates_and_hashes() -> None:
    # t0 trains though its date holds out, t3 is held out though it trains by date; t1 and t2 go by their dates.
    dated = texts(1, 200, 2, 200).with_columns(pl.Series(SPLIT, ["train", None, None, "validation"]))
    train, held = split_texts(dated, plan(T, H))
    assert (train[TEXT_ID].to_list(), held[TEXT_ID].to_list()) == (["t0", "t1"], ["t2", "t3"])
    # Of undated t0 to t29 the hash holds out t2, t3, t19, t23 (see above); t2 and t4 say otherwise.
    split = [{2: "train", 4: "validation"}.get(row) for row in range(30)]
    undated = texts(*range(30)).drop(TIMESTAMP).with_columns(pl.Series(SPLIT, split))
    _, held = split_texts(undated, plan(T, H))
    assert held[TEXT_ID].to_list() == ["t3", "t4", "t19", "t23"]


def test_a_text_with_a_split_in_place_of_a_time_is_read() -> None:
    mixed = texts(200, 2, 1).with_columns(
        pl.Series(SPLIT, ["train", "validation", "train"]),
        pl.when(pl.int_range(3) < 2).then(None).otherwise(TIMESTAMP).alias(TIMESTAMP),
    )
    train, held = split_texts(mixed, plan(T, H))
    # t2 is dated, one day before the ranker's oldest cut.
    assert (train[TEXT_ID].to_list(), held[TEXT_ID].to_list()) == (["t0", "t2"], ["t1"])


def test_no_split_lets_a_text_of_the_rankers_time_train() -> None:
    late = texts(10, 0, -10).with_columns(pl.Series(SPLIT, ["train"] * 3))
    train, held = split_texts(late, plan(T, H))
    assert (train[TEXT_ID].to_list(), held.height) == (["t0"], 0)


def test_without_events_texts_train_up_to_a_horizon_before_the_as_of_time() -> None:
    drawn = SplitConfig(horizon_days=28).text_plan(T)
    assert (drawn.cuts, drawn.encoder_end, drawn.encoder_validation) == ((T - H, T), T, T - H)
    assert [window.role for window in drawn.windows()] == ["encoder validation", "evaluation"]
    assert [row["fits"] for row in drawn.describe()] == ["early stopping", "nothing: held out"]
    # The oldest ranker cut of the usual plan lies two horizons back: these are 28.1, 28, 0.1 and 0 days before T.
    train, held = split_texts(texts(-27.9, -28, -55.9, -56), drawn)
    assert (train[TEXT_ID].to_list(), held[TEXT_ID].to_list()) == (["t0"], ["t1", "t2"])


def test_one_id_in_ten_is_held_out_and_none_changes_sides() -> None:
    ids = pl.Series([f"id-{number}" for number in range(10_000)])
    held = held_out_ids(ids)
    # 1,000 expected, 30 a standard deviation.
    assert 880 < held.sum() < 1_120
    assert held_out_ids(ids.reverse())[::-1].tolist() == held.tolist()
    # The number of "g" is 7815571473436455100; that of "a", 4681665781835383343, ends otherwise.
    assert held_out_ids(pl.Series(["a", "g"])).tolist() == [False, True]
