from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoder.balance.dual import Dual

EQUAL = {"a": 1.0, "b": 1.0}


def test_update_by_hand() -> None:
    dual = Dual(EQUAL, {}, eta=math.log(3), pull=0.0)
    # a: L - b = 2 - 1, times exp(log 3) = 3; b: 1 - 1, times 1. Shares 3/4 and 1/4, times the sum of importances, 2.
    dual.update({"a": 2.0, "b": 1.0})
    assert dual() == pytest.approx({"a": 1.5, "b": 0.5})


def test_declared_baselines_move_the_bar() -> None:
    dual = Dual(EQUAL, {"a": 0.5}, eta=math.log(9), pull=0.0)
    # a: 1 - .5 = .5, times 9 ** .5 = 3; b: 1 - 1.
    dual.update({"a": 1.0, "b": 1.0})
    assert dual() == pytest.approx({"a": 1.5, "b": 0.5})


def test_pull_by_hand() -> None:
    dual = Dual({"a": 3.0, "b": 1.0}, {}, eta=math.log(9), pull=0.5)
    dual.update({"a": 1.0, "b": 2.0})
    # Shares .75 and .25 are where they are pulled to; b times 9: .75 to 2.25, so .25 and .75, times 4.
    assert dual() == pytest.approx({"a": 1.0, "b": 3.0})
    dual.update({"a": 1.0, "b": 1.0})
    # Half of the way back in logarithms: sqrt(.25 .75) each, so .5 and .5, times 4.
    assert dual() == pytest.approx({"a": 2.0, "b": 2.0})


losses = st.floats(0, 1e6)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), losses, min_size=1), min_size=1, max_size=30))
def test_shares_stay_on_the_simplex(steps: list[dict[str, float]]) -> None:
    dual = Dual({"a": 1.0, "b": 2.0, "c": 0.0}, {}, eta=0.5, pull=0.01)
    for step in steps:
        dual.update(step)
        assert sum(dual().values()) == pytest.approx(3.0)
        assert all(0 <= value <= 3.0 + 1e-9 for value in dual().values())
    assert dual()["c"] == 0


def test_an_absent_task_keeps_its_share() -> None:
    dual = Dual({"a": 1.0, "b": 1.0, "c": 1.0}, {}, eta=0.5, pull=0.1)
    dual.update({"a": 2.0, "b": 1.0, "c": 1.5})
    before = dual()["c"]
    dual.update({"a": 2.0, "b": 1.0})
    assert dual()["c"] == before


def test_a_task_that_cannot_be_learnt_does_not_take_over() -> None:
    dual = Dual({"noise": 1.0, "hard": 1.0, "easy": 1.0}, {}, eta=0.1, pull=0.02)
    for _ in range(100):
        dual.update({"noise": 1.0, "hard": 1.2, "easy": 0.5})
    assert dual()["hard"] > 1.5 > dual()["noise"]
    # With everyone else below the baseline a plain L - b would hand it all the weight; here all go back to equal ones.
    for _ in range(400):
        dual.update({"noise": 1.0, "hard": 0.6, "easy": 0.5})
    assert dual() == pytest.approx({"noise": 1.0, "hard": 1.0, "easy": 1.0}, abs=0.01)


def test_noise_around_the_baseline_is_forgotten() -> None:
    dual = Dual(EQUAL, {}, eta=0.1, pull=0.02)
    rng = np.random.default_rng(0)
    for noise in rng.normal(0, 0.2, 2000):
        dual.update({"a": 1.0 + float(noise), "b": 0.5})
    # The mean of max(0, N(0, .2)) is .2 / sqrt(2 pi) = .08; it settles at a factor of exp(.1 .08 / .02) = 1.5.
    assert 1.2 < dual()["a"] / dual()["b"] < 1.9
