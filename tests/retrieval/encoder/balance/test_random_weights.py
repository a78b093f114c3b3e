from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from retrieval.encoder.balance.random_weights import RandomWeights

Distribution = Literal["normal", "dirichlet"]


def draws(distribution: Distribution, *, steps: int = 500, alpha: float = 1.0, seed: int = 0) -> np.ndarray:
    weights = RandomWeights({"a": 1.0, "b": 2.0}, distribution=distribution, alpha=alpha, seed=seed)
    rows = []
    for _ in range(steps):
        rows.append([weights()["a"], weights()["b"] / 2])
        weights.update({"a": 1.0})
    return np.array(rows)


@pytest.mark.parametrize("distribution", ["normal", "dirichlet"])
def test_draws_have_a_mean_of_1_over_tasks_and_over_steps(distribution: Distribution) -> None:
    found = draws(distribution)
    assert (found > 0).all()
    np.testing.assert_allclose(found.sum(1), 2.0)
    np.testing.assert_allclose(found.mean(0), 1.0, atol=0.08)
    assert found.std() > 0.3


def test_concentration_pulls_to_equal_weights() -> None:
    assert draws("dirichlet", alpha=50.0).std() < 0.2 < draws("dirichlet", alpha=0.5).std()


def test_a_seed_repeats() -> None:
    np.testing.assert_array_equal(draws("normal", steps=5), draws("normal", steps=5))
    assert (draws("normal", steps=5) != draws("normal", steps=5, seed=1)).all()
