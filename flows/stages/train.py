"""The encoder step: joint training, export, and the curves that the report draws."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from flows.report import Curve, TrainingRun
from flows.stages.relatedness import encoder_relatedness, write_relatedness
from infra.files import write_atomic
from retrieval.encoder.config import BackboneConfig, EncoderConfig, Kind
from retrieval.encoder.data import TrainingData
from retrieval.encoder.export import export
from retrieval.encoder.pretrain.pretrain import pretrain
from retrieval.encoder.ship.shrink import shrink
from retrieval.encoder.ship.write import write_runtime
from retrieval.encoder.train import TrainResult, train

TRAINING_RUN: Final = "training.json"
_GOLDEN: Final = 16


def train_encoder(data: TrainingData, config: EncoderConfig, out: Path) -> None:
    """Pretrain where asked, train, cut down where asked, export into `out`, and write what the report shows of it."""
    began = time.perf_counter()
    with TemporaryDirectory(prefix="pretrained-") as scratch:
        backbone = _pretrained(data, config, Path(scratch) / "backbone")
        prepared_s = time.perf_counter() - began
        result = train(data, config.model_copy(update={"backbone": backbone}), out=out)
        if config.relatedness is not None:
            write_relatedness(out, encoder_relatedness(data, result, config.relatedness))
    texts = _texts(data)
    golden = [text for own in texts.values() for text in own[:_GOLDEN]]
    if config.ship is None:
        report = export(result.model, config.backbone, out, golden=golden)
    else:
        small, _ = shrink(result.model, texts, config.backbone, config.ship)
        report = export(small, config.backbone, out, golden=golden)
        write_runtime(out, config.ship, golden=golden)
    run = curves(result)
    content = {
        "run": run.model_dump(mode="json"),
        "seconds": result.seconds | ({"pretrain": prepared_s} if config.pretrain else {}),
        "steps": result.steps,
        "baselines": result.baselines,
        "weights": result.weights,
        "export": {"vector_difference": report.vector_difference, "logit_difference": report.logit_difference},
    }
    write_atomic(out / TRAINING_RUN, json.dumps(content, indent=1).encode())


def _pretrained(data: TrainingData, config: EncoderConfig, folder: Path) -> BackboneConfig:
    """Return the backbone to train: the configured one, or that one after it has read the items' and free texts."""
    if config.pretrain is None:
        return config.backbone
    result = pretrain(config.backbone, [*data.item_texts, *data.texts.texts], config.pretrain, folder)
    return config.backbone.model_copy(update={"name": result.backbone.name, "sha256": result.backbone.sha256})


def _texts(data: TrainingData) -> dict[Kind, list[str]]:
    users = [text for cut in data.cuts for text in cut.user_texts]
    return {"item": list(data.item_texts), "user": users, "text": list(data.texts.texts)}


def curves(result: TrainResult) -> TrainingRun:
    """Return each task's validation loss over its constant predictor's by step; fine-tuning follows the warm-up."""
    offset = result.config.warmup.steps
    steps = [entry.step + (offset if entry.phase == "finetune" else 0) for entry in result.history]
    names = sorted({name for entry in result.history for name in entry.losses})
    rows = [
        Curve(
            name=name,
            steps=tuple(step for step, entry in zip(steps, result.history, strict=True) if name in entry.losses),
            losses=tuple(entry.losses[name] for entry in result.history if name in entry.losses),
        )
        for name in names
    ]
    best = result.best.step + (offset if result.best.phase == "finetune" else 0)
    mean = Curve(name="mean", steps=tuple(steps), losses=tuple(entry.mean for entry in result.history))
    return TrainingRun(curves=(mean, *rows), best_step=best, measure="validation loss / constant predictor's")


def read_training_run(encoder: Path) -> TrainingRun | None:
    """Return the curves of an encoder's folder; None when it has none."""
    path = encoder / TRAINING_RUN
    if not path.exists():
        return None
    return TrainingRun.model_validate(json.loads(path.read_bytes())["run"])
