"""Measured affinity: what a step on one task does to the losses of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.matrix import Affinity, Float64

Batch = TypeVar("Batch")
Losses = Callable[[Batch], Mapping[str, Tensor]]


def measure_affinity(
    module: nn.Module,
    parameters: Iterable[nn.Parameter],
    losses: Losses[Batch],
    batches: Iterable[Batch],
    *,
    tasks: Sequence[str],
    rate: float,
) -> Affinity:
    """Measure 1 - L_j(w - rate * grad L_i) / L_j(w), averaged over batches (Fifty et al., 2021).

    The step is plain gradient descent, so a task's row grows with the scale of its loss: give losses over their
    constant predictors' where rows are to be compared. Column j doesn't depend on the scale of L_j. The module runs in
    evaluation mode (dropout would add noise of the size of what is measured); afterwards its weights are bit for bit as
    they were, as are its modes and gradients, even when `losses` raises.

    Args:
        module: what `losses` runs.
        parameters: those the tasks share, as a head of its own can't affect another task; frozen ones are left out.
        losses: scalars by task present in a batch, at least 0; the same for the same batch and weights. In float32: a
            step this small is lost in bfloat16.
        batches: tasks are measured on each other where one batch has both. A batch costs one pass, and two more and a
            backward one for each of its tasks.
        tasks: to measure, distinct; other losses of a batch are left out.
        rate: of the step, above 0.

    Returns:
        The affinity, NaN for pairs without a batch, or whose losses L_j were all 0.

    Raises:
        InvalidInputError: no parameter to step on; a loss that is negative or not finite, as after a rate too large.
    """
    assert rate > 0
    shared = [parameter for parameter in parameters if parameter.requires_grad]
    if not shared:
        raise InvalidInputError("affinity, parameters: expected at least one that requires a gradient, found none")
    total = np.zeros((len(tasks), len(tasks)))
    count = np.zeros_like(total, np.int64)
    with _evaluation(module):
        for batch in batches:
            # A pass for this alone: a pooler rounds the states it keeps, so the first losses of a batch can differ from
            # those of every later pass by more than what is measured.
            with torch.no_grad():
                present = losses(batch).keys()
            for i, task in enumerate(tasks):
                if task not in present:
                    continue
                before, after = _lookahead(shared, partial(losses, batch), task, tasks, rate)
                measured = before > 0
                total[i, measured] += 1 - after[measured] / before[measured]
                count[i, measured] += 1
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return Affinity(names=tuple(tasks), matrix=mean, batches=count)


def _lookahead(
    shared: Sequence[nn.Parameter],
    losses: Callable[[], Mapping[str, Tensor]],
    task: str,
    tasks: Sequence[str],
    rate: float,
) -> tuple[Float64, Float64]:
    """Return the losses `[T]` before and after a step on one task; NaN where absent.

    The gradient has a forward pass of its own for each task: all from one pass would be held at once, T times the size
    of the parameters.
    """
    with torch.enable_grad():
        found = losses()
        gradients = torch.autograd.grad(found[task], shared, allow_unused=True)
    before = _values(found, tasks, "before a step")
    with _stepped(shared, gradients, rate), torch.no_grad():
        after = _values(losses(), tasks, f"after a step on {task} at rate {rate:g}")
    return before, after


def _values(losses: Mapping[str, Tensor], tasks: Sequence[str], when: str) -> Float64:
    values = np.full(len(tasks), np.nan)
    for position, task in enumerate(tasks):
        if task in losses:
            value = float(losses[task].detach())
            if not 0 <= value < float("inf"):
                raise InvalidInputError(f"affinity, loss of {task} {when}: expected 0 or more, found {value}")
            values[position] = value
    return values


@contextmanager
def _stepped(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None], rate: float) -> Iterator[None]:
    """Let the parameters stand one step further, then put their own bits back: adding the step again would round."""
    moves = [
        (p, gradient, p.detach().clone())
        for p, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    ]
    try:
        with torch.no_grad():
            for parameter, gradient, _ in moves:
                parameter.sub_(gradient, alpha=rate)
        yield
    finally:
        with torch.no_grad():
            for parameter, _, kept in moves:
                parameter.copy_(kept)


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    """Put every part in evaluation mode, then back in its own: parts of a model can differ."""
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training
