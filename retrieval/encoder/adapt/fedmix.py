"""FedMix over the parties of a batch's rows (Yoon et al., 2021): mixup without any party's rows but one's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.adapt.config import FedmixConfig
from retrieval.encoder.adapt.excerpts import VIEW_OF, row_view
from retrieval.encoder.adapt.group_columns import require_groups
from retrieval.encoder.balance.fedmix import average_groups, fedmix
from retrieval.encoder.batch import Batch, RowLabels
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.layout import TaskKind
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import Look, TextSource, batch_states, read_features


class FedMixed:
    """Losses of rows that are mixed with other parties' averages; what is mixed is a vector's direction, as in `Mixup`.

    For each task, a party publishes means of `rows` of its labelled rows in the batch, drawn anew every step: their
    vectors, their labels, and whose they are. No text, vector or label of one row leaves it, and a party with fewer
    rows publishes nothing. Rows of no party, those for which no other party published, and tasks on pairs, on tokens
    or on other rows have their plain loss.

    This is the federation's learning rule inside one process, and no protection: the process reads every party's rows,
    the encoder learns from all of them at once, and one who listens for many steps could solve means for their rows,
    which the paper prevents by publishing once.

    Args:
        model: what learns.
        dropout: on pooled vectors.
        config: parties and ratio.
        generator: of groups and partners, on the CPU.
    """

    def __init__(
        self, model: MultiTaskEncoder, dropout: float, config: FedmixConfig, generator: torch.Generator
    ) -> None:
        self.model, self.dropout, self.config, self.generator = model, dropout, config, generator

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Encode, project, score; then score the parties' rows anew."""
        states = batch_states(self.model, batch, source)
        features = read_features(self.model, batch, states, dropout=self.dropout)
        losses = self.model.losses(batch, features, tasks)
        party = self.config.party
        parties = batch.groups.get(VIEW_OF[party.on], {}).get(party.column)
        for task in tasks:
            if parties is not None and task.name in losses and mixes(task, self.config):
                losses[task.name] = self._mixed(task, batch.rows[task.name], features, parties)
        return Look(losses=losses, features=features.tensors(), states=states)

    def _mixed(self, task: EncoderTask, rows: RowLabels, features: Features, parties: Tensor) -> Tensor:
        """Return the mean loss over a task's labelled rows, whose parties are int64 `[rows of the view]`."""
        view = row_view(task)
        present = rows.present.to(features.vectors[view].device)
        vectors, own = features.vectors[view][present], parties.to(present.device)[present]
        label = rows.label.to(present.device)[present]
        labels = functional.one_hot(label.long(), len(task.classes)).float() if task.kind == "multiclass" else label

        def loss(mixed: Tensor, soft: Tensor) -> Tensor:
            unit = functional.normalize(mixed, dim=1)
            return row_losses(task.kind, self.model.logits(task, Features(vectors={view: unit}), {}), soft)

        # A look after the step may be without gradients, which the expansion needs within.
        with torch.enable_grad():
            averages = average_groups(vectors, labels, own, rows=self.config.rows, generator=self.generator)
            return fedmix(
                loss, vectors, labels, own, averages=averages, ratio=self.config.ratio, generator=self.generator
            ).mean()


def check_parties(config: FedmixConfig, data: TrainingData) -> None:
    """Refuse data without parties, or without a task whose rows are mixed.

    Raises:
        AdaptError: as said.
    """
    require_groups(config.party, data, [task for task in data.tasks if mixes(task, config)], "fedmix.party")


def mixes(task: EncoderTask, config: FedmixConfig) -> bool:
    """Tell whether a task's rows are mixed: one label each, on what the parties divide."""
    return task.on == config.party.on and task.kind in ("binary", "multiclass", "regression")


def row_losses(kind: TaskKind, logits: Tensor, labels: Tensor) -> Tensor:
    """Return each row's loss, `[n]`, by a label that may be the mean of several.

    Args:
        kind: `binary`, `multiclass` or `regression`.
        logits: `[n]`, `[n, classes]` of classes.
        labels: float, same shape: probabilities, or numbers.
    """
    if kind == "multiclass":
        return functional.cross_entropy(logits, labels, reduction="none")
    if kind == "regression":
        return functional.mse_loss(logits, labels, reduction="none")
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
