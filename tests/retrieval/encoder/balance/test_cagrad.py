from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.encoder.balance.cagrad import ConflictAverse
from retrieval.encoder.balance.protocols import Jacobian


def ask(c: float, rows: list[list[float]]) -> torch.Tensor:
    """Return the gradient `[p]` in float64."""
    matrix = torch.tensor(rows, dtype=torch.float64)
    jacobian = Jacobian(names=tuple(map(str, range(len(rows)))), rows=matrix, losses=torch.ones(len(rows)))
    return ConflictAverse(c)(jacobian.gramian()) @ matrix


def test_without_a_radius_it_is_the_mean() -> None:
    torch.testing.assert_close(ask(0.0, [[2.0, 0.0], [-1.0, 1.0]]), torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_gradients_that_agree_give_their_mean() -> None:
    torch.testing.assert_close(
        ask(0.5, [[1.0, 0.0], [3.0, 0.0]]), torch.tensor([2.0, 0.0], dtype=torch.float64), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("rows", [[[2.0, 0.0], [-1.0, 0.5]], [[1.0, 0.1], [-0.8, 0.6]], [[2, 0], [-1, 1], [0.1, -0.7]]])
def test_the_worst_served_task_gets_the_most_within_the_ball(rows: list[list[float]]) -> None:
    """Against a search over every direction of the ball's rim."""
    c = 0.6
    found = ask(c, rows).numpy() * (1 + c)
    matrix = np.array(rows)
    mean = matrix.mean(0)
    angles = np.linspace(0, 2 * np.pi, 100_001)
    rim = mean + c * np.linalg.norm(mean) * np.stack([np.cos(angles), np.sin(angles)], 1)
    best = (rim @ matrix.T).min(1).max()
    assert np.linalg.norm(found - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-3)
    assert (matrix @ found).min() == pytest.approx(best, abs=1e-3)
    assert best > (matrix @ mean).min() + 0.01


def test_gradients_that_cancel_stay_finite() -> None:
    assert torch.isfinite(ask(0.5, [[1.0, 0.0], [-1.0, 0.0]])).all()
