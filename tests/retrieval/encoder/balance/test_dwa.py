from __future__ import annotations

import math

import pytest

from retrieval.encoder.balance.dwa import DynamicWeightAverage


def test_factors_by_hand() -> None:
    dwa = DynamicWeightAverage({"a": 1.0, "b": 2.0}, temperature=0.5, window=2)
    for loss in (1.0, 3.0):
        dwa.update({"a": loss, "b": 1.0})
        assert dwa() == {"a": 1.0, "b": 2.0}
    dwa.update({"a": 1.0, "b": 1.0})
    assert dwa() == {"a": 1.0, "b": 2.0}
    dwa.update({"a": 1.0, "b": 2.0})
    # a: windows (1 + 3) / 2 = 2 and 1, rate .5, exp(-.5 / .5); b: 1 and 1.5, exp(.5 / .5).
    assert dwa() == pytest.approx({"a": math.exp(-1), "b": 2 * math.e})


def test_an_absent_task_keeps_its_factor() -> None:
    dwa = DynamicWeightAverage({"a": 1.0, "b": 1.0}, temperature=1.0, window=1)
    for loss in (4.0, 2.0):
        dwa.update({"a": loss, "b": loss})
    before = dwa()["b"]
    for loss in (2.0, 6.0):
        dwa.update({"a": loss})
    assert dwa()["b"] == before == pytest.approx(math.exp(-0.5))
    assert dwa()["a"] == pytest.approx(math.exp(2))


def test_a_loss_that_explodes_or_vanishes_stays_finite() -> None:
    dwa = DynamicWeightAverage({"a": 1.0, "b": 1.0}, temperature=0.5, window=1)
    dwa.update({"a": 1e-9, "b": 0.0})
    dwa.update({"a": 1e9, "b": 1.0})
    # The rate stops at 10; without a loss before there is none.
    assert dwa() == pytest.approx({"a": math.exp(18), "b": 1.0})
