"""FedMix: mixup with the averages that other parties publish, where rows may not leave theirs (Yoon et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Losses `[n]` of vectors `[n, d]` and labels `[n, ...]`, a row's depending on that row alone.
RowLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Averages:
    """What the parties publish.

    Attributes:
        vectors: float `[g, d]`, each the mean of a group of rows of one party.
        labels: float `[g, ...]`, their mean labels (of classes, mean one-hot vectors).
        parties: int64 `[g]`, whose group it is.
    """

    vectors: Tensor
    labels: Tensor
    parties: Tensor


def average_groups(
    vectors: Tensor, labels: Tensor, parties: Tensor, *, rows: int, generator: torch.Generator
) -> Averages:
    """Average each party's rows in groups drawn by chance.

    A remainder smaller than a group is left out: the fewer rows, the more an average tells of each.

    Args:
        vectors: float `[n, d]`; the averages carry no gradient.
        labels: float `[n, ...]`.
        parties: int64 `[n]`; -1 for a row of no party, which is in no group.
        rows: of a group, at least 1.
        generator: of the grouping, on the CPU.

    Returns:
        The averages of every party with a whole group.
    """
    groups: list[Tensor] = []
    for party in torch.unique(parties[parties >= 0]).tolist():
        own = torch.nonzero(parties == party).squeeze(1)
        shuffled = own[torch.randperm(len(own), generator=generator).to(own.device)]
        groups.extend(shuffled[: len(own) // rows * rows].view(-1, rows))
    index = torch.stack(groups) if groups else parties.new_zeros((0, rows), dtype=torch.long)
    return Averages(vectors=vectors.detach()[index].mean(1), labels=labels[index].mean(1), parties=parties[index[:, 0]])


def fedmix(
    loss: RowLoss,
    vectors: Tensor,
    labels: Tensor,
    parties: Tensor,
    *,
    averages: Averages,
    ratio: float,
    generator: torch.Generator,
) -> Tensor:
    """Return each row's loss in the first-order form of mixup with another party's average.

    With x, y a row, x' and y' the mean vector and label of a group drawn from another party, and lam the ratio, it is

        (1 - lam) L((1 - lam) x, y) + lam L((1 - lam) x, y') + lam dL/dx . x'

    where dL/dx is taken at ((1 - lam) x, y): the Taylor expansion around (1 - lam) x of mixup's
    (1 - lam) L((1 - lam) x + lam x', y) + lam L((1 - lam) x + lam x', y'), less its terms in lam^2 (proposition 1 of
    the paper). Being linear in x' and y', it equals the mean over the group's rows, which nobody needs to see, for a
    loss that is linear in its label, as cross-entropy is. The derivative is part of the graph, so the loss must be
    twice differentiable.

    Args:
        loss: of rows.
        vectors: float `[n, d]`; gradients flow into them where they carry any.
        labels: float `[n, ...]`, alike in shape to the averages' but for the first axis.
        parties: int64 `[n]`; -1 for a row of no party.
        averages: of all parties; a row draws among those of the others.
        ratio: lam, in [0, 1]; the paper keeps it at 0.05 to 0.2, because the form holds for small ones.
        generator: of the draws, on the CPU.

    Returns:
        `[n]`; the plain loss of a row of no party, and of one for which no other party has an average.
    """
    other = ((parties[:, None] != averages.parties[None, :]) & (parties[:, None] >= 0)).float()
    paired = other.sum(1) > 0
    losses = loss(vectors, labels)
    if not bool(paired.any()):
        return losses
    drawn = torch.multinomial(other[paired].cpu(), 1, generator=generator).squeeze(1).to(parties.device)
    scaled = (1 - ratio) * vectors[paired]
    if not scaled.requires_grad:
        scaled.requires_grad_()
    own = loss(scaled, labels[paired])
    slope = torch.autograd.grad(own.sum(), scaled, create_graph=True)[0]
    along = (slope * averages.vectors[drawn]).sum(1)
    mixed = (1 - ratio) * own + ratio * loss(scaled, averages.labels[drawn]) + ratio * along
    return losses.masked_scatter(paired, mixed)
