"""Conflict-averse gradient descent: near the mean gradient, best for the task that it serves worst."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

from retrieval.encoder.balance.protocols import Gramian

Float64 = npt.NDArray[np.float64]
# Keeps the objective's root smooth where a weighted gradient vanishes; a Gramian's diagonal has a mean of 1.
SMOOTH = 1e-9


class ConflictAverse:
    """Weights of `max_d min_i <g_i, d>` subject to |d - g_0| <= c |g_0|, g_0 the mean gradient (Liu et al., 2021).

    The dual is over the simplex: minimise <g_w, g_0> + c |g_0| |g_w| with g_w = sum w_i g_i, then
    d = g_0 + c |g_0| / |g_w| g_w. It is divided by 1 + c, so that gradients that agree give their mean.
    (torchjd's own needs a solver besides; this problem has one variable for each task, and SciPy's is at hand.)

    Args:
        c: radius; 0 is the mean.
    """

    def __init__(self, c: float) -> None:
        self._c = c

    def __call__(self, gramian: Gramian) -> Tensor:
        """Return the weights of d; those of the mean where the mean gradient vanishes."""
        matrix = gramian.matrix.detach().cpu().double().numpy()
        n = len(matrix)
        mean = np.full(n, 1 / n)
        radius = self._c * float(np.sqrt(max(0.0, mean @ matrix @ mean)))
        inner = _simplex_minimum(matrix, mean, radius)
        length = float(np.sqrt(max(0.0, inner @ matrix @ inner) + SMOOTH))
        return gramian.matrix.new_tensor((mean + radius / length * inner) / (1 + self._c))


def _simplex_minimum(matrix: Float64, mean: Float64, radius: float) -> Float64:
    """Return w `[t]` on the simplex that minimises w G mean + radius sqrt(w G w)."""

    def value(weights: Float64) -> tuple[float, Float64]:
        along, root = matrix @ weights, float(np.sqrt(weights @ matrix @ weights + SMOOTH))
        return float(along @ mean) + radius * root, matrix @ mean + radius * along / root

    found = minimize(
        value,
        mean,
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(mean),
        constraints=LinearConstraint(np.ones((1, len(mean))), 1.0, 1.0),
    )
    solution: Float64 = found.x
    return solution
