"""Fast adaptive multitask optimisation: losses that fall at one rate, with one backward pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn, tensor, zeros
from torch.optim import Adam

from retrieval.encoder.balance.scales import Scales, numbers

# Added to a relative loss before its logarithm: a loss of 0 has done all it can.
EPSILON = 1e-8


class Famo:
    """Minimise c sum z_i log L_i over present tasks, z = softmax of logits w, c = 1 / sum (z_i / L_i) held constant.

    After the optimiser's step, one step of Adam on w along J^T (log L before - log L after), J the softmax's Jacobian:
    a loss that fell more than the others loses weight (Liu et al., 2023, algorithm 2). The softmax is over the present
    tasks, times their importances; an absent task's w and its moments stay. Logarithms make every unit of a loss alike.

    Attributes:
        logits: w by task, scalars.

    Args:
        scales: importances and baselines.
        learning_rate: of w.
        weight_decay: of w.
    """

    needs_losses_after_step = True

    def __init__(self, scales: Scales, *, learning_rate: float, weight_decay: float) -> None:
        self._scales = scales
        self.logits = {name: nn.Parameter(zeros(())) for name in scales.baselines}
        # On w alone and not among `parameters`: its gradient is no part of the backward pass.
        self._optimizer = Adam(list(self.logits.values()), lr=learning_rate, weight_decay=weight_decay)
        self._factors = dict(scales.importance)
        self._before: dict[str, float] = {}

    def __call__(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar, and keep the losses for `observe`."""
        relative = {name: loss + EPSILON for name, loss in self._scales.relative(losses).items()}
        self._before = numbers(relative)
        shares = self._shares(self._before)
        normaliser = 1 / (sum(shares[name] / value for name, value in self._before.items()) or 1.0)
        total = sum(self._scales.importance[name] for name in losses)
        for name, value in self._before.items():
            self._factors[name] = total * normaliser * shares[name] / value
        return sum((normaliser * shares[name] * loss.log() for name, loss in relative.items()), start=zeros(()))

    def parameters(self) -> list[nn.Parameter]:
        """Nothing is learnt along with the model: w has an optimiser of its own."""
        return []

    def weights(self) -> dict[str, float]:
        """Return c z_i / L_i of the task's last step, times the sum of importances then; importance at first."""
        return self._scales.weights(self._factors)

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Move w by how far each loss fell in the step.

        Args:
            losses: of the batch that was last scalarised, after the optimiser's step.
        """
        assert losses.keys() == self._before.keys(), "observe wants the losses of the batch last scalarised"
        after = numbers(self._scales.relative(losses))
        fall = {name: math.log(before) - math.log(after[name] + EPSILON) for name, before in self._before.items()}
        shares = self._shares(losses)
        mean = sum(shares[name] * fall[name] for name in losses)
        for name in losses:
            self.logits[name].grad = tensor(shares[name] * (fall[name] - mean))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _shares(self, names: Mapping[str, object]) -> dict[str, float]:
        """Return importance x exp(w) of present tasks, over its sum."""
        raw = {name: self._scales.importance[name] * math.exp(self.logits[name].item()) for name in names}
        total = sum(raw.values()) or 1.0
        return {name: value / total for name, value in raw.items()}
