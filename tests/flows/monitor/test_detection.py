"""Jumps and drifts in series made for each rule, and what no verdict may depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.monitor.config import DetectionConfig
from flows.monitor.detection import Detector, Verdict
from flows.monitor.expectation import Float64

# One text in ten is negative, ten texts a bucket.
QUIET = 100


def detector(negative: list[int], *, texts: int = 10, **config: Any) -> Detector:
    """One series, which is all texts, after a quiet history of one negative text in ten."""
    n = np.array([[10.0] * QUIET + [float(texts)] * len(negative)])
    k = np.array([[1.0] * QUIET + [float(count) for count in negative]])
    return Detector.of(DetectionConfig(**config), n, k)


def judged(own: Detector, start: int = 0) -> list[Verdict]:
    return [verdict for bucket in range(start, own.texts.shape[1]) for verdict in own.judge(bucket)]


def test_the_level_shares_the_rate_between_tests_and_series() -> None:
    # 1 per 1,000 hours, of buckets of 24: .024 per bucket, over 3 series x 2 tests.
    own = detector([], bucket_hours=24, false_alarms=1.0)
    assert own.level(3) == pytest.approx(0.004)
    # Of an absurd rate, no more than one in five.
    assert detector([], bucket_hours=24, false_alarms=1000).level(1) == 0.2


def test_a_burst_is_a_jump_at_once() -> None:
    (verdict,) = judged(detector([8]), QUIET)
    assert (verdict.cause, verdict.is_alert, verdict.texts, verdict.negative) == ("jump", True, 10, 8)
    # (20 x .1005 + 100) / 1020: the prior is (100 + .5) / 1001.
    assert verdict.expected == pytest.approx((20 * 100.5 / 1001 + 100) / 1020)
    assert verdict.low == 0
    assert 0.3 <= verdict.high <= 0.6


def test_the_expected_number_is_no_alert() -> None:
    assert {verdict.cause for verdict in judged(detector([1, 2, 0, 3, 1]))} == {None}


def test_few_texts_are_no_jump_but_add_up_to_a_drift() -> None:
    verdicts = judged(detector([2] * 8, texts=2, cool_down_hours=100), QUIET)
    causes = [verdict.cause for verdict in verdicts]
    # Two negative texts raise the CUSUM by about 2 log(.25 / .1) = 1.8; the limit is log 2,000 = 7.6.
    assert causes.index("drift") == 4
    assert "jump" not in causes
    assert verdicts[3].drift == pytest.approx(4 * verdicts[0].drift, rel=0.1)
    assert verdicts[4].drift == 0
    assert sum(verdict.is_alert for verdict in verdicts) == 1


@pytest.mark.parametrize(("min_texts", "cause"), [(4, "jump"), (5, None)])
def test_a_jump_needs_texts(min_texts: int, cause: str | None) -> None:
    # Four of four have a probability of about .1^4, a fifth of the level, 1/2,000; log(2.5) each is no drift yet.
    (verdict,) = judged(detector([4], texts=4, min_texts=min_texts), QUIET)
    assert verdict.cause == cause


def test_a_short_history_is_not_judged() -> None:
    own = detector([8], min_history=45)
    # 45 texts are there after five buckets of ten.
    assert next(verdict.bucket for verdict in judged(own)) == 5


def test_an_alert_is_followed_by_silence() -> None:
    verdicts = judged(detector([9] * 7, cool_down_hours=3), QUIET)
    assert [verdict.is_alert for verdict in verdicts] == [True, False, False, False, True, False, False]
    # What comes in the silence is out of range all the same.
    assert {verdict.cause for verdict in verdicts} == {"jump"}
    assert {verdict.drift for verdict in verdicts} == {0.0}


def test_what_follows_an_alert_is_no_part_of_what_is_expected() -> None:
    # Three of ten are inside the range; in the silence after a burst they are its end.
    after = judged(detector([9, 3, 3, 3, 1], cool_down_hours=3), QUIET)
    assert {verdict.cause for verdict in after[1:]} == {None}
    assert after[4].expected == after[1].expected
    # Without an alert before them they count.
    before = judged(detector([1, 3, 3, 3, 1], cool_down_hours=3), QUIET)
    assert before[4].expected > before[1].expected


def test_a_burst_is_no_part_of_what_is_expected_until_it_lasts() -> None:
    verdicts = judged(detector([9] * 30, adapt_hours=10, cool_down_hours=0), QUIET)
    shares = [verdict.expected for verdict in verdicts]
    assert shares[10] == pytest.approx(shares[0], abs=0.002)
    assert shares[29] > 1.5 * shares[0]


def test_what_a_night_lets_expect_is_a_jump_by_day_where_the_rhythm_is_declared() -> None:
    hours = np.arange(24 * 30 + 13)
    k = np.where(hours % 24 < 6, 7.0, 1.0)[None]
    # The last hour is of a day, with as many negative texts as a night's.
    k[0, -1] = 7
    texts = np.full(k.shape, 10.0)

    def alerts(rhythm: str) -> list[int]:
        own = Detector.of(DetectionConfig.model_validate({"rhythm": rhythm}), texts, k, first=5)
        return [verdict.bucket for verdict in judged(own, 24 * 20) if verdict.is_alert]

    assert alerts("day") == [24 * 30 + 12]
    assert alerts("none") == []


def test_quiet_streams_keep_to_the_rate() -> None:
    """2 x 3,000 hours of five series: at 2 per 1,000 hours, 12 are allowed; more than 20 would be 1 in 50 at that."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(2):
        texts = rng.poisson(6, (5, 3200)).astype(float)
        negative = rng.binomial(texts.astype(int), 0.2).astype(float)
        both = [np.vstack([rows.sum(axis=0), rows]) for rows in (texts, negative)]
        own = Detector.of(DetectionConfig(false_alarms=2.0, history_days=8), *both)
        found += sum(verdict.is_alert for verdict in judged(own, 200))
    assert 1 <= found <= 20


counts = st.integers(0, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def panel(rows: list[list[tuple[int, int]]]) -> tuple[Float64, Float64]:
    both = np.array(rows, np.float64)
    whole = np.concatenate([both.sum(axis=0, keepdims=True), both])
    return whole[..., 0], whole[..., 1]


series = st.lists(st.lists(counts, min_size=40, max_size=40), min_size=2, max_size=3)


@settings(max_examples=30, deadline=None)
@given(rows=series, cut=st.integers(1, 39))
def test_no_verdict_sees_the_future(rows: list[list[tuple[int, int]]], cut: int) -> None:
    texts, negative = panel(rows)
    config = DetectionConfig(min_history=5)
    whole = judged(Detector.of(config, texts, negative))
    part = judged(Detector.of(config, texts[:, :cut], negative[:, :cut]))
    assert [verdict for verdict in whole if verdict.bucket < cut] == part


@settings(max_examples=30, deadline=None)
@given(rows=series)
def test_the_order_of_series_is_nothing(rows: list[list[tuple[int, int]]]) -> None:
    config = DetectionConfig(min_history=5)
    one, other = (judged(Detector.of(config, *panel(own))) for own in (rows, rows[::-1]))
    n = len(rows)
    back = {0: 0, **{row: n + 1 - row for row in range(1, n + 1)}}
    key = {(back[verdict.series], verdict.bucket): verdict for verdict in other}
    assert len(one) == len(other)
    for verdict in one:
        twin = key[verdict.series, verdict.bucket]
        assert (verdict.cause, verdict.high) == (twin.cause, twin.high)
        assert verdict.drift == pytest.approx(twin.drift)
