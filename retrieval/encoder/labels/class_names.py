"""Zero-shot: the names of classes, as texts, are the head's first weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.heads import RowHead
from retrieval.encoder.labels.config import ClassNameConfig
from retrieval.encoder.tokens import tokenize


@torch.no_grad()
def class_name_head(
    backbone: Backbone, names: Sequence[str], config: ClassNameConfig, *, backbone_config: BackboneConfig
) -> Tensor:
    """Return weights with which a linear `RowHead` of several classes scores cosine(text, name) / temperature.

    Args:
        backbone: untrained; a new projection leaves its vectors as they are.
        names: of the classes, by code; underscores are read as spaces.
        config: template and temperature.
        backbone_config: prefix and length of free texts.

    Returns:
        float32 `[classes, dim]` for `RowHead.outer.weight`; `start_row_head` puts them there.

    Raises:
        InvalidInputError: two names make the same text.
    """
    texts = [config.template.format(name=name.replace("_", " ")) for name in names]
    table, positions = tokenize(backbone.tokenizer, {"text": texts}, backbone_config)
    if len(np.unique(positions["text"])) < len(texts):
        raise InvalidInputError(f"names: expected texts that differ within their tokens, found {texts}")
    device = next(backbone.parameters()).device
    ids, mask = table.padded(positions["text"])
    unit = functional.normalize(backbone(ids.to(device), mask.to(device)), dim=1)
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
