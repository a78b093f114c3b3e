"""Low-rank adapters (LoRA, Hu et al., 2022) inside the backbone, merged into plain weights in the end."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D

from infra.errors import unknown_name
from retrieval.encoder.adapt.config import LoraConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.backbone import Backbone
from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.step import Look, Objective, TextSource


class Lora:
    """Adapters in the top layers of a backbone, whose own weights freeze; they start as the identity.

    The packed path of BERT-like models calls the same linear modules as the model itself, so that it runs through the
    adapters, too.

    Args:
        backbone: changed in place.
        config: rank, scale, targets.
        train_layers: top blocks that get adapters; None means all.

    Attributes:
        dropout: on the adapters' inputs, off until `drop` turns it on.

    Raises:
        AdaptError: peft is not installed, or no linear layer has a target's name.
    """

    def __init__(self, backbone: Backbone, config: LoraConfig, train_layers: int | None) -> None:
        if importlib.util.find_spec("peft") is None:
            raise AdaptError("lora: expected the package peft to be installed (pip install peft), found none")
        import peft  # noqa: PLC0415 - optional, and it takes seconds

        self.backbone, self.dropout = backbone, config.dropout
        targets = target_names(backbone, config, train_layers)
        self._tuner = peft.LoraModel(
            backbone.model,
            peft.LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=targets,
                fan_in_fan_out=isinstance(backbone.model.get_submodule(targets[0]), Conv1D),
            ),
            "default",
        )
        backbone.eval()  # new modules begin in training mode
        self._dropouts = [
            module
            for name, module in backbone.named_modules()
            if ".lora_dropout." in name and isinstance(module, nn.Dropout)
        ]

    def parameters(self) -> list[nn.Parameter]:
        """Return the adapters' weights."""
        return [p for name, p in self.backbone.named_parameters() if ".lora_" in name]

    def drop(self, *, on: bool) -> None:
        """Turn the adapters' dropout on or off."""
        for module in self._dropouts:
            module.train(on)

    def merge(self) -> None:
        """Add the adapters to the weights they stand beside, and remove them: what is left is an ordinary model."""
        self._tuner.merge_and_unload()


class LoraDropout:
    """An objective whose looks run with the adapters' dropout."""

    def __init__(self, inner: Objective, lora: Lora) -> None:
        self.inner, self.lora = inner, lora

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Look at a batch."""
        self.lora.drop(on=True)
        look = self.inner(batch, source, tasks)
        self.lora.drop(on=False)
        return look


def target_names(backbone: Backbone, config: LoraConfig, train_layers: int | None) -> list[str]:
    """Return the full names, inside the Hugging Face model, of the linear layers that get an adapter.

    Raises:
        AdaptError: none has a target's name.
    """
    blocks = list(backbone.layers())
    inside = {id(m) for block in blocks[-(train_layers or len(blocks)) :] for m in block.modules()}
    linear = [
        name
        for name, module in backbone.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) in inside
    ]
    if config.targets == "auto":
        return linear
    known = {name.rpartition(".")[2] for name in linear}
    for target in config.targets:
        if target not in known:
            raise AdaptError(f"lora.targets: {unknown_name('linear layer', target, known)}")
    return [name for name in linear if name.rpartition(".")[2] in config.targets]
