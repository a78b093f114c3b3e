"""Gradients added by hand, as `backward` adds them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


def accumulate(parameters: Iterable[nn.Parameter], gradients: Iterable[Tensor | None], *, scale: float = 1.0) -> None:
    """Add scale x gradient to each parameter's `.grad`; None leaves it as it is, None included.

    A parameter that nothing reached so keeps `.grad` None, and an optimiser passes over it with its moments and decay.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            addend = gradient.detach().to(parameter.dtype) * scale
            parameter.grad = addend if parameter.grad is None else parameter.grad + addend
