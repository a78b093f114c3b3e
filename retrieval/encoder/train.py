"""Joint training of all tasks: heads on frozen vectors first, then the transformer's top layers with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch

from infra.settings import TrackerName
from retrieval.encoder.adapt.limits import balance_with_limits
from retrieval.encoder.adapt.make import Adaptation, replay_data, training_batches
from retrieval.encoder.adapt.unfreeze import Unfreezing
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, evidence, losses_elsewhere, start_heads
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.held_out import HeldOut
from retrieval.encoder.labels.class_names import start_class_names
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.optimise import autocast, deterministic, warmup_cosine
from retrieval.encoder.packed import FrozenTexts, TextStates
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.record import Bar, Best, Record, TaskStops, Validation
from retrieval.encoder.state_store import Memory
from retrieval.encoder.step import TextSource
from retrieval.encoder.tokens import Int64
from retrieval.encoder.tracking import Tracking, flattened, open_trackers

log = structlog.get_logger(__name__)

# Held-out positives at which a task has half its say in early stopping: the loss of a rare label is mostly noise, and
# letting coupon response (about 10 positives) vote alike stopped the other tasks after a sixth of their steps.
EVIDENCE = 100.0


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
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    with deterministic(), open_trackers(trackers, folder=out, run=run) as tracking, Bar(shown=progress) as bar:
        tracking.parameters(flattened(config))
        return _Training(data, replay_data(data.tasks, replay, config.keep), config, tracking, bar, memory).run()


class _Training:
    """One run's state."""

    def __init__(
        self, data: TrainingData, replay: TrainingData | None, config: EncoderConfig, tracking: Tracking, bar: Bar,
        memory: Memory | None,
    ) -> None:  # fmt: skip
        self.data, self.replay, self.config, self.tracking, self.bar = data, replay, config, tracking, bar
        self.memory = memory
        self.rng = np.random.default_rng(config.seed)
        self.best = Best()
        self.stops = TaskStops(config.task_patience)
        self.steps = 0

    def run(self) -> TrainResult:
        """Run every phase."""
        seconds: dict[str, float] = {}
        phases: list[tuple[str, Callable[[], None]]] = [("prepare", self._prepare)]
        if self.config.warmup.steps:
            phases.append(("warmup", self._warm_up))
        if self.config.steps:
            phases.append(("finetune", self._fine_tune))
        for name, phase in phases:
            began = time.perf_counter()
            phase()
            seconds[name] = time.perf_counter() - began
        self.best.restore(self.model)
        self.adaptation.finish()
        self.held_out.calibrate(self.model, self.pooler)
        assert self.best.validation is not None
        self.record.finish(self.best.validation, self.steps, seconds)
        return TrainResult(
            model=self.model.eval(),
            config=self.config,
            baselines=self.baselines,
            weights=self.balance.weights(),
            history=self.record.history,
            best=self.best.validation,
            seconds=seconds,
            steps=self.steps,
            prepared=self.prepared,
            held_out=self.held_out,
        )

    def _prepare(self) -> None:
        """Load and tokenise, draw the validation batches, measure constant predictors and start heads from them."""
        config, tasks = self.config, self.data.tasks
        self.prepared = prepare(self.data, config, replay=self.replay, memory=self.memory)
        self.model, self.pooler = self.prepared.model, self.prepared.pooler
        fixed = np.random.default_rng(0)
        held_out_batch = self.prepared.batcher(config.warmup.batch, "held_out")
        held_out = [held_out_batch(fixed) for _ in range(config.validation_batches)]
        batcher = self.prepared.batcher(config.batch)
        self.batches = training_batches(batcher, self.prepared, config)
        sample = [batcher(fixed) for _ in range(config.baseline_batches)]
        constants = constant_losses(tasks, sample, logq=self.model.logq)
        self.baselines = start_heads(self.model, constants)
        self.held_out = HeldOut(
            held_out, self.pooler.table, losses_elsewhere(tasks, constants, held_out, logq=self.model.logq)
        )
        self.adaptation = Adaptation(self.prepared, config, self.baselines)
        start_class_names(self.model, config, self.adaptation.kept)
        self.balance = balance_with_limits(config, tasks, self.baselines, evidence(tasks, sample))
        importance = config.balance.for_tasks({task.name: task.kind for task in tasks}).weights
        self.record = Record(
            self.tracking,
            {name: importance.get(name, 1.0) * n / (n + EVIDENCE) for name, n in evidence(tasks, held_out).items()},
            offset=config.warmup.steps,
        )
        if not config.warmup.steps:
            self._validate("finetune", 0, self.pooler)

    def _warm_up(self) -> None:
        """Train projections and heads on frozen vectors of every text that a batch can hold."""
        warmup = self.config.warmup
        batcher = self.prepared.batcher(warmup.batch, newest=warmup.cuts)
        batches = training_batches(batcher, self.prepared, self.config, newest=warmup.cuts)
        frozen = self._embed(
            np.unique(np.concatenate([batches.reachable, *(held.texts for held in self.held_out.batches)]))
        )
        step_on = self.adaptation.stepper(
            self.balance, warmup.learning_rate, layers=False, draw=lambda: batches(self.rng)
        )
        schedule = warmup_cosine(step_on.descent.optimizer, warmup.steps, self.config.lr_warmup)
        self._validate("warmup", 0, frozen)
        for step in self.bar.track("encoder: heads", range(1, warmup.steps + 1)):
            step_on(batches(self.rng), frozen, self._learning)
            schedule.step()
            if step % warmup.validate_every == 0 or step == warmup.steps:
                self._validate("warmup", step, frozen)
                if self.stops.over:
                    break
        self.best.restore(self.model)
        self.stops.restart()

    @property
    def _learning(self) -> list[EncoderTask]:
        """The tasks that have not stopped."""
        return [task for task in self.data.tasks if task.name not in self.stops.stopped]

    def _embed(self, texts: Int64) -> FrozenTexts:
        """Embed these texts once, without gradients."""
        began = time.perf_counter()
        kept = self.prepared.shared.pooled_states(self.model.backbone.dim)
        lacking = kept.lacking(texts)
        parts = np.array_split(lacking, max(1, len(lacking) // 512)) if len(lacking) else []
        with torch.no_grad(), autocast(self.prepared.device):
            for part in self.bar.track("encoder: frozen texts", parts):
                kept.keep(part, self.pooler(part))
        log.info("frozen_texts_embedded", texts=len(lacking), seconds=round(time.perf_counter() - began, 1))
        pooled = kept.read(texts).to(self.prepared.device)
        return FrozenTexts(texts, TextStates(pooled=pooled), len(self.pooler.table.lengths))

    def _fine_tune(self) -> None:
        """Train the top layers, projections and heads together, until the steps, the patience or the tasks end."""
        config = self.config
        if any(task.kind == "token_tags" for task in self.data.tasks) and config.warmup.steps:
            # Heads on tokens begin only now, so the warm-up's mean is no measure for what follows.
            self.best = Best()
            self._validate("finetune", 0, self.pooler)
        step_on = self.adaptation.stepper(
            self.balance, config.head_learning_rate, layers=True, draw=lambda: self.batches(self.rng)
        )
        schedule = warmup_cosine(step_on.descent.optimizer, config.steps, config.lr_warmup)
        unfreezing = self.adaptation.unfreezing()
        for step in self.bar.track("encoder: fine-tuning", range(1, config.steps + 1)):
            if unfreezing is not None:
                self._open(unfreezing, step)
            step_on(self.batches(self.rng), self.pooler, self._learning)
            schedule.step()
            self.steps = step
            if step % config.validate_every == 0 or step == config.steps:
                self._validate("finetune", step, self.pooler)
                if self.best.misses >= config.patience or self.stops.over:
                    break

    def _open(self, unfreezing: Unfreezing, step: int) -> None:
        """Let the layers that are due learn; what they were until now belongs to the best weights so far."""
        fresh = unfreezing.at(step)
        if fresh:
            self.best.weights |= {f"backbone.{name}": weight for name, weight in fresh.items()}
            self.prepared = self.prepared.with_layers(unfreezing.open, self.config.cache_mb)
            self.pooler = self.prepared.pooler

    def _validate(self, phase: str, step: int, source: TextSource) -> None:
        """Measure the held-out batches, log, and keep the weights if they are the best so far."""
        losses = self.held_out.losses(self.model, source, self.adaptation.held_out_limits())
        validation = self.record.add(phase, step, losses, self.balance.weights())
        self.stops.update(validation, self.model.own)
        self.best.offer(validation, self.model)
