"""A trained encoder as files that serving reads without torch, checked row by row before they are accepted."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from infra.errors import PolyrankError
from retrieval.encoder.backbone import Backbone, pool
from retrieval.encoder.batch import View
from retrieval.encoder.config import BackboneConfig, Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.heads import PairHead, RetrievalHead, RowHead, TagHead
from retrieval.encoder.layout import FORMAT, HEADS, ONNX, OUTPUT, STATES, Description
from retrieval.encoder.model import SIDE_OF, Features, MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.tokens import tokenize

log = structlog.get_logger(__name__)

# Rows of length 1 in float32 through six to twelve layers differ by a few 1e-7; ten times that is a fault.
VECTOR_TOLERANCE = 1e-5
LOGIT_TOLERANCE = 1e-3
TAG_TOLERANCE = 1e-4
GOLDEN: tuple[str, ...] = (
    "",
    "milk",
    "whole milk, 1 gallon",
    "四川辣椒酱 250g",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 4,
)


class ExportError(PolyrankError):
    """The exported files don't compute what the trained model does."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """How closely the exported encoder follows torch in float32.

    Attributes:
        rows: golden texts compared.
        vector_difference: largest absolute difference of a unit vector's entry.
        logit_difference: largest absolute difference of a head's logit.
        tag_difference: largest absolute difference of a tag's probability; 0 of an encoder without tags.
        bytes: of all files.
    """

    rows: int
    vector_difference: float
    logit_difference: float
    tag_difference: float
    bytes: int


def export(
    model: MultiTaskEncoder, config: BackboneConfig, folder: Path, *, golden: Sequence[str] = ()
) -> ExportReport:
    """Write the encoder's files and check them against torch.

    Args:
        model: trained.
        config: the backbone's, as trained with.
        folder: made when missing; gets `model.safetensors`, `config.json`, tokenizer files, `encoder.onnx`,
            `heads.safetensors` and `encoder.json`.
        golden: texts to compare on, besides a fixed few.

    Returns:
        The differences found.

    Raises:
        ExportError: a vector, logit or tag's probability differs by more than float32's rounding explains.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to("cpu").eval()
    backbone = model.backbone
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    graph = _WithTokens(backbone).eval() if _tag_tasks(model) else backbone
    _write_onnx(graph, backbone, folder / ONNX)
    _write_heads(model, folder / HEADS)
    Description(
        format=FORMAT,
        backbone=config.name,
        dim=backbone.dim,
        pad_id=backbone.pad_id,
        max_tokens=dict(config.max_tokens),
        prefixes=dict(config.prefixes),
        sides=dict(SIDE_OF),
        tasks=tuple(task.entry for task in model.tasks),
    ).write(folder)
    return verify(model, config, folder, golden=golden)


def verify(
    model: MultiTaskEncoder, config: BackboneConfig, folder: Path, *, golden: Sequence[str] = ()
) -> ExportReport:
    """Compare exported files with torch, as `export` does at its end.

    Args:
        model: on the CPU.
        config: the backbone's, as trained with.
        folder: written by `export`.
        golden: texts to compare on, besides a fixed few.

    Raises:
        ExportError: a vector, logit or tag's probability differs by more than float32's rounding explains.
    """
    report = _compare(model, config, folder, [*GOLDEN, *golden])
    log.info(
        "encoder_exported",
        rows=report.rows,
        vector_difference=report.vector_difference,
        logit_difference=report.logit_difference,
        tag_difference=report.tag_difference,
    )
    if report.vector_difference > VECTOR_TOLERANCE or report.logit_difference > LOGIT_TOLERANCE:
        raise ExportError(
            f"{folder}: expected vectors within {VECTOR_TOLERANCE} and logits within {LOGIT_TOLERANCE} of torch on "
            f"{report.rows} golden texts, found {report.vector_difference:.2e} and {report.logit_difference:.2e}"
        )
    if report.tag_difference > TAG_TOLERANCE:
        raise ExportError(
            f"{folder}: expected tags' probabilities within {TAG_TOLERANCE} of torch on {report.rows} golden texts, "
            f"found {report.tag_difference:.2e}"
        )
    return report


class _WithTokens(nn.Module):
    """A backbone that gives the token states it pools as well."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled states `[batch, dim]` and token states `[batch, length, dim]`."""
        states = self.backbone.states(ids, mask)
        return pool(states, mask, self.backbone.pooling), states


def _tag_tasks(model: MultiTaskEncoder) -> list[EncoderTask]:
    return [task for task in model.tasks if task.kind == "token_tags"]


def _write_onnx(graph: Backbone | _WithTokens, backbone: Backbone, path: Path) -> None:
    """Export ids and mask `[batch, length]` to a graph's states, both axes free, weights inside."""
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, backbone.pad_id]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    batch, length = (
        torch.export.Dim("batch", min=1, max=65536),
        torch.export.Dim("length", min=1, max=_longest(backbone)),
    )
    axes = {0: batch, 1: length}
    with warnings.catch_warnings():
        # Both come from torch's own exporter: a deprecated call inside it, and axes that share a name on purpose.
        warnings.filterwarnings("ignore", "`isinstance", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)
        program = _program(graph, ids, mask, axes)
    program.save(str(path), external_data=False)


def _program(
    graph: Backbone | _WithTokens, ids: Tensor, mask: Tensor, axes: dict[int, torch.export.Dim]
) -> torch.onnx.ONNXProgram:
    # It warns of each torchvision operator that is not installed; no text model has one.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    program = torch.onnx.export(
        graph,
        (ids, mask),
        input_names=["input_ids", "attention_mask"],
        output_names=[OUTPUT, STATES] if isinstance(graph, _WithTokens) else [OUTPUT],
        dynamic_shapes={"ids": axes, "mask": axes},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program


def _longest(backbone: Backbone) -> int:
    return int(getattr(backbone.model.config, "max_position_embeddings", 512))


def _write_heads(model: MultiTaskEncoder, path: Path) -> None:
    arrays: dict[str, Tensor] = {}
    for side, projection in model.projections.items():
        assert isinstance(projection, nn.Linear)
        arrays[f"projection/{side}"] = projection.weight.detach()
    for name, head in model.heads.items():
        assert isinstance(head, PairHead | RetrievalHead | RowHead | TagHead)
        arrays |= {f"head/{name}/{key}": value.detach() for key, value in head.arrays().items()}
    save_file({key: value.clone().contiguous() for key, value in arrays.items()}, path)


def _compare(model: MultiTaskEncoder, config: BackboneConfig, folder: Path, golden: Sequence[str]) -> ExportReport:
    """Embed and score the golden texts by torch and by the files."""
    encoder, heads = TextEncoder.load(folder), Heads.load(folder)
    kinds: tuple[Kind, ...] = ("user", "item", "text")
    table, positions = tokenize(model.backbone.tokenizer, dict.fromkeys(kinds, golden), config)
    vectors: dict[Kind, Tensor] = {}
    worst = 0.0
    with torch.no_grad():
        for kind in kinds:
            vectors[kind] = model.vectors(model.backbone(*table.padded(positions[kind])), kind)
            found = encoder.encode(golden, kind)
            worst = max(worst, float(np.abs(found - vectors[kind].numpy()).max()))
        logits = max((_logit_difference(model, heads, task, vectors) for task in model.tasks), default=0.0)
        tags = _tag_difference(model, encoder, table.padded(positions["text"]), golden)
    return ExportReport(
        rows=len(golden) * len(kinds),
        vector_difference=worst,
        logit_difference=logits,
        tag_difference=tags,
        bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
    )


def _logit_difference(
    model: MultiTaskEncoder, heads: Heads, task: EncoderTask, vectors: Mapping[Kind, Tensor]
) -> float:
    """Return the largest difference of one task's logits on the golden texts' vectors."""
    if task.kind == "token_tags":
        return 0.0
    users, items = vectors["text" if task.on == "text" else "user"], vectors["item"]
    views: dict[View, Tensor] = {"user": vectors["user"], "item_row": items, "text": vectors["text"], "item": items}
    expected = model.logits(task, Features(vectors=views), {})
    if task.on == "pair" or task.kind == "contrastive":
        scored = np.stack([heads.pair_logits(task.name, user, items.numpy()) for user in users.numpy()])
    else:
        scored = heads.row_logits(task.name, vectors[task.on].numpy())
    return float(np.abs(expected.numpy() - scored).max())


def _tag_difference(
    model: MultiTaskEncoder, encoder: TextEncoder, tokens: tuple[Tensor, Tensor], golden: Sequence[str]
) -> float:
    """Return the largest difference of a tag's probability on the golden texts, ids and mask `[n, length]`."""
    tasks = _tag_tasks(model)
    if not tasks:
        return 0.0
    states = model.backbone.states(*tokens)
    found = encoder.read(golden, [task.name for task in tasks])
    worst = 0.0
    for task in tasks:
        for row, own in enumerate(found.tags[task.name]):
            carries = own.units.carries
            expected = model.heads[task.name](states[row, torch.from_numpy(own.units.token[carries])]).softmax(1)
            apart = np.abs(expected.numpy() - own.probabilities[carries])
            worst = max(worst, float(apart.max(initial=0.0)))
    return worst
