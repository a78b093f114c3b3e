"""First-order meta-learning: a start from which few steps on a task (or domain) go far.

Each function fills `.grad` with the outer gradient and leaves the parameters as they were; the caller's optimiser makes
the outer step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from retrieval.encoder.balance.accumulate import accumulate

Loss = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One task's part in an outer step; each loss runs the module as it is when called, on a batch of its choice.

    Attributes:
        support: scalar loss that the inner steps descend; called once for each.
        query: scalar loss, on another draw of rows, of the adapted module.
    """

    support: Loss
    query: Loss


def fomaml(
    module: nn.Module, episodes: Sequence[Episode], *, steps: int, rate: float, weights: Sequence[float] | None = None
) -> None:
    """First-order MAML (Finn et al., 2017): every parameter adapts.

    The outer gradient is the mean over episodes of grad query(theta'), theta' = theta after `steps` steps of gradient
    descent on the support loss; second derivatives are left out.

    Args:
        module: holds the parameters.
        episodes: at least one.
        steps: inner steps.
        rate: inner learning rate.
        weights: of the episodes in the mean, one above 0; None counts all alike.
    """
    _adapted_gradients(module, list(module.parameters()), episodes, _shares(weights, len(episodes)), steps, rate)


def anil(
    module: nn.Module, heads: Sequence[nn.Parameter], episodes: Sequence[Episode], *, steps: int, rate: float,
    weights: Sequence[float] | None = None,
) -> None:  # fmt: skip
    """Almost no inner loop (Raghu et al., 2020), first-order: heads adapt, every parameter gets the outer gradient.

    Args:
        module: holds the parameters.
        heads: those that adapt.
        episodes: at least one.
        steps: inner steps.
        rate: inner learning rate.
        weights: of the episodes in the mean, one above 0; None counts all alike.
    """
    _adapted_gradients(module, heads, episodes, _shares(weights, len(episodes)), steps, rate)


def reptile(
    module: nn.Module, supports: Sequence[Loss], *, steps: int, rate: float, weights: Sequence[float] | None = None
) -> None:
    """Reptile (Nichol et al., 2018): the outer gradient is the mean over tasks of (theta - theta') / rate.

    The paper divides by the rate where an adaptive optimiser makes the outer step. The quotient is the sum of the inner
    steps' gradients, and taken as such: the difference of two close weights would lose its digits.

    Args:
        module: holds the parameters.
        supports: a loss for each task, called once for each inner step.
        steps: inner steps; one makes it plain joint training.
        rate: inner learning rate.
        weights: of the tasks in the mean, one above 0; None counts all alike.
    """
    inner = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for support, share in zip(supports, _shares(weights, len(supports)), strict=True):
        with _restored(inner):
            moved = _descend(inner, support, steps=steps, rate=rate)
        accumulate(inner, moved, scale=share)


def _adapted_gradients(
    module: nn.Module, inner: Sequence[nn.Parameter], episodes: Sequence[Episode], shares: Sequence[float],
    steps: int, rate: float,
) -> None:  # fmt: skip
    outer = [parameter for parameter in module.parameters() if parameter.requires_grad]
    inner = [parameter for parameter in inner if parameter.requires_grad]
    for episode, share in zip(episodes, shares, strict=True):
        with _restored(inner):
            _descend(inner, episode.support, steps=steps, rate=rate)
            gradients = torch.autograd.grad(episode.query(), outer, allow_unused=True)
        accumulate(outer, gradients, scale=share)


def _shares(weights: Sequence[float] | None, episodes: int) -> list[float]:
    own = [1.0] * episodes if weights is None else weights
    total = sum(own)
    return [weight / total for weight in own]


def _descend(parameters: Sequence[nn.Parameter], loss: Loss, *, steps: int, rate: float) -> list[Tensor | None]:
    """Make steps of gradient descent in place, and return each parameter's sum of gradients; None where none came."""
    sums: list[Tensor | None] = [None] * len(parameters)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        with torch.no_grad():
            for n, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=rate)
                    before = sums[n]
                    sums[n] = gradient if before is None else before + gradient
    return sums


@contextmanager
def _restored(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Put the parameters back at the end of the block, however it ends."""
    start = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
