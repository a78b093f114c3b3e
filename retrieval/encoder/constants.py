"""What a constant prediction costs each task: the yardstick of its loss, and where its head starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.batch import Batch, PairLabels
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.losses import info_nce
from retrieval.encoder.model import MultiTaskEncoder

# By task the mean loss of its best constant prediction, and the constant.
Constants = Mapping[str, tuple[float, Tensor | None]]


def start_heads(model: MultiTaskEncoder, constants: Constants) -> dict[str, float]:
    """Let every head start at its constant, and return what that costs, by task."""
    for task in model.tasks:
        loss, constant = constants[task.name]
        if constant is not None:
            model.set_constant(task.name, constant, spread=loss**0.5 if task.kind == "regression" else 1.0)
    return {name: loss for name, (loss, _) in constants.items()}


def constant_losses(tasks: Sequence[EncoderTask], batches: Sequence[Batch], *, logq: bool) -> Constants:
    """Measure every task's best constant prediction.

    Args:
        tasks: which.
        batches: to measure on.
        logq: whether retrieval's logits are corrected.

    Returns:
        By task the mean loss and the constant that a head starts at: a logit `[1]`, the log shares of classes `[c]`,
        the mean `[1]`; None for a contrastive task. A task without a label in any batch has loss 1.
    """
    return {task.name: _constant(task, batches, logq=logq) for task in tasks}


def losses_elsewhere(
    tasks: Sequence[EncoderTask], constants: Constants, batches: Sequence[Batch], *, logq: bool
) -> dict[str, float]:
    """Return by task what its constant costs on other batches, where rates and spreads are others.

    Args:
        tasks: which.
        constants: fitted before; of a contrastive task equal scores are.
        batches: a task without a label in them is left out.
        logq: whether retrieval's logits are corrected.
    """
    found = {}
    for task in tasks:
        if task.kind == "contrastive":
            found[task.name] = _constant_contrastive(task, batches, logq=logq)
            continue
        (label, shift), (_, constant) = labels_of(task, batches), constants[task.name]
        if constant is None or not len(label):
            continue
        if task.kind == "binary":
            loss = functional.binary_cross_entropy_with_logits(constant + shift, label)
        elif task.kind == "regression":
            loss = functional.mse_loss(constant.expand_as(label), label)
        else:
            loss = functional.nll_loss(constant.expand(len(label), -1), label.long())
        found[task.name] = float(loss)
    return found


def _constant(task: EncoderTask, batches: Sequence[Batch], *, logq: bool) -> tuple[float, Tensor | None]:
    if task.kind == "contrastive":
        return _constant_contrastive(task, batches, logq=logq), None
    label, shift = labels_of(task, batches)
    if len(label) == 0:
        return 1.0, None
    if task.kind == "binary":
        return _constant_binary(label, shift)
    if task.kind == "regression":
        mean = label.mean()
        return max(float((label - mean).square().mean()), 1e-12), mean.reshape(1)
    # Laplace's rule: a class that these batches lack is still possible.
    counts = torch.bincount(label.long(), minlength=len(task.classes)).float() + 1
    logs = torch.log(counts / counts.sum())
    return float(functional.nll_loss(logs.expand(len(label), -1), label.long())), logs


def _constant_contrastive(task: EncoderTask, batches: Sequence[Batch], *, logq: bool) -> float:
    """Return the loss where every item scores alike."""
    held = [(batch.pairs[task.name], batch.log_q) for batch in batches if task.name in batch.pairs]
    each = [info_nce(torch.zeros_like(p.shift), p.drawn, p.excluded, q if logq else None) for p, q in held]
    values = [float(loss) for loss in each if loss is not None]
    return sum(values) / len(values) if values else 1.0


def _constant_binary(label: Tensor, shift: Tensor) -> tuple[float, Tensor]:
    """Find by bisection the logit c with mean(sigmoid(c + shift)) = mean(label), and its loss."""
    low, high, rate = -15.0, 15.0, float(label.mean())
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(middle + shift).mean()) < rate else (low, middle)
    return float(functional.binary_cross_entropy_with_logits(low + shift, label)), torch.tensor([low])


def labels_of(task: EncoderTask, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """Return every label of a task over the batches, and the shift of its logit: `[n]` each, empty for none."""
    labels, shifts = [torch.zeros(0)], [torch.zeros(0)]
    for batch in batches:
        held = batch.labels(task.name)
        if held is not None:
            labels.append(held.label[held.present])
            if isinstance(held, PairLabels):
                shifts.append(held.shift[held.present])
        elif task.name in batch.tags:
            labels.append(batch.tags[task.name].code.float())
    label = torch.cat(labels)
    shift = torch.cat(shifts)
    return label, shift if len(shift) else torch.zeros_like(label)


def evidence(tasks: Sequence[EncoderTask], batches: Sequence[Batch]) -> dict[str, float]:
    """Count what each task's loss rests on: positives of a binary or contrastive task, labels of any other."""
    counts: dict[str, float] = {}
    for task in tasks:
        if task.kind == "contrastive":
            drawn = [batch.pairs[task.name].drawn for batch in batches if task.name in batch.pairs]
            counts[task.name] = float(sum(int(entries.sum()) for entries in drawn))
        else:
            label, _ = labels_of(task, batches)
            counts[task.name] = float(label.sum()) if task.kind == "binary" else float(len(label))
    return counts
