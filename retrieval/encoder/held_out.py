"""What a model costs on the held-out batches, which are the same in every validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import structlog
import torch

from retrieval.encoder.adapt.limits import HeldOutLimits
from retrieval.encoder.batch import Batch
from retrieval.encoder.calibrate import Calibration, HeldOutScores, calibrate
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.optimise import autocast
from retrieval.encoder.packed import FrozenTexts, TextPooler
from retrieval.encoder.refined import HeldOutAnswers
from retrieval.encoder.step import TextSource, batch_features
from retrieval.encoder.tokens import TokenTable

log = structlog.get_logger(__name__)


class HeldOut:
    """Batches to validate on.

    Args:
        batches: fixed for the run.
        table: tokens of the texts whose positions the batches hold.
        yardsticks: by task, what the constant fitted on training batches costs on these batches.
    """

    def __init__(self, batches: Sequence[Batch], table: TokenTable, yardsticks: Mapping[str, float]) -> None:
        self.batches, self.table, self.yardsticks = batches, table, yardsticks
        self._constants: dict[str, float] | None = None

    @torch.no_grad()
    def losses(self, model: MultiTaskEncoder, source: TextSource, limits: HeldOutLimits) -> dict[str, float]:
        """Return by task its mean loss over its constant predictor's, and what its limits cost.

        Of a task whose head is calibrated, in the end or by ranking, it is the loss that calibration leaves.
        """
        totals: dict[str, list[float]] = defaultdict(list)
        scores, answers = HeldOutScores(model.tasks), HeldOutAnswers(model.tasks)
        for batch, features in self._features(model, source):
            limits.look(batch, features)
            scores.look(model, batch, features)
            answers.look(model, batch, features)
            for name, loss in model.losses(batch, features).items():
                totals[name].append(float(loss))
        means = {name: sum(values) / len(values) for name, values in totals.items()}
        losses = means | scores.losses() | answers.refined()
        if self._constants is None:
            # Labels alone say what they cost, and those never change.
            self._constants = {**self.yardsticks, **scores.constants(), **answers.constants()}
        yardsticks, costs = self._constants, limits.costs()
        return {name: loss / max(yardsticks[name], 1e-6) + costs.get(name, 0.0) for name, loss in losses.items()}

    def calibrate(self, model: MultiTaskEncoder, source: TextSource | None = None) -> Mapping[str, Calibration]:
        """Let heads give from now on the logits that predict these batches best, and return what that took, by task.

        Args:
            model: changed in place; its backbone's tokens are the table's.
            source: of the model's states; None embeds what is needed.
        """
        own = source or TextPooler(model.backbone, self.table, train_layers=None, cache_mb=0)
        found = self._calibrations(model, own)
        calibrate(model, found)
        for name, calibration in found.items():
            log.info(
                "encoder_calibrated", task=name, factor=round(calibration.factor, 3),
                offset=round(calibration.offset, 3),
            )  # fmt: skip
        return found

    @torch.no_grad()
    def _calibrations(self, model: MultiTaskEncoder, source: TextSource) -> dict[str, Calibration]:
        scores = HeldOutScores(model.tasks)
        for batch, features in self._features(model, source):
            scores.look(model, batch, features)
        return scores.calibrations()

    def _features(self, model: MultiTaskEncoder, source: TextSource) -> Iterator[tuple[Batch, Features]]:
        """Yield the batches with what the heads read of them; each text is encoded once."""
        texts = np.unique(np.concatenate([batch.texts for batch in self.batches]))
        tagged = np.isin(texts, np.concatenate([batch.tagged for batch in self.batches]))
        with autocast(next(model.parameters()).device):
            known = FrozenTexts(texts, source.states(texts, tagged), len(self.table.lengths))
        for batch in self.batches:
            yield batch, batch_features(model, batch, known)
