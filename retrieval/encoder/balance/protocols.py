"""The three kinds of balance: losses to a scalar, a Gramian to weights, a Jacobian to a gradient.

None of them sees data. A task that is absent from a step has no entry, no row and no column: it adds nothing, and what
a method remembers of it stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class Scalariser(Protocol):
    """Losses of present tasks to a scalar; one call is one step."""

    @property
    def needs_losses_after_step(self) -> bool:
        """Tell whether `observe` wants the batch's losses again after the optimiser's step."""

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to minimise, of one raw loss (scalar tensor) for each present task, at least one."""

    def parameters(self) -> list[nn.Parameter]:
        """Return what is learnt along with the model."""

    def weights(self) -> dict[str, float]:
        """Return each task's multiplier of its raw loss, in units in which `static`'s is importance / baseline."""

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Take note of the same batch's raw losses after the optimiser's step."""


class OneCall:
    """The part that scalarisers share whose step ends with their call, and which learn nothing along with the model."""

    needs_losses_after_step = False

    def parameters(self) -> list[nn.Parameter]:
        """Nothing is learnt by gradient."""
        return []

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Refuse: nothing was asked for."""
        raise AssertionError(f"losses after the step were not asked for, found those of {sorted(losses)}")


@dataclass(frozen=True, kw_only=True)
class Gramian:
    """Inner products of the tasks' gradients.

    Attributes:
        names: the tasks, `t` of them.
        matrix: float `[t, t]`, scaled to a mean of 1 on the diagonal: some methods' thresholds are absolute.
        losses: float `[t]`, each over its constant predictor's.
    """

    names: tuple[str, ...]
    matrix: Tensor
    losses: Tensor


@dataclass(frozen=True, kw_only=True)
class Jacobian:
    """The tasks' gradients.

    Attributes:
        names: the tasks, `t` of them.
        rows: float `[t, p]`.
        losses: float `[t]`, each over its constant predictor's.
    """

    names: tuple[str, ...]
    rows: Tensor
    losses: Tensor

    def gramian(self) -> Gramian:
        """Return the rows' inner products over their mean square length; zeros where every row is zero."""
        products = self.rows @ self.rows.T
        square = products.diagonal().mean()
        matrix = torch.where(square > 0, products / square, torch.zeros_like(products))
        return Gramian(names=self.names, matrix=matrix, losses=self.losses)


class Weighting(Protocol):
    """A Gramian to the weights of its gradients; one call is one step."""

    def __call__(self, gramian: Gramian) -> Tensor:
        """Return weights `[t]`, on the scale of the mean: where all gradients are equal, they sum to 1."""


class Aggregator(Protocol):
    """A Jacobian to one gradient; one call is one step."""

    def __call__(self, jacobian: Jacobian) -> Tensor:
        """Return the gradient `[p]`, on the scale of the mean: of equal rows, that row."""

    def shares(self) -> dict[str, float]:
        """Return the weights of the rows by task, as last used; empty where the gradient is no weighted sum."""
