"""Learning without forgetting: new predictions stay near a frozen model's on the same texts (Li and Hoiem, 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from retrieval.encoder.adapt.divergence import divergence, predict
from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.packed import Bool, TextStates
from retrieval.encoder.step import Look, Objective, TextSource, batch_features, distinct, read_features
from retrieval.encoder.tokens import Int64


class Distilled:
    """Adds weight * KL(old || new) to each kept task's loss, over all rows of a batch, with labels or without.

    A kept task without a label in the batch, or that has stopped, has this term for its whole loss.

    Args:
        inner: what looks at a batch.
        model: what learns.
        old: the frozen model; its heads have the same names.
        texts: states by its backbone.
        tasks: those kept.
        weight: of the term.
    """

    def __init__(
        self, inner: Objective, model: MultiTaskEncoder, old: MultiTaskEncoder, texts: TextSource, *,
        tasks: Sequence[EncoderTask], weight: float,
    ) -> None:  # fmt: skip
        self.inner, self.model, self.old, self.texts = inner, model, old, texts
        self.tasks, self.weight = tasks, weight

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Look at a batch, and at what the old model makes of it; both without dropout on pooled vectors."""
        look = self.inner(batch, source, tasks)
        if look.states.tokens is None:
            batch = replace(batch, tags={})
        features = read_features(self.model, batch, look.states)
        with torch.no_grad():
            before = batch_features(self.old, batch, self.texts)
        losses = dict(look.losses)
        for task in self.tasks:
            old, own = predict(self.old, task, batch, before), predict(self.model, task, batch, features)
            if old is not None and own is not None:
                term = self.weight * divergence(task.kind, old.logits.detach(), own.logits).mean()
                losses[task.name] = losses[task.name] + term if task.name in losses else term
        return Look(losses=losses, features=distinct([*look.features, *features.tensors()]), states=look.states)


class Remembered:
    """A frozen model's pooled states, each text's computed once.

    Args:
        source: of the states.
        size: texts of the token table.
        dim: of the states.
    """

    def __init__(self, source: TextSource, size: int, dim: int) -> None:
        self.source = source
        self._known = np.zeros(size, bool)
        self._pooled = torch.zeros(size, dim)

    @torch.no_grad()
    def states(self, texts: Int64, with_tokens: Bool) -> TextStates:
        """Return the states of texts, int64 `[n]`; token states are computed anew where bool `[n]` asks for them."""
        fresh = np.unique(texts[~self._known[texts]])
        if len(fresh):
            pooled = self.source.states(fresh, np.zeros(len(fresh), bool)).pooled
            self._pooled = self._pooled.to(pooled.device)
            self._pooled[torch.from_numpy(fresh)] = pooled.float()
            self._known[fresh] = True
        own = self._pooled[torch.from_numpy(texts)]
        if not with_tokens.any():
            return TextStates(pooled=own)
        tagged = self.source.states(texts[with_tokens], np.ones(int(with_tokens.sum()), bool))
        assert tagged.starts is not None
        starts = torch.full((len(texts),), -1, device=own.device)
        starts[torch.from_numpy(with_tokens)] = tagged.starts
        return TextStates(pooled=own, tokens=tagged.tokens, starts=starts)
