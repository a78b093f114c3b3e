"""From the configuration to a run's steps and batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.encoder.adapt.batch_sources import BatchSource, Replayed, Varied
from retrieval.encoder.adapt.config import KeepConfig
from retrieval.encoder.adapt.depth import Rated, layer_rates
from retrieval.encoder.adapt.distil import Distilled, Remembered
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.fedmix import FedMixed, check_parties
from retrieval.encoder.adapt.fgm import Adversarial
from retrieval.encoder.adapt.gaps import GroupGap, check_rows, make_gaps
from retrieval.encoder.adapt.limits import HeldOutLimits, Limited
from retrieval.encoder.adapt.lora import Lora, LoraDropout
from retrieval.encoder.adapt.meta import MetaStepper, check_domains
from retrieval.encoder.adapt.mixup import Mixup
from retrieval.encoder.adapt.penalties import L1, ElasticWeights, anchors
from retrieval.encoder.adapt.rdrop import RDrop
from retrieval.encoder.adapt.residual import Explained, make_residual
from retrieval.encoder.adapt.start import start_from
from retrieval.encoder.adapt.unfreeze import Unfreezing
from retrieval.encoder.balance.residual import CrossTaskResidual
from retrieval.encoder.balance.step import Balance
from retrieval.encoder.batch import Batch
from retrieval.encoder.batches import Batcher
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.optimise import make_optimizer
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.prepare import Prepared
from retrieval.encoder.step import Descent, Objective, Penalty, Plain, Stepper, batch_features


class Adaptation:
    """The options of one run; made once its heads stand at their constants, and before anything learns.

    Args:
        prepared: data and model; with a start, its heads are loaded into the model.
        config: which options.
        baselines: losses of constant predictors by task.

    Attributes:
        kept: tasks whose heads came from the start.
        lora: adapters in the backbone, or None.
        penalties: of the weights, in every phase.

    Raises:
        AdaptError: an option that the backbone, the start or the data contradicts.
    """

    def __init__(self, prepared: Prepared, config: EncoderConfig, baselines: Mapping[str, float]) -> None:
        self.config, self.model, self.baselines = config, prepared.model, baselines
        if config.fedmix is not None:
            check_parties(config.fedmix, prepared.placed.data)
        if config.meta is not None:
            check_domains(config.meta, prepared.placed.data)
        self.kept = start_from(self.model, config.start) if config.start is not None else ()
        keep = config.keep
        if (keep.kl or keep.ewc) and not self.kept:
            raise AdaptError(f"keep: expected a task that {config.start} has as well, found none")
        self._old = _Old(prepared) if keep.kl else None
        adapters = config.lora if config.steps else None
        self.lora = Lora(self.model.backbone, adapters, config.train_layers) if adapters is not None else None
        self.residual = self._maps(prepared) if config.residual is not None else None
        self._gaps = self._limits(prepared)
        self.penalties: list[Penalty] = []
        if config.l1:
            self.penalties.append(L1(self.model.parameters(), config.l1))
        if keep.ewc:
            self.penalties.append(self._elastic(prepared))

    def stepper(
        self, balance: Balance, head_rate: float, *, layers: bool, draw: Callable[[], Batch]
    ) -> Stepper | MetaStepper:
        """Return what takes the steps of a phase: of projections, heads and balance, and of the layers that learn.

        Args:
            balance: of the tasks.
            head_rate: learning rate of all but the layers.
            layers: whether the transformer runs and learns in this phase.
            draw: another batch, for steps that look at several.
        """
        config, model = self.config, self.model
        maps = [] if self.residual is None else list(self.residual.parameters())
        heads = [*model.projections.parameters(), *model.heads.parameters(), *balance.parameters(), *maps]
        groups: list[Rated] = [(heads, head_rate)]
        if layers:
            groups += layer_rates(model.backbone, config.learning_rate, config.layer_decay)
        optimizer = make_optimizer(
            groups, weight_decay=config.weight_decay, method=config.optimizer, momentum=config.momentum
        )
        objective = self._objective(layers=layers)
        if config.meta is not None:
            descent = Descent(model=model, optimizer=optimizer, clip=config.clip, penalties=self.penalties)
            return MetaStepper(balance.scales, descent, config.meta, objective=objective, draw=draw, tokens=layers)
        adapters = self.lora.parameters() if self.lora is not None and config.balance.level == "lora" else []
        return Stepper(
            model,
            balance,
            optimizer,
            config.clip,
            objective=objective,
            penalties=self.penalties,
            lora=adapters,
            own=maps,
        )

    def unfreezing(self) -> Unfreezing | None:
        """Close all layers that learn but the top one, if they shall open one by one; None if not."""
        config = self.config.unfreeze
        return None if config is None else Unfreezing(self.model.backbone, config.every)

    def held_out_limits(self) -> HeldOutLimits:
        """Return what holds one validation's rows against the limits."""
        gaps = [gap.fresh(moving=False) for gap in self._gaps]
        return HeldOutLimits(self.model, gaps, self.baselines, self.config.balance.lagrangian.ceiling)

    def finish(self) -> None:
        """Leave an ordinary model behind."""
        if self.lora is not None:
            self.lora.merge()

    def _objective(self, *, layers: bool) -> Objective:
        """Return how batches become losses, in a phase in which the transformer learns or in one before."""
        config, model = self.config, self.model
        objective: Objective = Plain(model, config.dropout)
        if config.rdrop:
            objective = RDrop(model, config.dropout, config.rdrop)
        elif config.augment.mixup:
            rng = np.random.default_rng([config.seed, 3])
            objective = Mixup(model, config.dropout, config.augment.mixup, rng)
        elif config.fedmix is not None:
            seed = int(np.random.default_rng([config.seed, 7]).integers(2**63))
            objective = FedMixed(model, config.dropout, config.fedmix, torch.Generator().manual_seed(seed))
        if layers and self.lora is not None and self.lora.dropout:
            objective = LoraDropout(objective, self.lora)
        if layers and config.fgm:
            embedding = model.backbone.model.get_input_embeddings().weight
            assert isinstance(embedding, nn.Parameter)
            objective = Adversarial(objective, embedding, config.fgm, self.baselines)
        if self.residual is not None and config.residual is not None:
            objective = Explained(objective, model, self.residual, config.residual.weight, self.baselines)
        if self._old is not None:
            old = self._old
            objective = Distilled(objective, model, old.model, old.texts, tasks=self.kept, weight=config.keep.kl)
        if self._gaps:
            objective = Limited(objective, model, [gap.fresh(moving=True) for gap in self._gaps])
        return objective

    def _maps(self, prepared: Prepared) -> CrossTaskResidual:
        """Return new maps between tasks, their labels' means measured on training batches."""
        assert self.config.residual is not None
        batcher, rng = prepared.batcher(self.config.batch), np.random.default_rng([self.config.seed, 5])
        batches = [batcher(rng) for _ in range(self.config.baseline_batches)]
        return make_residual(self.model.tasks, batches, self.config.residual).to(prepared.device)

    def _limits(self, prepared: Prepared) -> list[GroupGap]:
        """Return what measures each limit's gap, if batches hold enough rows of its groups."""
        config, gaps = self.config, make_gaps(self.config.limits, prepared.placed.data)
        if gaps:
            sizes, rng = config.batch if config.steps else config.warmup.batch, np.random.default_rng([config.seed, 8])
            batcher, held_out = prepared.batcher(sizes), prepared.batcher(config.warmup.batch, "held_out")
            check_rows(
                gaps,
                [batcher(rng) for _ in range(config.baseline_batches)],
                [held_out(rng) for _ in range(config.validation_batches)],
            )
        return gaps

    def _elastic(self, prepared: Prepared) -> ElasticWeights:
        """Anchor what the kept tasks read, by their losses on replay batches."""
        assert prepared.replay is not None
        batcher, rng = prepared.replay.batcher(self.config.batch), np.random.default_rng([self.config.seed, 4])
        batches = [batcher(rng) for _ in range(self.config.keep.fisher_batches)]
        model = self.model
        parameters = [*model.backbone.parameters(), *model.projections.parameters()]
        for task in self.kept:
            parameters += list(model.heads[task.name].parameters())
        return ElasticWeights(anchors(parameters, self._old_losses(prepared, batches)), self.config.keep.ewc)

    def _old_losses(self, prepared: Prepared, batches: Sequence[Batch]) -> Iterator[dict[str, Tensor]]:
        """Yield the kept tasks' losses on each batch, over their constant predictors'."""
        constants = constant_losses(self.kept, batches, logq=self.model.logq)
        for batch in batches:
            losses = self.model.losses(batch, batch_features(self.model, batch, prepared.pooler), self.kept)
            yield {name: loss / max(constants[name][0], 1e-6) for name, loss in losses.items()}


class _Old:
    """The model as it stands, frozen."""

    def __init__(self, prepared: Prepared) -> None:
        self.model = copy.deepcopy(prepared.model).requires_grad_(False)
        table, backbone = prepared.pooler.table, self.model.backbone
        # Pooled states are remembered below, so that the pooler need not keep any of its own.
        pooler = TextPooler(backbone, table, train_layers=0, cache_mb=0)
        self.texts = Remembered(pooler, len(table.lengths), backbone.dim)


def training_batches(
    batcher: Batcher, prepared: Prepared, config: EncoderConfig, *, newest: int | None = None
) -> BatchSource:
    """Return what draws training batches: in other forms where there are any, some from the replay data.

    Args:
        batcher: of the data.
        prepared: other forms and replay data.
        config: the shares of both.
        newest: cuts of the replay data that users are drawn from; None takes all.
    """
    batches: BatchSource = batcher
    if prepared.alternatives is not None:
        batches = Varied(batches, prepared.alternatives, config.augment.share)
    if prepared.replay is not None and config.keep.replay:
        batches = Replayed(batches, prepared.replay.batcher(batcher.config, newest=newest), config.keep.replay)
    return batches


def replay_data(tasks: Sequence[EncoderTask], replay: TrainingData | None, config: KeepConfig) -> TrainingData | None:
    """Return the replay data's part that the model has heads for; None where nothing reads it.

    Args:
        tasks: the model's heads.
        replay: data of old.
        config: what reads it.

    Raises:
        AdaptError: it is asked for and there is none, or none of its tasks is one of the model's.
    """
    if not (config.replay or config.ewc):
        return None
    if replay is None:
        raise AdaptError("keep: expected replay data for replay or ewc, found none")
    known = [replace(task, space="all") for task in tasks]
    shared = tuple(task for task in replay.tasks if replace(task, space="all") in known)
    if not shared:
        expected, found = ", ".join(task.name for task in tasks), ", ".join(task.name for task in replay.tasks)
        raise AdaptError(f"keep: expected replay data with a task equal to the model's ({expected}), found {found}")
    return replace(replay, tasks=shared)
