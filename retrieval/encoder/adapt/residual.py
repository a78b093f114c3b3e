"""Labels explained across tasks: what one task predicts of a row should tell of another's label there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from retrieval.encoder.adapt.config import ResidualConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.balance.residual import CrossTaskResidual, LabelScale, TaskRows
from retrieval.encoder.batch import Batch
from retrieval.encoder.constants import labels_of
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import Look, Objective, TextSource, distinct, read_features

# Binary labels of one kind alone have no odds to start a map at.
_EDGE = 1e-3


class Explained:
    """Adds weight x baseline x residual to the loss of each task that shares rows with another.

    Args:
        inner: what looks at a batch.
        model: what learns.
        residual: the learnt maps from prediction to label; they learn with the heads.
        weight: of the term, which is about 1 where no task tells anything of another.
        baselines: losses of constant predictors by task: the term counts alike in every unit.
    """

    def __init__(
        self, inner: Objective, model: MultiTaskEncoder, residual: CrossTaskResidual, weight: float,
        baselines: Mapping[str, float],
    ) -> None:  # fmt: skip
        self.inner, self.model, self.residual = inner, model, residual
        self.weight, self.baselines = weight, baselines

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Look at a batch, and at each pair of its tasks on the rows that carry both labels."""
        look = self.inner(batch, source, tasks)
        features = read_features(self.model, batch, look.states)
        losses = dict(look.losses)
        for rows in self._shared(batch, features, [task for task in tasks if task.name in losses]):
            term = self.residual(rows)
            if term is not None:
                for name in rows:
                    losses[name] = losses[name] + self.weight * self.baselines[name] * term
        return Look(losses=losses, features=distinct([*look.features, *features.tensors()]), states=look.states)

    def _shared(self, batch: Batch, features: Features, tasks: Sequence[EncoderTask]) -> Iterator[dict[str, TaskRows]]:
        """Yield predictions and labels of the tasks of each kind of row, flat."""
        named = {name for pair in self.residual.pairs for name in pair}
        for on in ("pair", "user", "item", "text"):
            own = [task for task in tasks if task.on == on and task.name in named]
            found = {}
            for task in own:
                held = batch.labels(task.name)
                assert held is not None  # the task has a loss
                logits = self.model.logits(task, features, {}).reshape(-1)
                label, present = held.label.to(logits.device), held.present.to(logits.device)
                found[task.name] = TaskRows(logits=logits, labels=label.reshape(-1), present=present.reshape(-1))
            if len(found) > 1:
                yield found


def make_residual(tasks: Sequence[EncoderTask], batches: Sequence[Batch], config: ResidualConfig) -> CrossTaskResidual:
    """Return maps between the binary and regression tasks of each kind of row, starting at the labels' means.

    Args:
        tasks: of the run.
        batches: where the labels' means and deviations are measured.
        config: which pairs.

    Raises:
        AdaptError: a declared pair names a task that there isn't, of another kind, or on other rows.
    """
    scales = {task.name: (task, scale) for task in tasks if (scale := _scale(task, batches)) is not None}
    for pair in config.pairs or ():
        for name in pair:
            if name not in scales:
                known = ", ".join(sorted(scales)) or "none"
                raise AdaptError(
                    f"residual.pairs: expected binary or regression tasks with labels ({known}), found {name!r}"
                )
        one, other = (scales[name][0] for name in pair)
        if one.on != other.on or one is other:
            raise AdaptError(f"residual.pairs: expected two tasks on the same rows, found {one.name} and {other.name}")
    every = tuple(
        (i, j) for i, (one, _) in scales.items() for j, (other, _) in scales.items() if i != j and one.on == other.on
    )
    return CrossTaskResidual({name: scale for name, (_, scale) in scales.items()}, config.pairs or every)


def _scale(task: EncoderTask, batches: Sequence[Batch]) -> LabelScale | None:
    """Return how a task's labels lie; None for a task of another kind, or without labels that differ."""
    if task.kind not in ("binary", "regression"):
        return None
    labels, _ = labels_of(task, batches)
    if len(labels) < 2 or float(labels.std()) == 0:
        return None
    mean = float(labels.mean())
    if task.kind == "binary":
        mean = min(max(mean, _EDGE), 1 - _EDGE)
        return LabelScale(kind="binary", mean=mean, deviation=(mean * (1 - mean)) ** 0.5)
    return LabelScale(kind="regression", mean=mean, deviation=float(labels.std()))
