from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking import calibration
from ranking.calibration import (
    IDENTITY,
    CalibrationConfig,
    CalibrationError,
    Calibrator,
    fit_calibrator,
    fit_isotonic,
    fit_platt,
    pool_adjacent_violators,
    rate_shift,
)
from retrieval.evaluate import calibration_error


def overconfident(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True logit is half the raw one minus 1."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=n) * 3
    return raw, (rng.random(n) < 1 / (1 + np.exp(-(0.5 * raw - 1)))).astype(float)


def test_rate_shift_by_hand() -> None:
    """2 of 100, then 6 of 100: pooled .04. Odds go from 2/98 to 4/96, a factor of (4/96) / (2/98) = 2.0417."""
    shift = rate_shift(0.02, [2, 6], [100, 100])
    assert shift == pytest.approx(np.log(2.041666), rel=1e-5)
    moved = IDENTITY.shifted(shift)
    odds = moved.probabilities(np.array([0.0])) / (1 - moved.probabilities(np.array([0.0])))
    assert odds == pytest.approx(2.041666, rel=1e-5)
    assert rate_shift(0.02, [2], [100]) == 0


def test_pool_adjacent_violators_by_hand() -> None:
    """Values 1, 3, 2, 4 of weights 1, 1, 3, 1: 3 and 2 pool to (3 + 2 * 3) / 4 = 2.25."""
    values, starts = pool_adjacent_violators(np.array([1.0, 3, 2, 4]), np.array([1.0, 1, 3, 1]))
    assert values.tolist() == [1, 2.25, 4]
    assert starts.tolist() == [0, 1, 3]


def test_pooling_cascades() -> None:
    """4, 3, 2: 4 and 3 pool to 3.5, which 2 pulls to (3.5 * 2 + 2) / 3 = 3."""
    values, starts = pool_adjacent_violators(np.array([4.0, 3, 2]), np.ones(3))
    assert values.tolist() == [3]
    assert starts.tolist() == [0]


def test_platt_recovers_slope_and_intercept() -> None:
    raw, labels = overconfident(50_000)
    found = fit_platt(raw, labels, np.ones(len(raw)))
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.y[0] == pytest.approx(-1, abs=0.05)


def test_isotonic_repairs_calibration() -> None:
    raw, labels = overconfident(30_000)
    fresh, truth = overconfident(30_000, seed=1)
    found = fit_calibrator(raw, labels, np.ones(len(raw)), CalibrationConfig())
    assert found.method == "isotonic"
    before = calibration_error(truth > 0, (1 / (1 + np.exp(-fresh))).astype(np.float32))
    after = calibration_error(truth > 0, found.probabilities(fresh).astype(np.float32))
    # chance alone: a bin of 2,000 rows misses its rate by about sqrt(p (1 - p) / 2,000) = .01
    assert after < 0.02
    assert before > 0.1


def test_few_positives_get_platt() -> None:
    raw, labels = overconfident(500)
    assert fit_calibrator(raw, labels, np.ones(500), CalibrationConfig()).method == "platt"


def test_weights_restore_the_prior() -> None:
    """Negatives sampled at .1 and weighted by 10 give the curve of all rows."""
    raw, labels = overconfident(100_000)
    kept = (labels > 0) | (np.random.default_rng(2).random(len(raw)) < 0.1)
    weights = np.where(labels > 0, 1.0, 10.0)[kept]
    found = fit_isotonic(raw[kept], labels[kept], weights, 500.0)
    assert found.probabilities(raw).mean() == pytest.approx(labels.mean(), rel=0.03)


raws = st.lists(
    st.tuples(st.floats(-30, 30, width=32), st.booleans()), min_size=4, max_size=60, unique_by=lambda pair: pair[0]
)


@settings(max_examples=60)
@given(pairs=raws, isotonic=st.booleans(), block=st.sampled_from([1.0, 3.0, 50.0]))
def test_strictly_increasing_whatever_the_labels(pairs: list[tuple[float, bool]], isotonic: bool, block: float) -> None:
    """Calibration never swaps two items and never ties two that were apart."""
    raw = np.array([value for value, _ in pairs])
    labels = np.array([label for _, label in pairs], float)
    ones = np.ones(len(raw))
    found = fit_isotonic(raw, labels, ones, block) if isotonic else fit_platt(raw, labels, ones)
    assert np.all(np.diff(found.x) > 0)
    assert np.all(np.diff(found.y) > 0)
    # a grid coarser than rounding, beyond both ends
    grid = np.linspace(-60, 60, 241)
    assert np.all(np.diff(found.logits(grid)) > 0)


def test_no_block_says_never_or_always() -> None:
    raw = np.linspace(-5, 5, 200)
    found = fit_isotonic(raw, (raw > 0).astype(float), np.ones(200), 10.0)
    inside = found.probabilities(raw)
    assert inside.min() > 0
    assert inside.max() < 1


def test_one_class_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="found 0 positives of 3"):
        fit_calibrator(np.arange(3.0), np.zeros(3), np.ones(3), CalibrationConfig())


def test_identity() -> None:
    assert IDENTITY.logits(np.array([-3.0, 0.0, 7.5])).tolist() == [-3.0, 0.0, 7.5]


def test_saved_and_loaded(tmp_path: Path) -> None:
    raw, labels = overconfident(5000)
    found = {"purchase": fit_isotonic(raw, labels, np.ones(5000), 50), "churn": IDENTITY}
    calibration.save(found, tmp_path / "calibration.json")
    assert calibration.load(tmp_path / "calibration.json") == found


def test_a_falling_curve_is_refused(tmp_path: Path) -> None:
    calibration.save({"purchase": Calibrator("isotonic", (0.0, 1.0), (1.0, 0.5), 1.0)}, tmp_path / "c.json")
    with pytest.raises(CalibrationError, match="strictly increasing curve for task 'purchase'"):
        calibration.load(tmp_path / "c.json")


def test_rare_positives_keep_their_sum() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(-6, 1.5, 200_000)
    labels = (rng.random(len(raw)) < 1 / (1 + np.exp(-raw))).astype(float)
    fitted = fit_isotonic(raw, labels, np.ones(len(raw)), 50.0)
    # 4,000 bins of 50 rows: half a positive added to each would add 2,000 to the 1,500 there are
    assert fitted.probabilities(raw).mean() / labels.mean() == pytest.approx(1, abs=0.05)
