"""How far two predictions of a task are apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.layout import TaskKind
from retrieval.encoder.model import Features, MultiTaskEncoder


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A task's logits on a batch, as its loss reads them.

    Attributes:
        logits: `[rows]`, `[rows, items]` of a task on pairs or a contrastive one, else `[rows, classes]`.
        present: bool, which of `divergence`'s entries carry a label; None where the batch has none for the task.
    """

    logits: Tensor
    present: Tensor | None


def predict(model: MultiTaskEncoder, task: EncoderTask, batch: Batch, features: Features) -> Prediction | None:
    """Return a task's logits, with the corrections that training makes; None where the batch lacks its rows.

    Args:
        model: heads.
        task: any.
        batch: whose labels say which entries count.
        features: of the batch's texts.
    """
    if task.kind == "token_tags":
        return _predict_tags(model, task, batch, features)
    row = "item_row" if task.on == "item" else "user" if task.on == "pair" else task.on
    paired = task.on == "pair" or task.kind == "contrastive"
    if row not in features.vectors or (paired and "item" not in features.vectors):
        return None
    logits = model.logits(task, features, {})
    if not paired:
        labels = batch.rows.get(task.name)
        return Prediction(logits=logits, present=None if labels is None else labels.present.to(logits.device))
    pairs = batch.pairs.get(task.name)
    if task.kind == "contrastive":
        corrected = logits - batch.log_q.to(logits.device) if model.logq else logits
        return Prediction(logits=corrected, present=None if pairs is None else pairs.drawn.any(1).to(logits.device))
    if pairs is None:
        return Prediction(logits=logits, present=None)
    if task.kind == "binary":
        logits = logits + pairs.shift.to(logits.device)
    return Prediction(logits=logits, present=pairs.present.to(logits.device))


def _predict_tags(model: MultiTaskEncoder, task: EncoderTask, batch: Batch, features: Features) -> Prediction | None:
    if task.name not in batch.tags or features.tokens is None:
        return None
    logits = model.tag_logits(task, batch, features)
    return Prediction(logits=logits, present=torch.ones(len(logits), dtype=torch.bool, device=logits.device))


def divergence(kind: TaskKind, target: Tensor, own: Tensor) -> Tensor:
    """Return KL(target || own) of each prediction, in nats; of two numbers the squared difference.

    Args:
        kind: `binary`: the KL of two Bernoulli distributions, entry by entry. `regression`: entry by entry.
            Others: of the distributions over the last axis.
        target: logits `[..., n]`.
        own: logits, same shape.

    Returns:
        `[..., n]` for binary tasks and regressions, else `[...]`.
    """
    if kind == "regression":
        return (target - own).square()
    if kind == "binary":
        yes = functional.logsigmoid(target) - functional.logsigmoid(own)
        no = functional.logsigmoid(-target) - functional.logsigmoid(-own)
        return torch.sigmoid(target) * yes + torch.sigmoid(-target) * no
    first, second = functional.log_softmax(target, dim=-1), functional.log_softmax(own, dim=-1)
    return (first.exp() * (first - second)).sum(-1)
