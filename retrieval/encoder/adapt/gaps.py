"""Gaps between groups of the rows that batches hold: a limit's loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.adapt.config import LimitConfig
from retrieval.encoder.adapt.divergence import predict
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.batch import Batch, View
from retrieval.encoder.config import Kind
from retrieval.encoder.data import EncoderTask, Int32, TrainingData
from retrieval.encoder.layout import TaskKind
from retrieval.encoder.model import Features, MultiTaskEncoder

_KINDS: Mapping[str, tuple[TaskKind, ...]] = {
    "rate_gap": ("binary",),
    "loss_gap": ("binary", "regression", "multiclass"),
}


class GroupGap:
    """Highest less lowest mean of a quantity over groups of rows: its value a moving window's, its slope the batch's.

    A batch holds a few rows of a group, and the largest of noisy differences lies above zero where no group differs.
    So sums and counts of each group fade by 1 - 1 / window with every batch that has the task, and a group counts once
    its faded rows reach `rows`. The gradient is that of the difference between the batch's own rows of the two groups
    that the window finds furthest apart: an average over batches as any loss's, and undiminished by the fading.

    Args:
        limit: which task, column and measure.
        task: of that name.
        groups: number of the column's groups.
        moving: False lets nothing fade: the means are then those of all batches so far.
    """

    def __init__(self, limit: LimitConfig, task: EncoderTask, groups: int, *, moving: bool = True) -> None:
        self.limit, self.task, self.groups = limit, task, groups
        self._fade = 1 - 1 / limit.window if moving else 1.0
        self._sums, self._counts = torch.zeros(groups), torch.zeros(groups)

    def fresh(self, *, moving: bool) -> GroupGap:
        """Return one that has seen nothing yet."""
        return GroupGap(self.limit, self.task, self.groups, moving=moving)

    def __call__(self, model: MultiTaskEncoder, batch: Batch, features: Features) -> Tensor | None:
        """Return the gap, a scalar; None where the batch lacks labels or groups, or fewer than two groups count."""
        grouped, found = self.rows(batch), predict(model, self.task, batch, features)
        if grouped is None or found is None:
            return None
        chosen, codes, labels = (part.to(found.logits.device) for part in grouped)
        values = self._measure(found.logits[chosen], labels)
        member = functional.one_hot(codes, self.groups).to(values.dtype)
        sums, counts = values @ member, member.sum(0)
        self._sums = self._fade * self._sums.to(sums.device) + sums.detach()
        self._counts = self._fade * self._counts.to(sums.device) + counts
        known = self._counts >= self.limit.rows
        if int(known.sum()) < 2:
            return None
        means = self._sums / self._counts.clamp(min=1e-9)
        top = int(means.masked_fill(~known, -torch.inf).argmax())
        low = int(means.masked_fill(~known, torch.inf).argmin())
        own = sums / counts.clamp(min=1)
        slope = own[top] - own[low]
        return means[top] - means[low] + (slope - slope.detach())

    def rows(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return which entries count, bool in the labels' shape, and their groups and labels, int64 and float `[n]`.

        None where there is none: an entry needs a label and a group.
        """
        held = batch.labels(self.task.name)
        view: View = "item_row" if self.task.on == "item" else self.limit.on
        codes = batch.groups.get(view, {}).get(self.limit.column)
        if held is None or codes is None:
            return None
        if self.task.on == "pair":
            codes = (codes[:, None] if self.limit.on == "user" else codes[None, :]).expand(held.present.shape)
        chosen = held.present & (codes >= 0)
        return (chosen, codes[chosen], held.label[chosen]) if bool(chosen.any()) else None

    def _measure(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return each entry's predicted probability or loss, float `[n]`."""
        if self.limit.measure == "rate_gap":
            return torch.sigmoid(logits)
        if self.task.kind == "multiclass":
            return functional.cross_entropy(logits, labels.long(), reduction="none")
        if self.task.kind == "regression":
            return functional.mse_loss(logits, labels, reduction="none")
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


def make_gaps(limits: Sequence[LimitConfig], data: TrainingData) -> list[GroupGap]:
    """Return what measures each limit's gap.

    Args:
        limits: declared.
        data: of the run.

    Raises:
        AdaptError: a limit names a task that the run lacks, whose kind its measure doesn't fit or whose rows have no
            such side, or the data carries no groups of its column.
    """
    tasks = {task.name: task for task in data.tasks}
    return [GroupGap(limit, _checked(limit, tasks), _group_count(limit, data)) for limit in limits]


def check_rows(gaps: Sequence[GroupGap], training: Sequence[Batch], held_out: Sequence[Batch]) -> None:
    """Refuse limits that would rest for want of rows: a run must not look limited and be free.

    Args:
        gaps: one for each limit.
        training: batches such as the run's.
        held_out: as many as a validation has.

    Raises:
        AdaptError: fewer than two groups have the rows to count, in a full window or in a validation.
    """
    for gap in gaps:
        rows, window = gap.limit.rows, gap.limit.window
        # Counts that fade by 1 - 1 / window add up to `window` batches' worth.
        full = _counts(gap, training) * (window / len(training))
        for place, counts in ((f"a window of {window} batches", full), ("a validation", _counts(gap, held_out))):
            if int((counts >= rows).sum()) < 2:
                found = ", ".join(f"{count:.0f}" for count in counts.sort(descending=True).values[:2].tolist())
                raise AdaptError(
                    f"limits, {gap.limit.name}: expected two groups with {rows} labelled rows in {place}, found "
                    f"{found}; fewer `rows`, a longer `window` or more `validation_batches` let them count"
                )


def _counts(gap: GroupGap, batches: Sequence[Batch]) -> Tensor:
    """Return the labelled rows of each group over batches, float `[groups]`."""
    found = [grouped[1] for batch in batches if (grouped := gap.rows(batch)) is not None]
    return torch.bincount(torch.cat([torch.zeros(0, dtype=torch.int64), *found]), minlength=gap.groups).float()


def _checked(limit: LimitConfig, tasks: Mapping[str, EncoderTask]) -> EncoderTask:
    """Return a limit's task."""
    fitting = [name for name, task in tasks.items() if task.kind in _KINDS[limit.measure]]
    if limit.task not in fitting:
        raise AdaptError(
            f"limits, {limit.name}: expected a {' or '.join(_KINDS[limit.measure])} task "
            f"({', '.join(fitting) or 'none'}), found {limit.task!r}"
        )
    task = tasks[limit.task]
    sides = ("user", "item") if task.on == "pair" else (task.on,)
    if limit.on not in sides:
        raise AdaptError(f"limits, {limit.name}: expected groups of {' or '.join(sides)}, found {limit.on}")
    return task


def _group_count(limit: LimitConfig, data: TrainingData) -> int:
    """Return how many groups a limit's column has in the data."""
    held: Mapping[Kind, Sequence[Mapping[str, Int32]]] = {
        "user": [cut.groups for cut in data.train],
        "item": [data.item_groups],
        "text": [data.texts.groups],
    }
    found = [groups[limit.column] for groups in held[limit.on] if limit.column in groups]
    groups = 1 + max((int(codes.max(initial=-1)) for codes in found), default=-1)
    if groups < 2:
        raise AdaptError(
            f"limits, {limit.name}: expected groups of column {limit.column!r} in the training data, found {groups}"
        )
    return groups
