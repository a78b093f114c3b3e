"""The encoder step: joint training, export, and the curves that the report draws."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from flows.report import Curve, TrainingRun
from flows.stages.relatedness import encoder_relatedness, write_relatedness
from infra.files import write_atomic
from infra.settings import TrackerName
from retrieval.encoder.config import BackboneConfig, EncoderConfig, Kind
from retrieval.encoder.data import TrainingData
from retrieval.encoder.export import ExportReport, export
from retrieval.encoder.labels.checks import check_few_labels
from retrieval.encoder.labels.make import FewLabels, use_few_labels
from retrieval.encoder.pretrain.pretrain import pretrain
from retrieval.encoder.record import offsets
from retrieval.encoder.ship.shrink import shrink
from retrieval.encoder.ship.write import write_runtime
from retrieval.encoder.tracking import require_installed
from retrieval.encoder.train import TrainResult, refit, train

TRAINING_RUN: Final = "training.json"
FEW_LABELS: Final = "few_labels.json"
_GOLDEN: Final = 16


def train_encoder(
    data: TrainingData,
    config: EncoderConfig,
    out: Path,
    *,
    replay: TrainingData | None = None,
    trackers: Sequence[TrackerName] = ("tensorboard",),
    run: str = "encoder",
) -> None:
    """Pretrain, use few labels, refit and shrink where asked; train, export, and write what reports show.

    Args:
        data: texts and labels.
        config: the encoder's.
        out: the step's folder.
        replay: data of old, where `config.keep` asks for it.
        trackers: where the run's figures go besides the log; the packages are looked for before anything is trained.
        run: what it is called there.

    Raises:
        InvalidInputError: options that the tasks contradict.
    """
    require_installed(trackers)
    check_few_labels(config, data.tasks)
    with TemporaryDirectory(prefix="backbone-") as scratch:
        began = time.perf_counter()
        placed = config.model_copy(update={"backbone": _pretrained(data, config, Path(scratch) / "pretrained")})
        pretrained = time.perf_counter()
        ready = use_few_labels(data, placed, Path(scratch), replay=replay)
        seconds = {"pretrain": pretrained - began, "few_labels": time.perf_counter() - pretrained}
        result = train(ready.data, ready.config, out=out, replay=replay, trackers=trackers, run=run)
        phases = result.seconds
        if config.refit:
            own = f"{run}-refit"
            result = refit(result, ready.data, out=out / "refit", replay=replay, trackers=trackers, run=own)
            phases = phases | {"refit": sum(result.seconds.values())}
        if config.relatedness is not None:
            write_relatedness(out, encoder_relatedness(ready.data, result, config.relatedness))
    asked = {name for name, option in (("pretrain", config.pretrain), ("few_labels", config.few_labels)) if option}
    found = curves(result)
    if config.few_labels:
        found = found.model_copy(update={"few_labels": ready.report})
        write_atomic(out / FEW_LABELS, _given(ready))
    report = _export(result, data, config, out)
    content = {
        "run": found.model_dump(mode="json"),
        "seconds": phases | {name: took for name, took in seconds.items() if name in asked},
        "steps": result.steps,
        "baselines": result.baselines,
        "weights": result.weights,
        "export": {"vector_difference": report.vector_difference, "logit_difference": report.logit_difference},
    }
    write_atomic(out / TRAINING_RUN, json.dumps(content, indent=1).encode())


def _export(result: TrainResult, data: TrainingData, config: EncoderConfig, out: Path) -> ExportReport:
    """Write the encoder's files, smaller where asked, and compare them with the model on some texts of each kind."""
    texts = texts_by_kind(data)
    golden = [text for own in texts.values() for text in own[:_GOLDEN]]
    if config.ship is None:
        return export(result.model, config.backbone, out, golden=golden)
    small, _ = shrink(result.model, texts, config.backbone, config.ship, held_out=result.held_out)
    report = export(small, config.backbone, out, golden=golden)
    write_runtime(out, config.ship, golden=golden)
    return report


def _given(ready: FewLabels) -> bytes:
    """Return as JSON every text that was given a label, and how safe those are."""
    labels = [given.model_dump(mode="json") for given in ready.given]
    return json.dumps({"report": ready.report.model_dump(mode="json"), "labels": labels}, indent=1).encode()


def _pretrained(data: TrainingData, config: EncoderConfig, folder: Path) -> BackboneConfig:
    """Return the backbone to train: the configured one, or that one after it has read the items' and free texts."""
    if config.pretrain is None:
        return config.backbone
    result = pretrain(config.backbone, [*data.item_texts, *data.texts.texts, *data.unlabelled], config.pretrain, folder)
    return config.backbone.model_copy(update={"name": result.backbone.name, "sha256": result.backbone.sha256})


def texts_by_kind(data: TrainingData) -> dict[Kind, list[str]]:
    """Return every text at hand by kind: what a smaller encoder is cut and taught by."""
    users = [text for cut in data.cuts for text in cut.user_texts]
    return {"item": list(data.item_texts), "user": users, "text": list(data.texts.texts)}


def curves(result: TrainResult) -> TrainingRun:
    """Return each task's validation loss over its constant predictor's by step; phases follow each other."""
    before = offsets(result.config.warmup.steps, result.config.steps)
    steps = [entry.step + before[entry.phase] for entry in result.history]
    names = sorted({name for entry in result.history for name in entry.losses})
    rows = [
        Curve(
            name=name,
            steps=tuple(step for step, entry in zip(steps, result.history, strict=True) if name in entry.losses),
            losses=tuple(entry.losses[name] for entry in result.history if name in entry.losses),
        )
        for name in names
    ]
    best = result.best.step + before[result.best.phase]
    mean = Curve(name="mean", steps=tuple(steps), losses=tuple(entry.mean for entry in result.history))
    return TrainingRun(curves=(mean, *rows), best_step=best, measure="validation loss / constant predictor's")


def read_training_run(encoder: Path) -> TrainingRun | None:
    """Return the curves of an encoder's folder; None when it has none."""
    path = encoder / TRAINING_RUN
    if not path.exists():
        return None
    return TrainingRun.model_validate(json.loads(path.read_bytes())["run"])
