"""Gradient surgery by torchjd's weightings and aggregators, made safe for steps in which tasks are absent.

UPGrad and DualProj come here with a projection of our own, so that neither of torchjd's extras under the GPL
(quadprog for these two, ecos for its Nash-MTL) is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

import numpy as np
import torch
import torchjd.aggregation as jd
from scipy.optimize import nnls
from torch import Tensor
from torchjd.linalg import DualConeProjector, PSDMatrix

from retrieval.encoder.balance.config import SurgeryConfig
from retrieval.encoder.balance.protocols import Gramian, Jacobian

GramianWeighting = jd.Weighting[PSDMatrix]
# What a method's weights sum to where all gradients are equal: 1, one for each task, or anything.
Sum = Literal["mean", "sum", "free"]

# Added to the diagonal of a Gramian of mean square length 1, as torchjd does: parallel gradients make it singular.
REGULARISED: Final = 1e-4


class NonNegativeProjector(DualConeProjector):
    """Weights of projections onto the dual cone of the gradients, by non-negative least squares.

    The problem is min v G v subject to v >= u (Quinton and Rey, 2024, proposition 1). With G = L L^T and v = u + z it
    is min |L^T z + L^T u| over z >= 0, which Lawson and Hanson's active sets solve exactly.
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:  # noqa: N803 - torchjd's names
        """Return the projections' weights `[..., t]` of vectors' weights `[..., t]`, given the Gramian `[t, t]`."""
        matrix = G.detach().cpu().double().numpy()
        root = np.linalg.cholesky(matrix + REGULARISED * np.eye(len(matrix))).T
        rows = U.detach().cpu().double().numpy().reshape(-1, len(matrix))
        solved = np.stack([row + nnls(root, -root @ row)[0] for row in rows])
        return torch.as_tensor(solved, dtype=U.dtype, device=U.device).reshape(U.shape)


_WEIGHTINGS: Final[Mapping[str, tuple[Sum, Callable[[SurgeryConfig], GramianWeighting]]]] = {
    "pcgrad": ("sum", lambda _: jd.PCGradWeighting()),
    "gradvac": ("sum", lambda numbers: jd.GradVacWeighting(beta=numbers.gradvac_beta)),
    "mgda": ("mean", lambda _: jd.MGDAWeighting()),
    "fairgrad": ("free", lambda numbers: jd.FairGradWeighting(alpha=numbers.fairgrad_alpha)),
    # Nash's bargaining solution G w = 1 / w (Navon et al., 2022) is proportional fairness (Ban and Ji, 2024).
    "nash_mtl": ("free", lambda _: jd.FairGradWeighting(alpha=1.0)),
    "imtlg": ("mean", lambda _: jd.IMTLGWeighting()),
    "aligned_mtl": ("mean", lambda _: jd.AlignedMTLWeighting()),
    "upgrad": ("mean", lambda _: jd.UPGradWeighting(projector=NonNegativeProjector())),
    "dualproj": ("mean", lambda _: jd.DualProjWeighting(projector=NonNegativeProjector())),
}
WEIGHTINGS: Final = frozenset(_WEIGHTINGS)


class SurgeryWeighting:
    """One of torchjd's weightings of a Gramian.

    What it remembers (GradVac's moving averages) it remembers for each set of present tasks apart: torchjd keeps it by
    position, and two sets of one size would be mixed up.

    Args:
        method: one of `WEIGHTINGS`.
        config: its numbers.
        seed: of its draws.
    """

    def __init__(self, method: str, config: SurgeryConfig, *, seed: int) -> None:
        self._sum, self._build = _WEIGHTINGS[method]
        self._config = config
        self._draws = Draws(seed)
        self._by_names: dict[tuple[str, ...], GramianWeighting] = {}

    def __call__(self, gramian: Gramian) -> Tensor:
        """Return weights `[t]`."""
        if gramian.names not in self._by_names:
            self._by_names[gramian.names] = self._build(self._config)
        with self._draws.next(gramian.matrix.device):
            weights = self._by_names[gramian.names](gramian.matrix)
        if self._sum == "mean":
            return weights
        return weights / (len(weights) if self._sum == "sum" else weights.sum())


class SignDropout:
    """GradDrop (Chen et al., 2020): each entry takes the rows of one sign, drawn in proportion to their size.

    Args:
        leak: share of every row that passes whatever its sign.
        seed: of the draws.
    """

    def __init__(self, *, leak: float, seed: int) -> None:
        self._leak = leak
        self._draws = Draws(seed)

    def __call__(self, jacobian: Jacobian) -> Tensor:
        """Return the gradient `[p]`."""
        n = len(jacobian.names)
        with self._draws.next(jacobian.rows.device):
            total: Tensor = jd.GradDrop(leak=jacobian.rows.new_full((n,), self._leak))(jacobian.rows)
        return total / n

    def shares(self) -> dict[str, float]:
        """No weighted sum."""
        return {}


class ConflictFree:
    """ConFIG (Liu et al., 2024): the direction of equal cosines with every row, as long as the rows reach along it."""

    def __call__(self, jacobian: Jacobian) -> Tensor:
        """Return the gradient `[p]`."""
        total: Tensor = jd.ConFIG()(jacobian.rows)
        return total / len(jacobian.names)

    def shares(self) -> dict[str, float]:
        """Not kept: its weights are torchjd's secret."""
        return {}


class Draws:
    """Random numbers of our own for code that draws from torch's global generator.

    Args:
        seed: of the first block; each block has the next one.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @contextmanager
    def next(self, device: torch.device) -> Iterator[None]:
        """Seed torch inside the block, and put back after it what was there, on the CPU and on `device`."""
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(self._seed)
            self._seed += 1
            yield
