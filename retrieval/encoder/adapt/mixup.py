"""Mixup of vectors: between two rows' features their losses are mixed alike (Zhang et al., 2018; Guo et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.adapt.excerpts import pair_rows, row_view
from retrieval.encoder.batch import Batch, RowLabels, View
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import Look, TextSource, batch_states, read_features

# The items of pairs are no rows of their own: what is mixed is who is paired with them.
MIXED: tuple[View, ...] = ("user", "item_row", "text")


class Mixup:
    """Each row's vector x becomes the direction of lam x + (1 - lam) x' for a row x' drawn from the same view.

    A loss becomes lam L(mixed, own labels) + (1 - lam) L(mixed, the other rows' labels), with one lam for a step.
    Tasks on tokens have their plain loss.

    Args:
        model: what learns.
        dropout: on pooled vectors.
        alpha: lam is drawn from Beta(alpha, alpha).
        rng: of the draws.
    """

    def __init__(self, model: MultiTaskEncoder, dropout: float, alpha: float, rng: np.random.Generator) -> None:
        self.model, self.dropout, self.alpha, self.rng = model, dropout, alpha, rng

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Encode, mix, score by both rows' labels."""
        states = batch_states(self.model, batch, source)
        features = read_features(self.model, batch, states, dropout=self.dropout)
        lam = float(self.rng.beta(self.alpha, self.alpha))
        partners = {
            view: torch.from_numpy(self.rng.permutation(len(rows)))
            for view, rows in features.vectors.items()
            if view in MIXED
        }
        mixed = mix(features, partners, lam)
        losses = self.model.losses(batch, mixed, tasks)
        others = self.model.losses(exchanged(batch, partners, tasks), mixed, tasks)
        losses |= {name: lam * losses[name] + (1 - lam) * loss for name, loss in others.items()}
        return Look(losses=losses, features=mixed.tensors(), states=states)


def mix(features: Features, partners: Mapping[View, Tensor], lam: float) -> Features:
    """Return features whose vectors are mixed with those of their partners, int64 `[rows]` by view, and unit again."""

    def mixed(vectors: Mapping[View, Tensor]) -> dict[View, Tensor]:
        return {
            view: functional.normalize(lam * rows + (1 - lam) * rows[partners[view].to(rows.device)], dim=1)
            if view in partners
            else rows
            for view, rows in vectors.items()
        }

    return replace(features, vectors=mixed(features.vectors), searched=mixed(features.searched))


def exchanged(batch: Batch, partners: Mapping[View, Tensor], tasks: Sequence[EncoderTask]) -> Batch:
    """Return the batch with each row's labels taken from its partner, and without tags."""
    view_of = {task.name: row_view(task) for task in tasks}
    pairs = {name: pair_rows(own, partners[view_of[name]]) for name, own in batch.pairs.items() if name in view_of}
    rows = {
        name: RowLabels(label=own.label[partners[view_of[name]]], present=own.present[partners[view_of[name]]])
        for name, own in batch.rows.items()
        if name in view_of
    }
    return replace(batch, pairs=pairs, rows=rows, tags={})
