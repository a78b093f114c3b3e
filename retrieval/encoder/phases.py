"""The phases of one training run.

Projections and heads learn on frozen vectors, and then with the transformer's top layers. While vectors move, what a
head loses may be another task's doing: so after either, heads learn alone, each until its own held-out loss falls no
longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import structlog
import torch

from retrieval.encoder.adapt.limits import balance_with_limits
from retrieval.encoder.adapt.make import Adaptation, training_batches
from retrieval.encoder.adapt.unfreeze import Unfreezing
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, evidence, losses_elsewhere, start_heads
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.ends import ByValidation, Ends, heads_alone
from retrieval.encoder.held_out import HeldOut
from retrieval.encoder.labels.class_names import start_class_names
from retrieval.encoder.optimise import autocast, warmup_cosine
from retrieval.encoder.packed import FrozenTexts, TextStates
from retrieval.encoder.prepare import prepare
from retrieval.encoder.record import Bar, Record
from retrieval.encoder.state_store import Memory, PooledStates
from retrieval.encoder.tokens import Int64
from retrieval.encoder.tracking import Tracking

log = structlog.get_logger(__name__)

# Held-out positives at which a task has half its say in early stopping: the loss of a rare label is mostly noise, and
# letting coupon response (about 10 positives) vote alike stopped the other tasks after a sixth of their steps.
EVIDENCE = 100.0


class Training:
    """One run's state.

    Args:
        data: texts and labels.
        config: of the run.
        replay: data of old, where it is read.
        tracking: where the run's figures go.
        bar: shows how far it is.
        memory: of a study.

    Attributes:
        seconds: wall time of each phase so far.
        steps: fine-tuning steps done.
    """

    def __init__(
        self, data: TrainingData, config: EncoderConfig, replay: TrainingData | None, tracking: Tracking, bar: Bar,
        memory: Memory | None,
    ) -> None:  # fmt: skip
        self.data, self.replay, self.config, self.tracking, self.bar = data, replay, config, tracking, bar
        self.rng = np.random.default_rng(config.seed)
        self.seconds: dict[str, float] = {}
        self.steps = 0
        began = time.perf_counter()
        self._prepare(memory)
        self.seconds["prepare"] = time.perf_counter() - began

    def run(self, ends: Ends, steps: Mapping[str, int]) -> None:
        """Train.

        Args:
            ends: says when.
            steps: planned by phase; with 0 it is left out.
        """
        self.ends = ends
        frozen = self.prepared.shared.pooled_states(self.model.backbone.dim)
        # No state that was known before is of these layers.
        tuned = PooledStates(len(self.pooler.table.lengths), self.model.backbone.dim)
        phases: dict[str, Callable[[], None]] = {
            "warmup": partial(self._on_frozen, "warmup", frozen),
            "warmup_heads": partial(self._on_frozen, "warmup_heads", frozen),
            "finetune": self._fine_tune,
            "finetune_heads": partial(self._on_frozen, "finetune_heads", tuned),
        }
        if not any(steps.values()):
            ends.begin("finetune", self.pooler)
        for name, phase in phases.items():
            if steps[name]:
                began = time.perf_counter()
                phase()
                self.seconds[name] = time.perf_counter() - began
        ends.choose()
        self.adaptation.finish()

    @property
    def planned(self) -> dict[str, int]:
        """The steps of each phase as configured.

        Heads learn alone where there are others than contrastive ones, and none reads tokens, of which the vectors that
        are known tell nothing.
        """
        warmup, finetune = self.config.warmup.steps, self.config.steps
        kinds = {task.kind for task in self.data.tasks}
        alone = self.config.warmup.alone if kinds - {"contrastive"} and "token_tags" not in kinds else 0
        return {
            "warmup": warmup,
            "warmup_heads": alone if warmup else 0,
            "finetune": finetune,
            "finetune_heads": alone if finetune else 0,
        }

    def by_validation(self) -> ByValidation:
        """Return what ends the run by its held-out batches."""
        adaptation, held_out, model = self.adaptation, self.held_out, self.model
        return ByValidation(
            model, self.config, self.record,
            lambda source: held_out.losses(model, source, adaptation.held_out_limits()), self.balance.weights,
        )  # fmt: skip

    def _prepare(self, memory: Memory | None) -> None:
        """Load and tokenise, draw the validation batches, measure constant predictors and start heads from them."""
        config, tasks = self.config, self.data.tasks
        self.prepared = prepare(self.data, config, replay=self.replay, memory=memory)
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
        # Not what `contrastive` adds: that is for their gradients, and would have retrieval alone decide.
        importance = config.balance.weights
        self.record = Record(
            self.tracking,
            {name: importance.get(name, 1.0) * n / (n + EVIDENCE) for name, n in evidence(tasks, held_out).items()},
        )

    def _on_frozen(self, phase: str, kept: PooledStates) -> None:
        """Train heads, and projections where they learn too, on vectors of every text that a batch can hold.

        Args:
            phase: all but `finetune`.
            kept: the vectors that are known.
        """
        self.model.projections.requires_grad_(not heads_alone(phase))
        warmup = self.config.warmup
        batcher = self.prepared.batcher(warmup.batch, newest=warmup.cuts)
        batches = training_batches(batcher, self.prepared, self.config, newest=warmup.cuts)
        texts = np.unique(np.concatenate([batches.reachable, *(held.texts for held in self.held_out.batches)]))
        frozen = self._embed(texts, kept)
        step_on = self.adaptation.stepper(
            self.balance, warmup.learning_rate, layers=False, draw=lambda: batches(self.rng)
        )
        steps = self.planned[phase]
        schedule = warmup_cosine(step_on.descent.optimizer, steps, self.config.lr_warmup)
        self.ends.begin(phase, frozen)
        for step in self.bar.track("encoder: heads", range(1, steps + 1)):
            step_on(batches(self.rng), frozen, self._learning)
            schedule.step()
            if self.ends.over(phase, step, frozen):
                break
        self.ends.close(phase, frozen)
        self.model.projections.requires_grad_(True)

    @property
    def _learning(self) -> list[EncoderTask]:
        """The tasks that have not stopped."""
        return [task for task in self.data.tasks if task.name not in self.ends.stopped]

    def _embed(self, texts: Int64, kept: PooledStates) -> FrozenTexts:
        """Embed these texts once, without gradients."""
        began = time.perf_counter()
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
        if self.planned["finetune_heads"]:
            self.ends.set_aside()
        elif any(task.kind == "token_tags" for task in self.data.tasks):
            # Heads on tokens begin only now, so the warm-up's mean is no measure for what follows.
            self.ends.forget()
        self.ends.begin("finetune", self.pooler)
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
            if self.ends.over("finetune", step, self.pooler):
                break
        self.ends.close("finetune", self.pooler)

    def _open(self, unfreezing: Unfreezing, step: int) -> None:
        """Let the layers that are due learn; what they were until now belongs to the best weights so far."""
        fresh = unfreezing.at(step)
        if fresh:
            self.ends.had({f"backbone.{name}": weight for name, weight in fresh.items()})
            self.prepared = self.prepared.with_layers(unfreezing.open, self.config.cache_mb)
            self.pooler = self.prepared.pooler
