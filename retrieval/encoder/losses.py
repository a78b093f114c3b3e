"""Masked losses: each is a mean over the rows that carry the task's label, and absent where none does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def masked_bce(logits: Tensor, labels: Tensor, present: Tensor) -> Tensor | None:
    """Binary cross-entropy over present entries.

    Args:
        logits: any shape.
        labels: same shape, 0 or 1 (anything where absent).
        present: same shape, bool.

    Returns:
        The mean over present entries, or None where there is none.
    """
    if not bool(present.any()):
        return None
    return functional.binary_cross_entropy_with_logits(logits[present], labels[present])


def masked_squares(values: Tensor, labels: Tensor, present: Tensor) -> Tensor | None:
    """Return the mean squared error over present entries, or None where there is none; arguments as `masked_bce`."""
    if not bool(present.any()):
        return None
    return functional.mse_loss(values[present], labels[present])


def masked_cross_entropy(logits: Tensor, labels: Tensor, present: Tensor) -> Tensor | None:
    """Return the mean cross-entropy over present rows.

    Args:
        logits: `[n, classes]`.
        labels: `[n]` codes (anything where absent).
        present: `[n]` bool.

    Returns:
        The mean, or None where no row is present.
    """
    if not bool(present.any()):
        return None
    return functional.cross_entropy(logits[present], labels[present].long())


def info_nce(logits: Tensor, positive: Tensor, excluded: Tensor, log_q: Tensor | None) -> Tensor | None:
    """InfoNCE of each positive against the batch's items that are no positive of its user (van den Oord et al., 2018).

    Args:
        logits: `[users, items]`.
        positive: `[users, items]` bool, the positives drawn for the user.
        excluded: `[users, items]` bool: known positives and items whose text equals one's; never a negative.
        log_q: `[items]` log probability that the batch holds the item; subtracted from its logits, so that the order of
            the full softmax is learnt instead of one bent towards rare items (Yi et al., 2019). None leaves it out.

    Returns:
        The mean over positives, or None where there is none.
    """
    if not bool(positive.any()):
        return None
    corrected = logits if log_q is None else logits - log_q[None, :]
    # A finite floor: a row without negatives costs 0, and its gradient stays finite.
    negatives = corrected.masked_fill(excluded | positive, -1e9)
    rest = torch.logsumexp(negatives, dim=1, keepdim=True)
    # -log(exp(s) / (exp(s) + sum of negatives)) = softplus(log-sum of negatives - s).
    losses = functional.softplus(rest - corrected)
    return losses[positive].mean()
