"""Adversarial training on the token embeddings (FGM, Miyato et al., 2017)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.step import Look, Objective, TextSource, distinct


class Adversarial:
    """Each loss becomes the mean of itself and of its value after the step on the embeddings that hurts most.

    That is half of the paper's sum, so that losses keep their scale. The step is epsilon * g / |g|, with g the gradient
    of the sum of losses over their constant predictors' with respect to the embedding matrix. Both losses meet the
    balance, which may keep count of its calls, in one; with the pass that finds g (no weight's gradient but the
    embeddings'), a step takes about twice as long (measured, MiniLM-L6).

    Args:
        inner: what looks at a batch, with gradients into the embeddings.
        embedding: the matrix, `[tokens, dim]`.
        epsilon: length of the step.
        baselines: losses of constant predictors by task.
    """

    def __init__(
        self, inner: Objective, embedding: nn.Parameter, epsilon: float, baselines: Mapping[str, float]
    ) -> None:
        self.inner, self.embedding, self.epsilon, self.baselines = inner, embedding, epsilon, baselines

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Look twice: at the embeddings as they are, and a step away."""
        with torch.enable_grad():
            clean = self.inner(batch, source, tasks)
            if not clean.losses:
                return clean
            total = torch.stack([loss / max(self.baselines[name], 1e-6) for name, loss in clean.losses.items()]).sum()
            (gradient,) = torch.autograd.grad(total, [self.embedding], retain_graph=True)
        with perturbed(self.embedding, adversarial_step(gradient, self.epsilon)):
            hard = self.inner(batch, source, tasks)
        return Look(
            losses={name: (loss + hard.losses[name]) / 2 for name, loss in clean.losses.items()},
            features=distinct([*clean.features, *hard.features]),
            states=clean.states,
        )


def adversarial_step(gradient: Tensor, epsilon: float) -> Tensor:
    """Return the step of length epsilon along the gradient, same shape; zeros where the gradient is zero."""
    length = torch.linalg.vector_norm(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
    step: Tensor = gradient * (epsilon / length)
    return step


@contextmanager
def perturbed(parameter: nn.Parameter, step: Tensor) -> Iterator[None]:
    """Add the step to the parameter inside the block; after it the parameter is bit for bit what it was."""
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(step)
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)
