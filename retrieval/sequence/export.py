"""From the trained network to what a service reads."""

from __future__ import annotations

import torch

from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.model import SequenceNet
from retrieval.sequence.runtime import SequenceMeta, SequenceModel
from retrieval.sequence.texts import TextScale


@torch.no_grad()
def exported(net: SequenceNet, scale: TextScale, config: SequenceConfig) -> SequenceModel:
    """Return the model without torch.

    Args:
        net: trained.
        scale: how the text vectors were standardised that it was trained on.
        config: its configuration.
    """
    weights = {name: value.numpy().copy() for name, value in net.reader.state_dict().items()}
    weights["projection"] = net.items.projection.numpy().copy()
    weights["text_mean"] = scale.mean
    items = net.items().numpy()
    meta = SequenceMeta(
        items=len(items),
        text_dim=len(scale.mean),
        kinds=net.reader.kind.num_embeddings,
        deviation=scale.deviation,
        scale=float(net.scale),
        config=config,
    )
    return SequenceModel(meta=meta, items=items, weights=weights)
