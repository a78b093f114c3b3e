"""R-Drop: two draws of dropout shall predict alike (Liang et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from retrieval.encoder.adapt.divergence import divergence, predict
from retrieval.encoder.batch import Batch
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import Look, TextSource, batch_states, distinct, read_features


class RDrop:
    """Half of the paper's sum, so that losses keep their scale: (L1 + L2) / 2 + weight / 2 * (KL12 + KL21) / 2.

    KLs are means over the entries with a label; a regression has the squared difference in their place. The only
    dropout is that on pooled vectors, so that the transformer runs once for both. Tasks on tokens, which see none of
    it, have their plain loss.

    Args:
        model: what learns.
        dropout: on pooled vectors, above 0.
        weight: the paper's alpha.
    """

    def __init__(self, model: MultiTaskEncoder, dropout: float, weight: float) -> None:
        assert dropout > 0
        self.model, self.dropout, self.weight = model, dropout, weight

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Encode once, drop and score twice."""
        states = batch_states(self.model, batch, source)
        first, second = (read_features(self.model, batch, states, dropout=self.dropout) for _ in range(2))
        losses = self.model.losses(batch, first, tasks)
        again = self.model.losses(batch, second, [task for task in tasks if task.name in losses])
        for name, loss in again.items():
            apart = self._apart(self.model.task(name), batch, first, second)
            losses[name] = (losses[name] + loss) / 2 + self.weight / 2 * apart
        return Look(losses=losses, features=distinct([*first.tensors(), *second.tensors()]), states=states)

    def _apart(self, task: EncoderTask, batch: Batch, first: Features, second: Features) -> Tensor:
        """Return the mean over labelled entries of both directions' mean."""
        one, two = (predict(self.model, task, batch, features) for features in (first, second))
        assert one is not None
        assert two is not None
        assert one.present is not None
        both = divergence(task.kind, one.logits, two.logits) + divergence(task.kind, two.logits, one.logits)
        return both[one.present].mean() / 2
