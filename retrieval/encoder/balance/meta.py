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
        query: scalar loss, on other rows, of the adapted module.
    """

    support: Loss
    query: Loss


def fomaml(module: nn.Module, episodes: Sequence[Episode], *, steps: int, rate: float) -> None:
    """First-order MAML (Finn et al., 2017): every parameter adapts.

    The outer gradient is the mean over episodes of grad query(theta'), theta' = theta after `steps` steps of gradient
    descent on the support loss; second derivatives are left out.

    Args:
        module: holds the parameters.
        episodes: at least one.
        steps: inner steps.
        rate: inner learning rate.
    """
    _adapted_gradients(module, list(module.parameters()), episodes, steps=steps, rate=rate)


def anil(
    module: nn.Module, heads: Sequence[nn.Parameter], episodes: Sequence[Episode], *, steps: int, rate: float
) -> None:
    """Almost no inner loop (Raghu et al., 2020), first-order: heads adapt, every parameter gets the outer gradient.

    Args:
        module: holds the parameters.
        heads: those that adapt.
        episodes: at least one.
        steps: inner steps.
        rate: inner learning rate.
    """
    _adapted_gradients(module, heads, episodes, steps=steps, rate=rate)


def reptile(module: nn.Module, supports: Sequence[Loss], *, steps: int, rate: float) -> None:
    """Reptile (Nichol et al., 2018): the outer gradient is the mean over tasks of theta - theta'.

    Args:
        module: holds the parameters.
        supports: a loss for each task, called once for each inner step.
        steps: inner steps; one makes it plain joint training, times `rate`.
        rate: inner learning rate.
    """
    inner = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for support in supports:
        with _restored(inner) as start:
            reached = _descend(inner, support, steps=steps, rate=rate)
            moved = [
                before - parameter.detach() if some else None
                for before, parameter, some in zip(start, inner, reached, strict=True)
            ]
        accumulate(inner, moved, scale=1 / len(supports))


def _adapted_gradients(
    module: nn.Module, inner: Sequence[nn.Parameter], episodes: Sequence[Episode], *, steps: int, rate: float
) -> None:
    outer = [parameter for parameter in module.parameters() if parameter.requires_grad]
    inner = [parameter for parameter in inner if parameter.requires_grad]
    for episode in episodes:
        with _restored(inner):
            _descend(inner, episode.support, steps=steps, rate=rate)
            gradients = torch.autograd.grad(episode.query(), outer, allow_unused=True)
        accumulate(outer, gradients, scale=1 / len(episodes))


def _descend(parameters: Sequence[nn.Parameter], loss: Loss, *, steps: int, rate: float) -> list[bool]:
    """Make steps of gradient descent in place, and return which parameters the loss reached."""
    reached = [False] * len(parameters)
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
        with torch.no_grad():
            for n, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                if gradient is not None:
                    parameter.sub_(gradient, alpha=rate)
                    reached[n] = True
    return reached


@contextmanager
def _restored(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Give copies of the parameters, and put them back at the end of the block, however it ends."""
    start = [parameter.detach().clone() for parameter in parameters]
    try:
        yield start
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
