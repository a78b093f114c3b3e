from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad

from ranking.blend import (
    FAMILIES,
    BlendConfig,
    BlendError,
    BlendInputs,
    MultiTaskBlend,
    TaskBlend,
    blend_inputs,
    curvature,
    fit_task_blend,
    penalised_loss,
    user_blend_inputs,
)
from ranking.signals import Signals, SignalSchema

NAMES = ("encoder/cosine", "collaborative/als", "gbdt/purchase")


def simulated(n: int = 20_000, seed: int = 0) -> tuple[BlendInputs, np.ndarray]:
    """logit p = -2 + 1.0 * cosine + 0.5 * als + 0 * trees, with unit normal inputs."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(n, 3)).astype(np.float32)
    logit = -2 + columns[:, 0] + 0.5 * columns[:, 1]
    return BlendInputs(NAMES, columns), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)


def test_loss_and_gradient_by_hand() -> None:
    """One row, x = (2, 1), w = (.5, -1): z = 0, p = .5. Label 1: loss = log 2 + .1/2 * .25; gradient (p - 1) x + .1 w.

    The bias (last) carries no penalty: gradient = (-.5 * 2 + .1 * .5, -.5) = (-.95, -.5).
    """
    value, gradient = penalised_loss(
        np.array([0.5, -1.0]), np.array([[2.0, 1.0]]), np.array([1.0]), np.array([1.0]), 0.1
    )
    assert value == pytest.approx(math.log(2) + 0.0125)
    assert gradient.tolist() == pytest.approx([-0.95, -0.5])


def test_gradient_agrees_with_differences() -> None:
    rng = np.random.default_rng(0)
    design = np.hstack([rng.normal(size=(50, 4)), np.ones((50, 1))])
    labels, weights = (rng.random(50) < 0.3).astype(float), np.full(50, 1 / 50)
    args = (design, labels, weights, 0.01)
    difference = check_grad(
        lambda w: penalised_loss(w, *args)[0], lambda w: penalised_loss(w, *args)[1], rng.normal(size=5)
    )
    assert difference < 1e-6
    at, step = rng.normal(size=5), 1e-5
    for row, column in ((0, 0), (1, 3), (4, 4), (4, 0)):
        along = np.eye(5)[column] * step
        by_difference = (penalised_loss(at + along, *args)[1] - penalised_loss(at - along, *args)[1])[row] / (2 * step)
        assert curvature(at, *args)[row, column] == pytest.approx(by_difference, abs=1e-7)


def test_known_coefficients_come_back() -> None:
    inputs, labels = simulated()
    blend = fit_task_blend(inputs, labels, np.ones(len(labels)), BlendConfig())
    raw = np.array(blend.weights) / np.array(blend.scale)
    # standard error of a coefficient here about 1 / sqrt(n p (1 - p)) = 1 / sqrt(20,000 * .12) = .02
    assert raw == pytest.approx([1.0, 0.5, 0.0], abs=0.08)


def test_mean_probability_is_the_mean_label() -> None:
    """The unpenalised bias makes the residuals sum to zero."""
    inputs, labels = simulated(2000)
    blend = fit_task_blend(inputs, labels, np.ones(2000), BlendConfig(l2=0.01))
    assert (1 / (1 + np.exp(-blend.logits(inputs)))).mean() == pytest.approx(labels.mean(), abs=1e-5)


def test_weights_count_as_repeated_rows() -> None:
    inputs, labels = simulated(500)
    weights = np.where(labels > 0, 1.0, 3.0)
    repeated = np.repeat(np.arange(500), weights.astype(int))
    weighted = fit_task_blend(inputs, labels, weights, BlendConfig())
    twice = fit_task_blend(
        BlendInputs(NAMES, inputs.columns[repeated]), labels[repeated], np.ones(len(repeated)), BlendConfig()
    )
    assert weighted.logits(inputs) == pytest.approx(twice.logits(inputs), abs=1e-3)


def test_a_missing_signal_counts_as_its_mean_plus_its_indicator() -> None:
    inputs, labels = simulated(2000)
    columns = inputs.columns.copy()
    columns[::3, 1] = np.nan
    blend = fit_task_blend(BlendInputs(NAMES, columns), labels, np.ones(2000), BlendConfig())
    assert blend.missing[0] == 0 == blend.missing[2]
    assert blend.missing[1] != 0
    gone, mean = columns[:1].copy(), columns[:1].copy()
    gone[0, 1], mean[0, 1] = np.nan, blend.mean[1]
    difference = blend.logits(BlendInputs(NAMES, gone)) - blend.logits(BlendInputs(NAMES, mean))
    assert difference[0] == pytest.approx(blend.missing[1], abs=1e-6)
    # a signal that was never missing in fitting: its mean, exactly
    gone = columns[:1].copy()
    gone[0, 0] = np.nan
    assert np.isfinite(blend.logits(BlendInputs(NAMES, gone))).all()


values = st.floats(-1e3, 1e3, width=32) | st.just(float("nan"))


@given(rows=st.lists(st.tuples(values, values, values), min_size=1, max_size=20))
def test_terms_sum_to_the_logit(rows: list[tuple[float, float, float]]) -> None:
    blend = TaskBlend(NAMES, (0.1, 2.0, -1.0), (1.0, 3.0, 0.5), (0.7, -0.2, 1.1), (0.0, 0.3, -0.4), -2.5)
    inputs = BlendInputs(NAMES, np.array(rows, np.float32))
    assert blend.terms(inputs).sum(axis=1) + blend.bias == pytest.approx(blend.logits(inputs), rel=1e-9, abs=1e-9)
    # and a row's logit does not depend on its neighbours
    alone = blend.logits(BlendInputs(NAMES, inputs.columns[:1]))
    assert alone.tobytes() == blend.logits(inputs)[:1].tobytes()


def test_families_alone_lose_to_all_together() -> None:
    inputs, labels = simulated()
    fresh, truth = simulated(seed=1)

    def loss(families: tuple[str, ...]) -> float:
        blend = fit_task_blend(inputs, labels, np.ones(len(labels)), BlendConfig(), families=families)
        assert {name.split("/")[0] for name in blend.names} == set(families)
        z = blend.logits(fresh)
        return float(np.mean(np.logaddexp(0, z) - truth * z))

    assert loss(FAMILIES) < loss(("encoder",)) < loss(("collaborative",)) < loss(("gbdt",))


def test_inputs_keep_names_and_add_logarithms() -> None:
    schema = SignalSchema(("purchase",), sequence=True)
    signals = Signals(schema.names, np.array([[np.e - 1, -2.0, 0.3, 4.0, 0.7]], np.float32))
    inputs = blend_inputs(signals, {"purchase": np.array([5.0]), "rank": np.array([np.nan])})
    assert inputs.names == (
        "collaborative/als", "collaborative/knn", "encoder/cosine", "encoder/head_purchase",
        "collaborative/sequence", "collaborative/als_log", "collaborative/knn_log", "gbdt/purchase", "gbdt/rank",
    )  # fmt: skip
    # log(1 + (e - 1)) = 1; a negative score counts as 0
    assert inputs.columns[0, 5:8].tolist() == pytest.approx([1, 0, 5])
    assert np.isnan(inputs.columns[0, 8])


def test_never_bought_items_have_columns_of_their_own() -> None:
    signals = Signals(("als",), np.array([[2.0], [3.0]], np.float32))
    inputs = blend_inputs(signals, {"purchase": np.array([5.0, 6.0])}, fresh=np.array([False, True]))
    names = ("collaborative/als", "collaborative/als_log", "gbdt/purchase")
    assert inputs.names == (*names, *(f"{name}@fresh" for name in names))
    # a bought item has no second columns, a fresh one repeats its own
    assert np.isnan(inputs.columns[0, 3:]).all()
    np.testing.assert_array_equal(inputs.columns[1, 3:], inputs.columns[1, :3])


def test_user_inputs() -> None:
    inputs = user_blend_inputs(("user_head_churn",), np.array([[1.0], [np.nan]], np.float32), {"churn": np.zeros(2)})
    assert inputs.names == ("encoder/user_head_churn", "gbdt/churn")
    assert inputs.columns.shape == (2, 2)


def test_saved_and_loaded_bit_for_bit(tmp_path: Path) -> None:
    inputs, labels = simulated(500)
    blend = MultiTaskBlend({"purchase": fit_task_blend(inputs, labels, np.ones(500), BlendConfig())})
    blend.save(tmp_path / "ranking" / "blend.json")
    assert MultiTaskBlend.load(tmp_path / "ranking" / "blend.json") == blend


def test_errors() -> None:
    inputs, labels = simulated(100)
    with pytest.raises(BlendError, match="both classes, found 0 positives of 100"):
        fit_task_blend(inputs, np.zeros(100), np.ones(100), BlendConfig())
    blend = fit_task_blend(inputs, labels, np.ones(100), BlendConfig())
    with pytest.raises(BlendError, match="encoder/cosine"):
        blend.logits(BlendInputs(NAMES[1:], inputs.columns[:, 1:]))
