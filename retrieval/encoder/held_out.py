"""What a model costs on the held-out batches, which are the same in every validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from retrieval.encoder.adapt.limits import HeldOutLimits
from retrieval.encoder.batch import Batch
from retrieval.encoder.calibrate import Calibration, HeldOutScores
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.optimise import autocast
from retrieval.encoder.packed import FrozenTexts
from retrieval.encoder.step import TextSource, batch_features


class HeldOut:
    """Batches to validate on.

    Args:
        batches: fixed for the run.
        n_texts: texts of the token table, whose positions the batches hold.
        baselines: by task, the loss of its best constant prediction on training batches.
    """

    def __init__(self, batches: Sequence[Batch], n_texts: int, baselines: Mapping[str, float]) -> None:
        self.batches, self.n_texts, self.baselines = batches, n_texts, baselines

    @torch.no_grad()
    def losses(self, model: MultiTaskEncoder, source: TextSource, limits: HeldOutLimits) -> dict[str, float]:
        """Return by task its mean loss over its constant predictor's, and what its limits cost.

        Of a task whose head is calibrated in the end it is the loss that calibration leaves.
        """
        totals: dict[str, list[float]] = defaultdict(list)
        scores = HeldOutScores(model.tasks)
        for batch, features in self._features(model, source):
            limits.look(batch, features)
            scores.look(model, batch, features)
            for name, loss in model.losses(batch, features).items():
                totals[name].append(float(loss))
        losses = {name: sum(values) / len(values) for name, values in totals.items()} | scores.losses()
        own, costs = scores.constants(), limits.costs()
        return {
            name: loss / max(self.baselines[name], own.get(name, 0.0), 1e-6) + costs.get(name, 0.0)
            for name, loss in losses.items()
        }

    @torch.no_grad()
    def calibrations(self, model: MultiTaskEncoder, source: TextSource) -> dict[str, Calibration]:
        """Return by task the calibration with which it predicts these batches best."""
        scores = HeldOutScores(model.tasks)
        for batch, features in self._features(model, source):
            scores.look(model, batch, features)
        return scores.calibrations()

    def _features(self, model: MultiTaskEncoder, source: TextSource) -> Iterator[tuple[Batch, Features]]:
        """Yield the batches with what the heads read of them; each text is encoded once."""
        texts = np.unique(np.concatenate([batch.texts for batch in self.batches]))
        tagged = np.isin(texts, np.concatenate([batch.tagged for batch in self.batches]))
        with autocast(next(model.parameters()).device):
            known = FrozenTexts(texts, source.states(texts, tagged), self.n_texts)
        for batch in self.batches:
            yield batch, batch_features(model, batch, known)
