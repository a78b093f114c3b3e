"""The optimiser's parts: groups with their rates, the schedule, the number format that this machine runs fast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def make_optimizer(
    groups: Iterable[tuple[Iterable[nn.Parameter], float]],
    *,
    weight_decay: float,
    method: Literal["adamw", "sgd"] = "adamw",
    momentum: float = 0.9,
) -> Optimizer:
    """Return an optimiser over (parameters, rate) groups; only matrices decay, and frozen parameters are left out.

    A parameter without a gradient in a step, such as an absent task's head, is skipped with its moments and its decay.

    Args:
        groups: what learns, and how fast.
        weight_decay: decoupled from the gradient in AdamW, part of it in SGD.
        method: which optimiser.
        momentum: SGD's.
    """
    split: list[dict[str, object]] = []
    for parameters, rate in groups:
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
        others = [parameter for parameter in trainable if parameter.ndim < 2]
        split.append({"params": matrices, "lr": rate, "weight_decay": weight_decay})
        split.append({"params": others, "lr": rate, "weight_decay": 0.0})
    held = [group for group in split if group["params"]]
    # Fused: one pass over weights, moments and gradients, a quarter of the time of one pass an operation.
    return AdamW(held, fused=True) if method == "adamw" else SGD(held, momentum=momentum)


def warmup_cosine(optimizer: Optimizer, steps: int, warmup: float) -> LambdaLR:
    """Return a schedule that rises linearly over `warmup` x steps and falls to 0 by a cosine."""
    rise = max(1, round(steps * warmup))

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return LambdaLR(optimizer, rate)


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch take only algorithms that repeat bit by bit, where it has one; a warning tells where it has none.

    On several threads a CPU adds up the gradients of a row that was gathered twice in any order, and the differences
    in the last bits grow: two demos of one configuration differed by .005 in NDCG@10 of LambdaRank.

    Torch would also fill every tensor that it allocates, for programs that read memory before they write it: 7% of a
    training step, and nothing here does so.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # its stubs lack the property
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled


def autocast(device: torch.device) -> torch.autocast:
    """Return a context that multiplies in bfloat16 where that is fast: CUDA, or a CPU with AVX-512 BF16 or AMX.

    On a CPU with AVX2 alone bfloat16 products run about a hundred times slower than float32 ones.
    """
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(fast))
