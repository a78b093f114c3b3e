"""Cross-entropy of the next item: over the whole catalogue, or over sampled items where that is large."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy over all items, with its gradient made in the same pass.

    Logits and their exponentials are one array, `[positions, n_items]`, of the precision given: autograd's own would
    hold four.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, targets: Tensor, closed: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the mean over positions of log sum_j exp(s . v_j) - s . v_target, in nats.

        Args:
            ctx: keeps the gradients.
            states: float32 `[positions, width]`.
            items: float32 `[n_items, width]`.
            targets: int64 `[positions]`.
            closed: int64 `[2, pairs]` positions and items left out of the sum; never a target.
            dtype: of the products.
        """
        low_states, low_items = states.to(dtype), items.to(dtype)
        scores = low_states @ low_items.T
        scores[closed[0], closed[1]] = -torch.inf
        top = scores.amax(1, keepdim=True)
        scores.sub_(top).exp_()
        # Summed in float32 inside and rounded to bf16, .2%: a sum into float32 would first copy all.
        sums = scores.sum(1).float()
        own = (states * items[targets]).sum(1)
        loss = (sums.log() + top[:, 0].float() - own).mean()
        # Probabilities are scores over sums: dividing the small factors of the products spares the large array.
        shares = (1 / sums)[:, None]
        count = len(states)
        to_states = (scores @ low_items).float().mul_(shares).sub_(items[targets]).div_(count)
        to_items = (scores.T @ (states * shares).to(dtype)).float().index_add_(0, targets, states, alpha=-1).div_(count)
        ctx.save_for_backward(to_states, to_items)
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Return the gradients of states and items."""
        to_states, to_items = ctx.saved_tensors
        return to_states * outer[0], to_items * outer[0], None, None, None


def sampled_softmax(states: Tensor, own: Tensor, drawn: Tensor, log_expected: Tensor, hits: Tensor) -> Tensor:
    """Return the mean cross-entropy with the sum over all items estimated from drawn ones, in nats.

    The sum is exp(s . v_target) + sum_j exp(s . v_j) / P(j is drawn), the target itself left out of the second part
    (importance sampling, or logQ correction; Bengio and Senecal 2008).

    Args:
        states: float32 `[positions, width]`.
        own: float32 `[positions, width]` vectors of the targets.
        drawn: float32 `[k, width]` vectors of the drawn items.
        log_expected: float32 `[k]` log of how likely each was to be drawn.
        hits: bool `[positions, k]`: draws left out at a position, its target among them.
    """
    target = (states * own).sum(1, keepdim=True)
    others = (states @ drawn.T - log_expected).masked_fill(hits, -torch.inf)
    return (torch.logsumexp(torch.cat([target, others], 1), 1) - target[:, 0]).mean()


def among(drawn: Tensor, pairs: Tensor, positions: int) -> Tensor:
    """Return bool `[positions, k]`: at each position, which of the drawn items are in its pairs.

    Args:
        drawn: int64 `[k]`, ascending and distinct.
        pairs: int64 `[2, pairs]` positions and items.
        positions: how many.
    """
    place = torch.searchsorted(drawn, pairs[1]).clamp(max=len(drawn) - 1)
    found = drawn[place] == pairs[1]
    hits = torch.zeros(positions, len(drawn), dtype=torch.bool)
    hits[pairs[0][found], place[found]] = True
    return hits


def read_before(read: Tensor, ends: Tensor, targets: Tensor) -> Tensor:
    """Return int64 `[2, pairs]`: at each position the items read up to it, its target left out.

    Args:
        read: int64 `[windows, time]` items.
        ends: bool `[windows, time]` which of them are followed by another: the positions, row by row.
        targets: int64 `[positions]` items that follow.
    """
    row, at = ends.nonzero(as_tuple=True)
    items = read[row]
    past = torch.arange(read.shape[1])[None, :] <= at[:, None]
    position, step = (past & (items != targets[:, None])).nonzero(as_tuple=True)
    return torch.stack([position, items[position, step]])
