"""What weights cost besides the losses: their size, and how far they have moved from where they mattered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class L1:
    """weight * sum of |w| over matrices: entries that the losses don't need go to 0 (Tibshirani, 1996).

    Args:
        parameters: vectors, such as biases and norms, are left out.
        weight: of the sum.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight: float) -> None:
        self.matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        self.weight = weight

    def add_gradients(self) -> None:
        """Add weight * sign(w), which is 0 at 0."""
        for matrix in self.matrices:
            if matrix.grad is not None:
                matrix.grad.add_(matrix.detach().sign(), alpha=self.weight)


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """A parameter, where it shall stay, and how much each entry matters there.

    Attributes:
        parameter: any shape.
        at: its value at the start.
        fisher: diagonal of the Fisher information up to a factor, same shape.
    """

    parameter: nn.Parameter
    at: Tensor
    fisher: Tensor


class ElasticWeights:
    """weight / 2 * sum of F (w - w0)^2, elastic weight consolidation (Kirkpatrick et al., 2017).

    Args:
        anchors: of the parameters that are held.
        weight: of the sum.
    """

    def __init__(self, anchors: Sequence[Anchor], weight: float) -> None:
        self.anchors, self.weight = anchors, weight

    def add_gradients(self) -> None:
        """Add weight * F (w - w0)."""
        for anchor in self.anchors:
            if anchor.parameter.grad is not None:
                moved = anchor.parameter.detach() - anchor.at
                anchor.parameter.grad.addcmul_(anchor.fisher, moved, value=self.weight)


def anchors(parameters: Sequence[nn.Parameter], losses: Iterable[Mapping[str, Tensor]]) -> list[Anchor]:
    """Anchor parameters where they are, by the mean over batches of the squared gradient of the sum of losses.

    That is the empirical Fisher information, divided by its mean over all entries: as it comes it shrinks with the rows
    of a batch and the square of the losses, and the penalty's weight would hang on both.

    Args:
        parameters: frozen ones are left out.
        losses: by batch, each task's, in units in which they may be added; computed as they are asked for.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    squares = [torch.zeros_like(parameter) for parameter in learning]
    for batch in losses:
        if not batch:
            continue
        gradients = torch.autograd.grad(torch.stack(list(batch.values())).sum(), learning, allow_unused=True)
        for total, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:
                total.addcmul_(gradient, gradient)
    mean = sum(float(total.sum()) for total in squares) / max(1, sum(total.numel() for total in squares))
    return [
        Anchor(parameter=parameter, at=parameter.detach().clone(), fisher=total / (mean or 1.0))
        for parameter, total in zip(learning, squares, strict=True)
    ]
