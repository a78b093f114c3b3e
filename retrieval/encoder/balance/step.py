"""What training calls: the losses of one batch in, every parameter's gradient out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from retrieval.encoder.balance.gradients import GradientStep
from retrieval.encoder.balance.protocols import Scalariser
from retrieval.encoder.balance.scales import Scales


class Balance:
    """The configured method, whichever its kind; `make.make_balance` builds it.

    Args:
        rule: weighs losses, or looks at each task's gradient.
        scales: importances and baselines of the tasks.
    """

    def __init__(self, rule: Scalariser | GradientStep, scales: Scales) -> None:
        self._rule, self.scales = rule, scales

    @property
    def needs_losses_after_step(self) -> bool:
        """Tell whether `observe` wants the batch's losses again after the optimiser's step."""
        return not isinstance(self._rule, GradientStep) and self._rule.needs_losses_after_step

    def backward(
        self,
        losses: Mapping[str, Tensor],
        *,
        features: Sequence[Tensor],
        shared: Sequence[nn.Parameter],
        heads: Sequence[nn.Parameter],
    ) -> None:
        """Add to every parameter's `.grad`; one that no present task reaches keeps None, so that AdamW skips it.

        A method that weighs losses makes one backward pass and reads `losses` alone. One that looks at gradients makes
        a pass for each task: parameters of `heads` get the mean of the tasks' gradients, on the static scale, and what
        lies behind `features` (or `shared`, at the levels `lora` and `parameter`) gets the aggregated one. Such a
        method sees nothing that is neither behind the features nor listed.

        Args:
            losses: raw loss, a scalar tensor, of each present task; at least one.
            features: tensors between the shared parameters and the heads, none computed from another; a task may read
                some of them or none. Those that carry no gradient (frozen vectors) are left out.
            shared: the parameters at whose gradients the levels `lora` (where they are LoRA's alone) and `parameter`
                look.
            heads: every other parameter between the features and the losses.
        """
        assert losses, "a step without a task has nothing to learn from"
        if isinstance(self._rule, GradientStep):
            self._rule.backward(losses, features=features, shared=shared, heads=heads)
        else:
            torch.autograd.backward(self._rule(losses))

    def parameters(self) -> list[nn.Parameter]:
        """Return what the method learns along with the model."""
        return [] if isinstance(self._rule, GradientStep) else self._rule.parameters()

    def weights(self) -> dict[str, float]:
        """Return each task's multiplier of its raw loss, in units in which `static`'s is importance / baseline."""
        return self._rule.weights()

    def observe(self, losses: Mapping[str, Tensor]) -> None:
        """Take note of the last batch's losses after the optimiser's step, where `needs_losses_after_step`."""
        assert not isinstance(self._rule, GradientStep), (
            "no method that looks at gradients asks for losses after a step"
        )
        self._rule.observe(losses)
