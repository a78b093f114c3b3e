"""How the trained encoder's tasks relate: labels that meet, gradients that help, and what the workspace declares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from infra.files import write_atomic
from retrieval.encoder.adapt.config import KeepConfig
from retrieval.encoder.batch import Batch
from retrieval.encoder.constants import constant_losses
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.relatedness.affinity import measure_affinity
from retrieval.encoder.relatedness.config import RelatednessConfig
from retrieval.encoder.relatedness.cooccurrence import Cooccurrence
from retrieval.encoder.relatedness.matrix import Affinity, Float64
from retrieval.encoder.relatedness.report import RelatednessReport
from retrieval.encoder.relatedness.study import study
from retrieval.encoder.step import read_features
from retrieval.encoder.train import TrainResult

RELATEDNESS: Final = "relatedness.json"
_LABEL_BATCHES: Final = 8


def encoder_relatedness(data: TrainingData, result: TrainResult, config: RelatednessConfig) -> RelatednessReport:
    """Study the tasks on training batches, with the weights that training kept.

    Args:
        data: what was trained on.
        result: the trained model; it stays as it is.
        config: priors, measurement and choice of groups.
    """
    plain = {"lora": None, "unfreeze": None, "start": None, "keep": KeepConfig()}
    prepared = prepare(data, result.config.model_copy(update=plain))
    prepared.model.load_state_dict(result.model.state_dict())
    batcher, rng = prepared.batcher(result.config.batch), np.random.default_rng(result.config.seed)
    batches = [batcher(rng) for _ in range(max(_LABEL_BATCHES, config.affinity.batches))]
    names = tuple(task.name for task in data.tasks)
    labels = shared_labels(data.tasks, batches)
    return study(
        names,
        config,
        cooccurrence=Cooccurrence(tasks=names, labels=labels, min_rows=config.cooccurrence.min_rows),
        affinity=_affinity(prepared, batches[: config.affinity.batches], config) if config.affinity.batches else None,
    )


def _affinity(prepared: Prepared, batches: Sequence[Batch], config: RelatednessConfig) -> Affinity:
    """Measure on batches, in float32: autocast would lose a step this small."""
    model, pooler = prepared.model, prepared.pooler
    constants = constant_losses(model.tasks, batches, logq=model.logq)

    def losses(batch: Batch) -> dict[str, Tensor]:
        states = pooler.states(batch.texts, np.isin(batch.texts, batch.tagged))
        found = model.losses(batch, read_features(model, batch, states))
        return {name: loss / max(constants[name][0], 1e-6) for name, loss in found.items()}

    shared = [*model.backbone.parameters(), *model.projections.parameters()]
    return measure_affinity(
        model, shared, losses, batches, tasks=[task.name for task in model.tasks], rate=config.affinity.rate
    )


def shared_labels(tasks: Sequence[EncoderTask], batches: Sequence[Batch]) -> Float64:
    """Return binary labels on pairs and on rows of the batches, float64 `[n, tasks]`, NaN where a row carries none."""
    blocks = [np.empty((0, len(tasks)))]
    for batch in batches:
        for on in ("pair", "user", "item", "text"):
            own = {column: task for column, task in enumerate(tasks) if task.on == on and task.kind == "binary"}
            columns = {column: _labels(task, batch) for column, task in own.items()}
            present = {column: labels for column, labels in columns.items() if labels is not None}
            if present:
                block = np.full((len(next(iter(present.values()))), len(tasks)), np.nan)
                for column, labels in present.items():
                    block[:, column] = labels
                blocks.append(block)
    return np.concatenate(blocks)


def _labels(task: EncoderTask, batch: Batch) -> Float64 | None:
    """Return a task's labels on all pairs or rows of its view, flat, NaN for none; None where the batch has none."""
    held = batch.labels(task.name)
    if held is None:
        return None
    found: Float64 = np.where(held.present.numpy(), held.label.numpy(), np.nan).astype(np.float64).reshape(-1)
    return found


def write_relatedness(folder: Path, report: RelatednessReport) -> None:
    """Write the report as `relatedness.json`."""
    write_atomic(folder / RELATEDNESS, report.model_dump_json(indent=1).encode())


def read_relatedness(encoder: Path) -> RelatednessReport | None:
    """Return what `write_relatedness` left in an encoder's folder; None where it was not asked for."""
    path = encoder / RELATEDNESS
    return RelatednessReport.model_validate_json(path.read_bytes()) if path.exists() else None
