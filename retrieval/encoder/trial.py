"""One run of a study: train on some of the tasks, and measure each on rows that no run reads."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from features.units import OUTSIDE
from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.batch import Batch, PairLabels
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, losses_elsewhere
from retrieval.encoder.data import EncoderTask, Float32, TrainingData
from retrieval.encoder.labels.make import use_few_labels
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.prepare import Part, Placed, Prepared
from retrieval.encoder.state_store import Memory
from retrieval.encoder.step import batch_features
from retrieval.encoder.train import train
from retrieval.evaluate import auc

# Of the warm-up's size: on the demo's data as many user texts as the cut has users.
BATCHES: Final = 8
_SEED: Final = 12345

Metric = Literal["auc", "accuracy", "relative_loss"]


class Quality(BaseModel):
    """How well a task does on one part of the data.

    Attributes:
        metric: `auc` for a binary task, and for a contrastive one the mean over its positives of the share of the
            batch's other items that score lower; `accuracy` for classes and tags, else `relative_loss`: the squared
            error over that of a constant.
        value: of the metric.
        error: 1 - AUC, 1 - accuracy, or the relative loss: lower is better, whatever the metric.
        loss: over that of a constant fitted on training rows (of a contrastive task, over that of equal scores).
        f1: of tags, micro F1 over the units whose tag isn't O: of these, how many were found under their tag. None for
            other kinds, and where no unit has or gets such a tag. A unit that the encoder doesn't read isn't counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Metric
    value: float
    error: float
    loss: float
    f1: float | None = None


class Trial(BaseModel):
    """What one run gave.

    Attributes:
        tasks: that it trained, in order.
        validation: by task, on the rows that stopped training: what a search may choose by.
        test: by task, on the rows that no run reads: what a comparison shows; a task without a label there has none.
        steps: fine-tuning steps done.
        seconds: wall time of training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: tuple[str, ...]
    validation: dict[str, Quality]
    test: dict[str, Quality]
    steps: int
    seconds: float


def run_trial(
    data: TrainingData, config: EncoderConfig, names: Sequence[str], *, memory: Memory, progress: bool = True
) -> Trial:
    """Train the encoder on some of the tasks and measure them.

    What is asked for few labels is done first, as a release does it, and its time counts.

    Args:
        data: with a test part.
        config: of the run; its seed is the run's.
        names: of tasks; parents of theirs are trained too.
        memory: of the study.
        progress: show a bar where the terminal is one.

    Raises:
        InvalidInputError: no such task, or an entry of `few_labels` that the tasks contradict.
    """
    chosen = with_parents(data.tasks, names)
    began = time.perf_counter()
    with TemporaryDirectory(prefix="trial-") as folder:
        ready = use_few_labels(replace(data, tasks=chosen), config, Path(folder), progress=progress)
        result = train(ready.data, ready.config, out=Path(folder), progress=progress, memory=memory, trackers=())
    seconds = time.perf_counter() - began
    return Trial(
        tasks=tuple(task.name for task in chosen),
        validation=measure(result.prepared, data, config, "held_out"),
        test=measure(result.prepared, data, config, "test"),
        steps=result.steps,
        seconds=seconds,
    )


def with_parents(tasks: Sequence[EncoderTask], names: Sequence[str]) -> tuple[EncoderTask, ...]:
    """Return the named tasks, the parents and the tasks whose energy they read, in the order of `tasks`."""
    known = {task.name: task for task in tasks}
    wanted: set[str] = set()
    for name in names:
        if name not in known:
            raise InvalidInputError(f"tasks: {unknown_name('task', name, known)}")
        links = [name]
        while links:
            task = known[links.pop()]
            wanted.add(task.name)
            links += [*task.energy, *(() if task.parent is None else (task.parent,))]
    return tuple(task for task in tasks if task.name in wanted)


@torch.no_grad()
def measure(prepared: Prepared, data: TrainingData, config: EncoderConfig, part: Part) -> dict[str, Quality]:
    """Return the quality of each task of a model on large batches of a part.

    Args:
        prepared: the trained model and its texts.
        data: of the study: the batches are drawn for all of its tasks, so that every run is measured on the same ones.
            Those drawn for the run's own tasks would hold other negatives, easier ones for fewer tasks.
        config: sizes of the batches.
        part: whose rows.
    """
    model, placed = prepared.model.eval(), replace(prepared.placed, data=data)
    batches = _batches(placed, config, part)
    constants = _constants(model, placed, config, batches)
    losses: dict[str, list[float]] = defaultdict(list)
    scored: dict[str, list[tuple[Float32, Float32]]] = defaultdict(list)
    ranks: dict[str, list[float]] = defaultdict(list)
    for batch in batches:
        features = batch_features(model, batch, prepared.pooler)
        for name, loss in model.losses(batch, features).items():
            losses[name].append(float(loss) / max(constants[name], 1e-6))
        for task in model.tasks:
            if task.kind == "contrastive" and task.name in batch.pairs:
                ranks[task.name] += outranked(batch.pairs[task.name], model.logits(task, features, {}).cpu())
            found = _predictions(model, task, batch, features)
            if found is not None:
                scored[task.name].append(found)
    return {
        task.name: _quality(task, float(np.mean(losses[task.name])), scored[task.name], ranks[task.name])
        for task in model.tasks
        if task.name in losses
    }


def _constants(
    model: MultiTaskEncoder, placed: Placed, config: EncoderConfig, batches: Sequence[Batch]
) -> dict[str, float]:
    """Return what each task's constant, fitted on training batches, costs on these."""
    fitted = constant_losses(model.tasks, _batches(placed, config, "train"), logq=model.logq)
    return losses_elsewhere(model.tasks, fitted, batches, logq=model.logq)


def outranked(pairs: PairLabels, logits: Tensor) -> list[float]:
    """Return for each positive the share of its row's negatives that score lower, an equal one by half."""
    negative = ~(pairs.excluded | pairs.drawn)
    shares: list[float] = []
    for row, item in pairs.drawn.nonzero().tolist():
        others = logits[row, negative[row]]
        if len(others):
            own = logits[row, item]
            shares.append(float(((others < own).float() + 0.5 * (others == own).float()).mean()))
    return shares


def _batches(placed: Placed, config: EncoderConfig, part: Part) -> list[Batch]:
    batcher, rng = placed.batcher(config.warmup.batch, part), np.random.default_rng(_SEED)
    return [batcher(rng) for _ in range(BATCHES)]


def _predictions(
    model: MultiTaskEncoder, task: EncoderTask, batch: Batch, features: Features
) -> tuple[Float32, Float32] | None:
    """Return labels, and a binary task's scores or else classes, float32 `[n]` each; None for other kinds."""
    if task.kind == "token_tags":
        if task.name not in batch.tags or features.tokens is None:
            return None
        return _array(batch.tags[task.name].code), _array(model.tag_logits(task, batch, features).argmax(1))
    found = batch.labels(task.name)
    if found is None or task.kind not in ("binary", "multiclass"):
        return None
    logits = model.logits(task, features, {})
    logits = logits[found.present.to(logits.device)]
    return _array(found.label[found.present]), _array(logits if task.kind == "binary" else logits.argmax(1))


def _array(values: Tensor) -> Float32:
    array: Float32 = values.float().cpu().numpy()
    return array


def _quality(
    task: EncoderTask, loss: float, scored: Sequence[tuple[Float32, Float32]], ranks: Sequence[float]
) -> Quality:
    if ranks:
        area = float(np.mean(ranks))
        return Quality(metric="auc", value=area, error=1 - area, loss=loss)
    if scored:
        truth, found = (np.concatenate(parts) for parts in zip(*scored, strict=True))
        if task.kind != "binary":
            accuracy = float((truth == found).mean())
            f1 = micro_f1(truth, found, task.classes) if task.kind == "token_tags" else None
            return Quality(metric="accuracy", value=accuracy, error=1 - accuracy, loss=loss, f1=f1)
        if 0 < truth.sum() < len(truth):
            area = auc(truth > 0, found)
            return Quality(metric="auc", value=area, error=1 - area, loss=loss)
    return Quality(metric="relative_loss", value=loss, error=loss, loss=loss)


def micro_f1(truth: Float32, found: Float32, classes: Sequence[str]) -> float | None:
    """Return 2 hits / (units tagged + units found), the tag O left out on either side; None where there are none.

    Args:
        truth: float32 `[units]` codes.
        found: float32 `[units]` codes.
        classes: names by code; without O among them it is the accuracy.
    """
    outside = classes.index(OUTSIDE) if OUTSIDE in classes else -1
    tagged, given = truth != outside, found != outside
    total = int(tagged.sum()) + int(given.sum())
    return 2 * int((tagged & (truth == found)).sum()) / total if total else None
