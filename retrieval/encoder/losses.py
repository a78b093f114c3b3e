"""Masked losses: each is a mean over the rows that carry the task's label, and absent where none does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.batches import Batch
from retrieval.encoder.data import EncoderTask


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


def constant_losses(
    tasks: Sequence[EncoderTask], batches: Sequence[Batch], *, logq: bool
) -> dict[str, tuple[float, float]]:
    """Measure every task's best constant prediction, the yardstick of its loss.

    Args:
        tasks: which.
        batches: to measure on.
        logq: whether retrieval's logits are corrected.

    Returns:
        By task the mean loss and the constant logit; a task without a label in any batch has loss 1 and logit 0.
    """
    found: dict[str, tuple[float, float]] = {}
    for task in tasks:
        if task.kind == "contrastive":
            held = [(batch.pairs[task.name], batch.log_q) for batch in batches if task.name in batch.pairs]
            each = [info_nce(torch.zeros_like(p.shift), p.drawn, p.excluded, q if logq else None) for p, q in held]
            values = [float(loss) for loss in each if loss is not None]
            found[task.name] = (sum(values) / len(values), 0.0) if values else (1.0, 0.0)
        else:
            found[task.name] = _constant_binary(task, batches)
    return found


def _constant_binary(task: EncoderTask, batches: Sequence[Batch]) -> tuple[float, float]:
    """Find by bisection the logit c with mean(sigmoid(c + shift)) = mean(label), and its loss."""
    if task.on == "user":
        parts = [batch.users[task.name] for batch in batches if task.name in batch.users]
        label = torch.cat([labels[present] for labels, present in parts]) if parts else torch.zeros(0)
        shift = torch.zeros_like(label)
    else:
        pairs = [batch.pairs[task.name] for batch in batches if task.name in batch.pairs]
        label = torch.cat([pair.label[pair.present] for pair in pairs]) if pairs else torch.zeros(0)
        shift = torch.cat([pair.shift[pair.present] for pair in pairs]) if pairs else torch.zeros(0)
    if len(label) == 0:
        return 1.0, 0.0
    low, high, rate = -15.0, 15.0, float(label.mean())
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(middle + shift).mean()) < rate else (low, middle)
    return float(functional.binary_cross_entropy_with_logits(low + shift, label)), low


def positives(tasks: Sequence[EncoderTask], batches: Sequence[Batch]) -> dict[str, float]:
    """Count each task's positive labels over the batches (for retrieval, the positives drawn)."""
    counts: dict[str, float] = {}
    for task in tasks:
        if task.on == "user":
            held = [batch.users[task.name] for batch in batches if task.name in batch.users]
            counts[task.name] = float(sum(float((label * present).sum()) for label, present in held))
        else:
            pairs = [batch.pairs[task.name] for batch in batches if task.name in batch.pairs]
            drawn = [pair.drawn.float() if task.kind == "contrastive" else pair.label * pair.present for pair in pairs]
            counts[task.name] = float(sum(float(entries.sum()) for entries in drawn))
    return counts
