"""Where training batches come from: the data, other forms of its texts, data of old."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from retrieval.encoder.adapt.alternatives import Alternatives
from retrieval.encoder.batch import Batch
from retrieval.encoder.tokens import Int64


class BatchSource(Protocol):
    """Draws training batches."""

    @property
    def reachable(self) -> Int64:
        """Token table positions of every text that a batch can hold, with repeats, int64."""

    def __call__(self, rng: np.random.Generator) -> Batch:
        """Draw one."""


class Varied:
    """Batches some of whose texts are read in another form.

    A text that carries tags stays as it is: they speak of its tokens.

    Args:
        inner: draws the batches.
        alternatives: of texts.
        share: probability that a text with alternatives is read as one of them, drawn anew for each batch.
    """

    def __init__(self, inner: BatchSource, alternatives: Alternatives, share: float) -> None:
        self.inner, self.alternatives, self.share = inner, alternatives, share

    @property
    def reachable(self) -> Int64:
        """Texts and their alternatives."""
        texts = self.inner.reachable
        return np.concatenate([texts, self.alternatives.of(np.unique(texts))])

    def __call__(self, rng: np.random.Generator) -> Batch:
        """Draw a batch, then forms."""
        batch = self.inner(rng)
        texts = batch.texts
        forms = np.where(np.isin(texts, batch.tagged), texts, self.alternatives.draw(texts, self.share, rng))
        return replace(batch, views={view: forms[np.searchsorted(texts, rows)] for view, rows in batch.views.items()})


class Replayed:
    """Batches of new data, and of old data in a fixed share of the draws, evenly spread.

    Args:
        new: most batches.
        old: the others.
        share: of the old, below 1.
    """

    def __init__(self, new: BatchSource, old: BatchSource, share: float) -> None:
        self.new, self.old, self.share = new, old, share
        self._draws = 0

    @property
    def reachable(self) -> Int64:
        """Texts of both."""
        return np.concatenate([self.new.reachable, self.old.reachable])

    def __call__(self, rng: np.random.Generator) -> Batch:
        """Draw from the old data whenever its share of the draws so far reaches another whole number."""
        before = int(self._draws * self.share)
        self._draws += 1
        return self.old(rng) if int(self._draws * self.share) > before else self.new(rng)
