"""One step of the methods that look at each task's gradient: a backward pass for each, then one gradient of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from retrieval.encoder.balance.accumulate import accumulate
from retrieval.encoder.balance.config import Level
from retrieval.encoder.balance.protocols import Aggregator, Gramian, Jacobian, Weighting
from retrieval.encoder.balance.scales import Scales


class Mean:
    """Equal weights: the static gradient, by the path that the others take."""

    def __call__(self, gramian: Gramian) -> Tensor:
        """Return 1 / t for each of `t` tasks."""
        n = len(gramian.names)
        return gramian.matrix.new_full((n,), 1 / n)


class Weighted:
    """The aggregator that a weighting makes: the rows' sum by its weights.

    Args:
        weighting: of the Gramian.
    """

    def __init__(self, weighting: Weighting) -> None:
        self._weighting = weighting
        self._shares: dict[str, float] = {}

    def __call__(self, jacobian: Jacobian) -> Tensor:
        """Return the weighted sum `[p]` of the rows."""
        weights = self._weighting(jacobian.gramian())
        self._shares = dict(zip(jacobian.names, weights.tolist(), strict=True))
        return weights @ jacobian.rows

    def shares(self) -> dict[str, float]:
        """Return the weights of the last step's rows by task."""
        return self._shares


class GradientStep:
    """Rows of relative losses' gradients, aggregated, sent on to the shared parameters.

    A row is the gradient of t x importance / sum of present importances x relative loss for t present tasks: the mean
    of rows is the static gradient, and of one task alone its relative loss's.

    Args:
        scales: importances and baselines.
        aggregator: of the rows.
        level: where the rows are taken: with respect to `features`, or else to `shared`.
    """

    def __init__(self, scales: Scales, aggregator: Aggregator, level: Level) -> None:
        self._scales, self._aggregator, self._level = scales, aggregator, level
        self._factors = dict(scales.importance)

    def backward(
        self,
        losses: Mapping[str, Tensor],
        *,
        features: Sequence[Tensor],
        shared: Sequence[nn.Parameter],
        heads: Sequence[nn.Parameter],
    ) -> None:
        """Add to the gradients of every parameter that a loss reaches; see `Balance.backward`."""
        at = [tensor for tensor in (features if self._level == "feature" else shared) if tensor.requires_grad]
        own = [parameter for parameter in heads if parameter.requires_grad]
        relative, factors = self._scales.relative(losses), self._row_factors(losses)
        found: dict[str, Sequence[Tensor | None]] = {}
        for position, (name, loss) in enumerate(relative.items()):
            gradients = torch.autograd.grad(
                factors[name] * loss,
                [*at, *own],
                # Tasks share the graph between features and heads; the last one may free what it passes.
                retain_graph=position < len(losses) - 1,
                allow_unused=True,
            )
            accumulate(own, gradients[len(at) :], scale=1 / len(losses))
            # A task that reaches none of them, such as one whose inputs are its own, has no row: a row of zeros would
            # hold the others back (to MGDA it is the shortest gradient of all).
            if any(gradient is not None for gradient in gradients[: len(at)]):
                found[name] = gradients[: len(at)]
        if found:
            self._send(relative, found, at)

    def weights(self) -> dict[str, float]:
        """Return each task's multiplier in its last step, scaled so that the mean's is importance / baseline.

        That is also the value before a task's first step, and for aggregators that are no weighted sums.
        """
        return self._scales.weights(self._factors)

    def _row_factors(self, names: Mapping[str, object]) -> dict[str, float]:
        importance = {name: self._scales.importance[name] for name in names}
        total = sum(importance.values()) or 1.0
        return {name: len(importance) * value / total for name, value in importance.items()}

    def _send(
        self,
        relative: Mapping[str, Tensor],
        found: Mapping[str, Sequence[Tensor | None]],
        at: Sequence[Tensor],
    ) -> None:
        """Aggregate the gradients found and send the result on; what no task reached gets nothing, not even zeros."""
        reached = [n for n in range(len(at)) if any(gradients[n] is not None for gradients in found.values())]
        tensors = [at[n] for n in reached]
        jacobian = Jacobian(
            names=tuple(found),
            rows=torch.stack([_flat([gradients[n] for n in reached], tensors) for gradients in found.values()]),
            losses=torch.stack([relative[name].detach() for name in found]),
        )
        # The mean is over all present tasks, as it is for the heads, even those without a row.
        gradient = self._aggregator(jacobian) * (len(found) / len(relative))
        parts = torch.split(gradient, [tensor.numel() for tensor in tensors])
        torch.autograd.backward(tensors, [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)])
        for name, share in self._aggregator.shares().items():
            self._factors[name] = share * len(found) * self._scales.importance[name]


def _flat(gradients: Sequence[Tensor | None], at: Sequence[Tensor]) -> Tensor:
    """Return one row `[p]`, zeros where a tensor was not reached, in float32 or better: half formats lose products."""
    parts = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for gradient, tensor in zip(gradients, at, strict=True)
    ]
    return torch.cat([part.reshape(-1).to(torch.promote_types(part.dtype, torch.float32)) for part in parts])
