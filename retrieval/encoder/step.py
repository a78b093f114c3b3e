"""One training step: texts to features, features to losses, losses to gradients, gradients to weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from retrieval.encoder.balance.step import Balance
from retrieval.encoder.batch import Batch, View
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.optimise import autocast
from retrieval.encoder.packed import Bool, TextStates
from retrieval.encoder.tokens import Int64


class TextSource(Protocol):
    """Where the states of texts come from: the transformer as it learns, or vectors computed before."""

    def states(self, texts: Int64, with_tokens: Bool) -> TextStates:
        """Return pooled states of token table positions, int64 `[n]`, and token states where bool `[n]` asks."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at a batch.

    Attributes:
        losses: scalars by task.
        features: tensors between the shared layers and the losses, none computed from another.
        states: of the batch's distinct texts, ascending by position.
    """

    losses: dict[str, Tensor]
    features: list[Tensor]
    states: TextStates


class Objective(Protocol):
    """How a batch becomes the losses that one step descends; `retrieval.encoder.adapt` has the unusual ways."""

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Look at a batch; a task without a label in it has no loss."""


class Penalty(Protocol):
    """What weights cost besides the losses."""

    def add_gradients(self) -> None:
        """Add to `.grad` of the weights that this step's losses reached; None stays None."""


def batch_features(model: MultiTaskEncoder, batch: Batch, source: TextSource) -> Features:
    """Return what the heads read of a batch; each distinct text is encoded once, whatever its views.

    Args:
        model: its projections are applied.
        batch: the texts.
        source: of their states.
    """
    return read_features(model, batch, batch_states(model, batch, source))


def batch_states(model: MultiTaskEncoder, batch: Batch, source: TextSource) -> TextStates:
    """Return the states of a batch's distinct texts, ascending by position, as `source` has them."""
    texts = batch.texts
    with autocast(next(model.parameters()).device):
        return source.states(texts, np.isin(texts, batch.tagged))


def read_features(model: MultiTaskEncoder, batch: Batch, states: TextStates, *, dropout: float = 0.0) -> Features:
    """Return what the heads read, given the states of the batch's texts.

    Args:
        model: its projections are applied.
        batch: the texts.
        states: of `batch.texts`.
        dropout: share of the pooled states' entries that are zeroed.
    """
    texts, pooled = batch.texts, states.pooled.float()
    if dropout:
        pooled = functional.dropout(pooled, dropout)
    places = {view: _places(texts, rows, pooled.device) for view, rows in batch.views.items() if len(rows)}
    own: dict[View, Tensor] = {view: pooled[place] for view, place in places.items()}
    return replace(
        model.features(own),
        tokens=None if states.tokens is None else states.tokens.float(),
        starts=states.starts[places["text"]] if states.starts is not None and "text" in places else None,
    )


def _places(texts: Int64, rows: Int64, device: torch.device) -> Tensor:
    return torch.from_numpy(np.searchsorted(texts, rows)).to(device)


def distinct(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return each tensor once, in order: token states are shared by features that differ in their vectors."""
    return list({id(tensor): tensor for tensor in tensors}.values())


class Plain:
    """The tasks' losses as they are.

    Args:
        model: what learns.
        dropout: on pooled vectors.
    """

    def __init__(self, model: MultiTaskEncoder, dropout: float = 0.0) -> None:
        self.model, self.dropout = model, dropout

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Encode, project, score."""
        states = batch_states(self.model, batch, source)
        features = read_features(self.model, batch, states, dropout=self.dropout)
        return Look(losses=self.model.losses(batch, features, tasks), features=features.tensors(), states=states)


@dataclass(frozen=True, kw_only=True)
class Descent:
    """From gradients to weights.

    Attributes:
        model: what learns.
        optimizer: of everything that learns; it passes over a parameter without a gradient.
        clip: limit of the gradient's norm.
        penalties: added to the gradients.
    """

    model: MultiTaskEncoder
    optimizer: Optimizer
    clip: float
    penalties: Sequence[Penalty] = ()

    def __call__(self, tasks: Sequence[EncoderTask]) -> None:
        """Let the weights follow their gradients; heads of other tasks than these stay where they are.

        A parent that has stopped is such a task: its child's loss goes through its head, and would move it from its
        best weights.
        """
        learning = {task.name for task in tasks}
        for name, own in self.model.own.items():
            if name not in learning:
                own.zero_grad(set_to_none=True)
        for penalty in self.penalties:
            penalty.add_gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()


class Stepper:
    """Steps of one phase.

    Args:
        model: what learns.
        balance: from losses to gradients.
        optimizer: of everything that learns.
        clip: limit of the gradient's norm.
        objective: from a batch to losses; None takes the plain one.
        penalties: added to the losses' gradients.
        lora: the only shared parameters that the balance looks at, where its level says so; projections then count to
            the heads.
        own: what the objective learns besides the model; it counts to the heads.
    """

    def __init__(
        self, model: MultiTaskEncoder, balance: Balance, optimizer: Optimizer, clip: float, *,
        objective: Objective | None = None, penalties: Sequence[Penalty] = (), lora: Sequence[nn.Parameter] = (),
        own: Sequence[nn.Parameter] = (),
    ) -> None:  # fmt: skip
        self.model, self.balance = model, balance
        self.descent = Descent(model=model, optimizer=optimizer, clip=clip, penalties=penalties)
        self.objective = objective or Plain(model)
        projections, heads = list(model.projections.parameters()), [*model.heads.parameters(), *own]
        self.shared: list[nn.Parameter] = list(lora) or [*model.backbone.parameters(), *projections]
        self.heads: list[nn.Parameter] = [*projections, *heads] if lora else heads

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> None:
        """Take one step on the losses of these tasks, which moves their heads alone; without a loss nothing changes."""
        look = self.objective(batch, source, tasks)
        if not look.losses:
            return
        self.descent.optimizer.zero_grad(set_to_none=True)
        self.balance.backward(look.losses, features=look.features, shared=self.shared, heads=self.heads)
        self.descent(tasks)
        if self.balance.needs_losses_after_step:
            with torch.no_grad():
                after = self.objective(batch, source, tasks).losses
            self.balance.observe(after)
