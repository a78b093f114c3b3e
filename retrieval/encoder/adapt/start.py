"""Another encoder as a starting point: its backbone, projections, and the heads of equal tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import structlog
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.heads import PairHead, RetrievalHead, RowHead, TagHead
from retrieval.encoder.layout import HEADS, WEIGHTS, Description, EncoderFilesError
from retrieval.encoder.model import MultiTaskEncoder

log = structlog.get_logger(__name__)


def start_backbone(config: BackboneConfig, folder: Path) -> BackboneConfig:
    """Return the configuration that loads an exported encoder's backbone.

    Raises:
        EncoderFilesError: the folder holds no exported encoder, or lacks its weights as safetensors.
    """
    Description.read(folder)
    for name in (WEIGHTS, HEADS):
        if not (folder / name).is_file():
            raise EncoderFilesError(f"{folder}: expected {name}, found no such file")
    return config.model_copy(update={"name": str(folder), "sha256": None})


def start_from(model: MultiTaskEncoder, folder: Path) -> tuple[EncoderTask, ...]:
    """Load an exported encoder's projections and heads into a model with its backbone.

    A head is taken where a task has the name, kind, rows, classes, parent and unit of one there, and its arrays have
    the same shapes; the others stay new.

    Args:
        model: changed in place.
        folder: checked by `start_backbone`.

    Returns:
        The tasks whose heads were taken.
    """
    arrays = load_file(folder / HEADS)
    entries = {entry.name: entry for entry in Description.read(folder).tasks}
    for side, projection in model.projections.items():
        assert isinstance(projection, nn.Linear)
        _copy(projection.weight, arrays[f"projection/{side}"])
    taken: list[EncoderTask] = []
    for task in model.tasks:
        head = model.heads[task.name]
        assert isinstance(head, PairHead | RetrievalHead | RowHead | TagHead)
        prefix = f"head/{task.name}/"
        own = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        alike = {key: value.shape for key, value in head.arrays().items()} == {k: v.shape for k, v in own.items()}
        if alike and entries.get(task.name) == task.entry:
            set_arrays(head, own)
            taken.append(task)
    names = [task.name for task in taken]
    new = [task.name for task in model.tasks if task.name not in names]
    log.info("encoder_started", folder=str(folder), heads=len(taken), new=len(new), taken=names, new_heads=new)
    return tuple(taken)


@torch.no_grad()
def set_arrays(head: PairHead | RetrievalHead | RowHead | TagHead, arrays: Mapping[str, Tensor]) -> None:
    """Set a head's weights so that its `arrays()` are these; its output scale stays as it is."""
    if isinstance(head, RetrievalHead):
        _copy(head.log_scale, arrays["scale"].log().reshape(()))
    elif isinstance(head, PairHead):
        root = math.sqrt(head.left.shape[1])
        _copy(head.right, arrays["right"] / root)
        for name, parameter in (("left", head.left), ("user", head.user), ("item", head.item)):
            _copy(parameter, arrays[name] / (root * head.scale.cpu()))
        _copy(head.bias, arrays["bias"] / head.scale.cpu())
    elif isinstance(head, TagHead):
        _copy(head.outer.weight, arrays["outer"])
        _copy(head.outer.bias, arrays["bias"])
    else:
        head.set_arrays(arrays)


def _copy(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)
