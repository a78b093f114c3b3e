"""An exported encoder as a torch model again: serving needs none, gradients and attention weights do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor

from retrieval.encoder.adapt.start import start_backbone, start_from
from retrieval.encoder.backbone import Pooling, load_backbone, pool
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.export import GOLDEN
from retrieval.encoder.layout import HEADS, Description, EncoderFilesError
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.layout import RuntimeChoice
from retrieval.encoder.tokens import tokenize

# `export` held its files to 1e-5 where it ran; another machine's matrix products round otherwise.
TOLERANCE: Final = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedEncoder:
    """An exported encoder in torch, float32, on the CPU, without gradients of its weights.

    Attributes:
        model: in evaluation mode.
        config: lengths and prefixes of each kind of text.
    """

    model: MultiTaskEncoder
    config: BackboneConfig


def load_encoder(folder: Path) -> LoadedEncoder:
    """Load the folder that `export.export` wrote, whatever made it: adapters are merged, dropped layers are gone there.

    Args:
        folder: with the weights as safetensors, the heads, the tokenizer and `encoder.onnx`.

    Raises:
        EncoderFilesError: a file is missing or of another format, a head's arrays don't fit its task, or the weights
            compute other vectors than `encoder.onnx` does.
        BackboneError: the folder's transformer or tokenizer can't be loaded.
    """
    description = Description.read(folder)
    written = {"max_tokens": description.max_tokens, "prefixes": description.prefixes}
    config = start_backbone(BackboneConfig.model_validate(written), folder)
    tasks = tuple(map(EncoderTask.of, description.tasks))
    model = MultiTaskEncoder(load_backbone(config), tasks, _sizes(load_file(folder / HEADS)))
    taken = start_from(model, folder)
    if taken != tasks:
        lost = sorted({task.name for task in tasks} - {task.name for task in taken})
        raise EncoderFilesError(f"{folder / HEADS}: expected arrays that fit each task, found others for {lost}")
    model.backbone.pooling = _exported_pooling(model, config, folder)
    return LoadedEncoder(model=model.eval().requires_grad_(False), config=config)


def _sizes(arrays: Mapping[str, Tensor]) -> EncoderConfig:
    """Return a configuration whose heads have the shapes of these arrays: one rank, one width, as trained."""
    ranks = {len(value) for key, value in arrays.items() if key.endswith("/left")}
    widths = {len(value) for key, value in arrays.items() if key.endswith("/inner")}
    return EncoderConfig(rank=max(ranks, default=1), hidden=max(widths, default=0))


@torch.no_grad()
def _exported_pooling(model: MultiTaskEncoder, config: BackboneConfig, folder: Path) -> Pooling:
    """Return the pooling that the exported graph does: it stands in no file, so each is held against the graph.

    Raises:
        EncoderFilesError: none computes what the graph does.
    """
    expected = torch.from_numpy(TextEncoder.load(folder, choice=RuntimeChoice()).encode(GOLDEN, "text"))
    table, positions = tokenize(model.backbone.tokenizer, {"text": GOLDEN}, config)
    ids, mask = table.padded(positions["text"])
    states = model.backbone.states(ids, mask)
    apart: dict[Pooling, float] = {
        pooling: float((model.vectors(pool(states, mask, pooling), "text") - expected).abs().max())
        for pooling in get_args(Pooling)
    }
    best = min(apart, key=lambda pooling: apart[pooling])
    if apart[best] > TOLERANCE:
        raise EncoderFilesError(
            f"{folder}: expected weights whose vectors are within {TOLERANCE} of encoder.onnx on {len(GOLDEN)} golden "
            f"texts, found {apart[best]:.2e} with {best} pooling, which comes nearest"
        )
    return best
