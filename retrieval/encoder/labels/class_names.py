"""Zero-shot: the names of classes, as texts, are the head's first weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from infra.errors import InvalidInputError
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.heads import RowHead
from retrieval.encoder.labels.config import ClassNameConfig
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.tokens import tokenize


def start_class_names(model: MultiTaskEncoder, config: EncoderConfig, kept: Collection[EncoderTask] = ()) -> None:
    """Let the heads that `few_labels` asks it for begin with their classes' names, beside their constants.

    Args:
        model: before anything learns.
        config: names the tasks, and how their classes are put into words.
        kept: tasks whose heads were trained before; they stay as they are.

    Raises:
        InvalidInputError: two names make the same text, or a hidden layer has too few units.
    """
    for task in (task for task in model.tasks if task not in kept):
        own = config.few_labels.get(task.name)
        if own is not None and own.class_names is not None:
            head = model.heads[task.name]
            assert isinstance(head, RowHead)
            weights = class_name_head(model, task.classes, own.class_names, backbone_config=config.backbone)
            start_row_head(head, weights)


@torch.no_grad()
def class_name_head(
    model: MultiTaskEncoder, names: Sequence[str], config: ClassNameConfig, *, backbone_config: BackboneConfig
) -> Tensor:
    """Return weights with which a linear `RowHead` of several classes scores cosine(text, name) / temperature.

    Args:
        model: whose vectors of free texts the head will read.
        names: of the classes, by code; underscores are read as spaces.
        config: template and temperature.
        backbone_config: prefix and length of free texts.

    Returns:
        float32 `[classes, dim]` for `RowHead.outer.weight`; `start_row_head` puts them there.

    Raises:
        InvalidInputError: two names make the same text.
    """
    texts = [config.template.format(name=name.replace("_", " ")) for name in names]
    table, positions = tokenize(model.backbone.tokenizer, {"text": texts}, backbone_config)
    if len(np.unique(positions["text"])) < len(texts):
        raise InvalidInputError(f"names: expected texts that differ within their tokens, found {texts}")
    device = next(model.parameters()).device
    ids, mask = table.padded(positions["text"])
    unit = model.vectors(model.backbone(ids.to(device), mask.to(device)), "text")
    # The head multiplies its unit vectors by sqrt(dim).
    return unit / (config.temperature * math.sqrt(unit.shape[1]))


@torch.no_grad()
def start_row_head(head: RowHead, weights: Tensor) -> None:
    """Let a head of several classes begin with these weights; its constant stays as it is.

    A hidden layer passes them through: w x = relu(w x) - relu(-w x), two units for each class. The others keep their
    random weights and are not read.

    Args:
        head: new.
        weights: float32 `[classes, dim]`, of `class_name_head`.

    Raises:
        InvalidInputError: the head has other sizes, or a hidden layer of fewer than two units for each class.
    """
    classes, dim = weights.shape
    width = head.outer.in_features if head.inner is None else head.inner.in_features
    if (head.outer.out_features, width) != (classes, dim):
        found = (head.outer.out_features, width)
        raise InvalidInputError(f"head: expected {classes} classes over {dim} dimensions, found {found}")
    if head.inner is None:
        head.outer.weight.copy_(weights)
        return
    if head.inner.out_features < 2 * classes:
        raise InvalidInputError(
            f"hidden: expected 0, or two units for each of {classes} classes, found {head.inner.out_features}"
        )
    identity = torch.eye(classes, device=weights.device)
    head.inner.weight[: 2 * classes].copy_(torch.cat([weights, -weights]))
    head.inner.bias[: 2 * classes].zero_()
    head.outer.weight[:, : 2 * classes].copy_(torch.cat([identity, -identity], dim=1))
