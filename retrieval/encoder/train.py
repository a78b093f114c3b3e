"""Joint training of all tasks: heads on frozen vectors first, then the transformer's top layers with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from retrieval.encoder.backbone import load_backbone, set_trainable
from retrieval.encoder.balance import Balancer, balancer
from retrieval.encoder.batches import Batch, Batcher
from retrieval.encoder.config import BatchConfig, EncoderConfig, Kind
from retrieval.encoder.data import CutData, TrainingData
from retrieval.encoder.losses import constant_losses, positives
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.optimise import autocast, deterministic, make_optimizer, warmup_cosine
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.record import Bar, Best, Record, TaskStops, Validation
from retrieval.encoder.tokens import Int64, tokenize

log = structlog.get_logger(__name__)

Pooled = Callable[[Int64], Tensor]

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
        weights: by task, the balancer's multiplier of its raw loss at the end.
        history: validations in order.
        best: the one whose weights were kept.
        seconds: wall time of each phase.
        steps: fine-tuning steps done.
    """

    model: MultiTaskEncoder
    config: EncoderConfig
    baselines: dict[str, float]
    weights: dict[str, float]
    history: list[Validation]
    best: Validation
    seconds: dict[str, float]
    steps: int


def train(data: TrainingData, config: EncoderConfig, *, out: Path, progress: bool = True) -> TrainResult:
    """Train the encoder.

    The same data and configuration (its seed is part of it) give the same weights on the same machine and number of
    threads: the budget is a count of steps, never a time.

    Args:
        data: texts and labels.
        config: backbone, sizes, rates.
        out: folder for the TensorBoard log (`tensorboard/`); made when missing.
        progress: show a bar where the terminal is one; log lines are written in any case.

    Returns:
        The model with the weights that were best on the validation cut, and its history; `export.export` writes it.

    Raises:
        BackboneError: no such backbone.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    out.mkdir(parents=True, exist_ok=True)
    with deterministic(), SummaryWriter(str(out / "tensorboard")) as writer, Bar(shown=progress) as bar:
        return _Training(data, config, writer, bar).run()


class _Training:
    """One run's state."""

    def __init__(self, data: TrainingData, config: EncoderConfig, writer: SummaryWriter, bar: Bar) -> None:
        self.data, self.config, self.writer, self.bar = data, config, writer, bar
        self.cuts: tuple[CutData, ...] = (*data.train, data.validation)
        self.rng = np.random.default_rng(config.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
        assert self.best.validation is not None
        rounded = {name: round(value, 1) for name, value in seconds.items()}
        log.info("encoder_trained", steps=self.steps, loss=round(self.best.validation.mean, 4), seconds=rounded)
        return TrainResult(
            model=self.model.eval(),
            config=self.config,
            baselines=self.baselines,
            weights=self.balancer.weights(),
            history=self.record.history,
            best=self.best.validation,
            seconds=seconds,
            steps=self.steps,
        )

    def _prepare(self) -> None:
        """Load, tokenise, draw the validation batches, measure constant predictors and start heads from them."""
        config = self.config
        backbone = load_backbone(config.backbone)
        texts: dict[Kind, list[str]] = {
            "item": list(self.data.item_texts),
            "user": [text for cut in self.cuts for text in cut.user_texts],
        }
        table, positions = tokenize(backbone.tokenizer, texts, config.backbone)
        self.item_texts = positions["item"]
        ends = np.cumsum([len(cut.users) for cut in self.cuts])[:-1]
        self.user_texts: list[Int64] = np.split(positions["user"], ends)
        train_layers = config.train_layers if config.steps else 0
        set_trainable(backbone, train_layers)
        self.model = MultiTaskEncoder(backbone, self.data.tasks, config).to(self.device)
        self.pooler = TextPooler(backbone, table, train_layers=train_layers, cache_mb=config.cache_mb)
        fixed = np.random.default_rng(0)
        held_out = self._batcher(config.batch, slice(-1, None))
        self.held_out = [held_out(fixed) for _ in range(config.validation_batches)]
        self.batches = self._batcher(config.batch, slice(0, -1))
        sample = [self.batches(fixed) for _ in range(config.baseline_batches)]
        constants = constant_losses(self.data.tasks, sample, logq=config.logq)
        self.baselines = {name: loss for name, (loss, _) in constants.items()}
        for name, (_, logit) in constants.items():
            self.model.set_constant(name, logit)
        self.balancer: Balancer = balancer(config.balance, self.baselines)
        evidence = positives(self.data.tasks, self.held_out)
        self.record = Record(
            self.writer,
            {name: config.balance.weights.get(name, 1.0) * n / (n + EVIDENCE) for name, n in evidence.items()},
        )
        if not config.warmup.steps:
            self._validate("finetune", 0, self.pooler)

    def _batcher(self, config: BatchConfig, cuts: slice) -> Batcher:
        return Batcher(
            self.data.tasks,
            self.cuts[cuts],
            user_texts=self.user_texts[cuts],
            item_texts=self.item_texts,
            popularity=self.data.popularity,
            config=config,
        )

    def _warm_up(self) -> None:
        """Train projections and heads on frozen vectors of every text that a batch can hold."""
        warmup, cuts = self.config.warmup, len(self.data.train)
        batches = self._batcher(warmup.batch, slice(max(0, cuts - (warmup.cuts or cuts)), -1))
        reachable = self.item_texts[batches.reachable]
        held = [np.concatenate([batch.user_texts, batch.item_texts]) for batch in self.held_out]
        frozen = self._embed(np.unique(np.concatenate([reachable, batches.user_texts, *held])))
        optimizer = self._optimizer(warmup.learning_rate, layers=False)
        schedule = warmup_cosine(optimizer, warmup.steps, self.config.lr_warmup)
        self._validate("warmup", 0, frozen)
        for step in self.bar.track("encoder: heads", range(1, warmup.steps + 1)):
            self._step(batches(self.rng), frozen, optimizer)
            schedule.step()
            if step % warmup.validate_every == 0 or step == warmup.steps:
                self._validate("warmup", step, frozen)
        self.best.restore(self.model)
        self.stops.restart()

    def _embed(self, texts: Int64) -> Pooled:
        """Embed these texts once, without gradients, and return a look-up of their pooled states."""
        began = time.perf_counter()
        place = np.full(len(self.pooler.table.lengths), -1, np.int64)
        place[texts] = np.arange(len(texts))
        parts = np.array_split(texts, max(1, len(texts) // 512))
        with torch.no_grad(), autocast(self.device):
            vectors = torch.cat([self.pooler(part).float() for part in self.bar.track("encoder: frozen texts", parts)])
        log.info("frozen_texts_embedded", texts=len(texts), seconds=round(time.perf_counter() - began, 1))
        return lambda wanted: vectors[torch.from_numpy(place[wanted]).to(self.device)]

    def _fine_tune(self) -> None:
        """Train the top layers, projections and heads together, until the steps or the patience end."""
        config = self.config
        optimizer = self._optimizer(config.head_learning_rate, layers=True)
        schedule = warmup_cosine(optimizer, config.steps, config.lr_warmup)
        for step in self.bar.track("encoder: fine-tuning", range(1, config.steps + 1)):
            self._step(self.batches(self.rng), self.pooler, optimizer)
            schedule.step()
            self.steps = step
            if step % config.validate_every == 0 or step == config.steps:
                self._validate("finetune", step, self.pooler)
                if self.best.misses >= config.patience:
                    break

    def _optimizer(self, head_rate: float, *, layers: bool) -> torch.optim.AdamW:
        """Return an optimiser of projections, heads and balancer, and of the trainable layers if asked."""
        heads = [*self.model.projections.parameters(), *self.model.heads.parameters(), *self.balancer.parameters()]
        groups: list[tuple[list[nn.Parameter], float]] = [(heads, head_rate)]
        if layers:
            groups.append((list(self.model.backbone.parameters()), self.config.learning_rate))
        return make_optimizer(groups, weight_decay=self.config.weight_decay)

    def _step(self, batch: Batch, pooled: Pooled, optimizer: torch.optim.AdamW) -> None:
        with autocast(self.device):
            both = pooled(np.concatenate([batch.user_texts, batch.item_texts])).float()
        users, items = both[: len(batch.user_texts)], both[len(batch.user_texts) :]
        losses = {n: loss for n, loss in self.model.losses(batch, users, items).items() if n not in self.stops.stopped}
        if not losses:
            return
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.balancer(losses))
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        optimizer.step()

    @torch.no_grad()
    def _validate(self, phase: str, step: int, pooled: Pooled) -> None:
        """Measure the held-out batches, log, and keep the weights if they are the best so far."""
        totals: dict[str, list[float]] = {}
        texts = np.unique(
            np.concatenate([part for batch in self.held_out for part in (batch.user_texts, batch.item_texts)])
        )
        with autocast(self.device):
            vectors = pooled(texts).float()
        for batch in self.held_out:
            users, items = (vectors[np.searchsorted(texts, part)] for part in (batch.user_texts, batch.item_texts))
            for name, loss in self.model.losses(batch, users, items).items():
                totals.setdefault(name, []).append(float(loss) / max(self.baselines[name], 1e-6))
        losses = {name: sum(values) / len(values) for name, values in totals.items()}
        overall = step + (self.config.warmup.steps if phase == "finetune" else 0)
        validation = self.record.add(phase, step, losses, overall_step=overall)
        self.stops.update(validation, self.model.heads)
        self.best.offer(validation, self.model)
