"""Joint training of all tasks: `train` by held-out rows, `refit` on those rows too; `phases` says in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from infra.settings import TrackerName
from retrieval.encoder.adapt.make import replay_data
from retrieval.encoder.calibrate import Calibration, calibrate
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.ends import AsBefore, Ending
from retrieval.encoder.held_out import HeldOut
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.optimise import deterministic
from retrieval.encoder.phases import Training
from retrieval.encoder.prepare import Prepared
from retrieval.encoder.record import Bar, Validation
from retrieval.encoder.state_store import Memory
from retrieval.encoder.tracking import Tracking, flattened, open_trackers


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What training gave.

    Attributes:
        model: the best weights by validation, in evaluation mode.
        config: as trained with.
        baselines: by task, the loss of its best constant prediction on training batches.
        weights: by task, and by limit, the balancer's multiplier of its raw loss at the end.
        history: validations in order.
        best: the one whose weights were kept.
        ending: when each phase had its best weights.
        calibrations: what was done to the heads in the end, by task.
        seconds: wall time of each phase.
        steps: fine-tuning steps done.
        prepared: the data, placed, and the model with its pooler: what a study measures on.
        held_out: the batches that it was validated and calibrated on.
    """

    model: MultiTaskEncoder
    config: EncoderConfig
    baselines: dict[str, float]
    weights: dict[str, float]
    history: list[Validation]
    best: Validation
    ending: Ending
    calibrations: Mapping[str, Calibration]
    seconds: dict[str, float]
    steps: int
    prepared: Prepared
    held_out: HeldOut


def train(
    data: TrainingData,
    config: EncoderConfig,
    *,
    out: Path,
    progress: bool = True,
    replay: TrainingData | None = None,
    memory: Memory | None = None,
    trackers: Sequence[TrackerName] = ("tensorboard",),
    run: str = "encoder",
) -> TrainResult:
    """Train the encoder.

    The same data and configuration (its seed is part of it) give the same weights on the same machine and number of
    threads: the budget is a count of steps, never a time.

    Args:
        data: texts and labels.
        config: backbone, sizes, rates.
        out: folder for the TensorBoard log (`tensorboard/`); made when missing.
        progress: show a bar where the terminal is one; log lines are written in any case.
        replay: data that `config.start` was trained on, or some of it; read where `config.keep` asks for it.
        memory: of a study whose runs share their texts; None computes everything anew.
        trackers: where the run's figures go besides the log; see `tracking`.
        run: what it is called there.

    Returns:
        The model with the weights that were best on the validation cut, and its history; `export.export` writes it.

    Raises:
        BackboneError: no such backbone.
        AdaptError: an option that the backbone, the start or the data contradicts.
        EncoderFilesError: no encoder to start from.
        TrackerNotInstalledError: a tracker's package is missing.
    """
    replayed = replay_data(data.tasks, replay, config.keep)
    with _surroundings(config, out, trackers, run, shown=progress) as (tracking, bar):
        training = Training(data, config, replayed, tracking, bar, memory)
        ends = training.by_validation()
        training.run(ends, training.planned)
        calibrations = training.held_out.calibrate(training.model, training.pooler)
        training.record.finish(ends.validation, training.steps, training.seconds)
        return TrainResult(
            model=training.model.eval(),
            config=config,
            baselines=training.baselines,
            weights=training.balance.weights(),
            history=training.record.history,
            best=ends.validation,
            ending=ends.ending,
            calibrations=calibrations,
            seconds=training.seconds,
            steps=training.steps,
            prepared=training.prepared,
            held_out=training.held_out,
        )


def refit(
    first: TrainResult,
    data: TrainingData,
    *,
    out: Path,
    progress: bool = True,
    replay: TrainingData | None = None,
    memory: Memory | None = None,
    trackers: Sequence[TrackerName] = ("tensorboard",),
    run: str = "encoder",
) -> TrainResult:
    """Train once more, on the held-out rows as well.

    Each phase and task learns for as long as it took the first run to its best weights, and heads are calibrated as
    that run's were: no row is left to measure either on. So validations and what follows from them are the first run's.

    Args:
        first: a run on `data`.
        data: as it had.
        out: as `train` takes it, as the rest.
        progress: show a bar.
        replay: data of old.
        memory: of both runs.
        trackers: where the run's figures go.
        run: what it is called there.
    """
    config = first.config
    replayed = replay_data(data.tasks, replay, config.keep)
    with _surroundings(config, out, trackers, run, shown=progress) as (tracking, bar):
        training = Training(data.with_held_out(), config, replayed, tracking, bar, memory)
        training.run(AsBefore(first.ending, training.model.searching), first.ending.steps)
        calibrate(training.model, first.calibrations)
        training.record.finish(first.best, training.steps, training.seconds)
        return replace(
            first,
            model=training.model.eval(),
            weights=training.balance.weights(),
            seconds=training.seconds,
            steps=training.steps,
            prepared=training.prepared,
        )


@contextmanager
def _surroundings(
    config: EncoderConfig, out: Path, trackers: Sequence[TrackerName], run: str, *, shown: bool
) -> Iterator[tuple[Tracking, Bar]]:
    """Set threads and seed, and open what a run tells of itself to."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    with deterministic(), open_trackers(trackers, folder=out, run=run) as tracking, Bar(shown=shown) as bar:
        tracking.parameters(flattened(config))
        yield tracking, bar
