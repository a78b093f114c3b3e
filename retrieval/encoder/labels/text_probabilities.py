"""Class probabilities of texts by a model that has just been trained, without a detour through its exported files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.data import EncoderTask, Float32
from retrieval.encoder.labels.checks import classes_of
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.optimise import autocast
from retrieval.encoder.packed import CHUNK_TOKENS, TextPooler
from retrieval.encoder.record import Bar
from retrieval.encoder.tokens import chunks, tokenize


@torch.no_grad()
def text_probabilities(
    model: MultiTaskEncoder, task: EncoderTask, texts: Sequence[str], *, backbone_config: BackboneConfig,
    progress: bool = True,
) -> Float32:  # fmt: skip
    """Return the probability of each class for each text, as `pseudo_labels` takes them.

    Args:
        model: trained.
        task: a binary or multiclass one of its tasks on texts.
        texts: `[n]`; equal ones are read once.
        backbone_config: prefix and length of free texts.
        progress: show a bar where the terminal is one.

    Returns:
        float32 `[n, classes]`, rows of sum 1; a binary task's columns are 0 and 1.
    """
    if not texts:
        return np.empty((0, len(classes_of(task))), np.float32)
    table, positions = tokenize(model.backbone.tokenizer, {"text": texts}, backbone_config)
    pooler = TextPooler(model.backbone, table, train_layers=None, cache_mb=0)
    found = np.empty((len(table.lengths), len(classes_of(task))), np.float32)
    with Bar(shown=progress) as bar:
        for rows in bar.track(f"encoder: {task.name} of texts without a label", chunks(table.lengths, CHUNK_TOKENS)):
            with autocast(next(model.parameters()).device):
                pooled = pooler(rows)
            features = Features(vectors={"text": model.vectors(pooled.float(), "text")})
            found[rows] = _probabilities(model.logits(task, features, {})).cpu().numpy()
    return found[positions["text"]]


def _probabilities(logits: Tensor) -> Tensor:
    """Return probabilities `[n, classes]` of logits `[n, classes]`, or `[n]` of a binary task."""
    if logits.ndim > 1:
        return torch.softmax(logits, dim=1)
    return torch.softmax(torch.stack([torch.zeros_like(logits), logits], dim=1), dim=1)
