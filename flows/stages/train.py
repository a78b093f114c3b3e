"""The encoder step: joint training, export, and the curves that the report draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from flows.report import Curve, TrainingRun
from infra.files import write_atomic
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.export import export
from retrieval.encoder.train import TrainResult, train

TRAINING_RUN: Final = "training.json"
_GOLDEN: Final = 16


def train_encoder(data: TrainingData, config: EncoderConfig, out: Path) -> None:
    """Train, export into `out`, and write the validation curves as `training.json`."""
    result = train(data, config, out=out)
    golden = [*data.item_texts[:_GOLDEN], *data.validation.user_texts[:_GOLDEN]]
    report = export(result.model, config.backbone, out, golden=golden)
    run = curves(result)
    content = {
        "run": run.model_dump(mode="json"),
        "seconds": result.seconds,
        "steps": result.steps,
        "baselines": result.baselines,
        "export": {"vector_difference": report.vector_difference, "logit_difference": report.logit_difference},
    }
    write_atomic(out / TRAINING_RUN, json.dumps(content, indent=1).encode())


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
