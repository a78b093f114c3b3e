"""Limits on gaps between groups: each is one more loss of a batch, which counts by its multiplier alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrieval.encoder.adapt.config import LimitConfig
from retrieval.encoder.adapt.gaps import GroupGap
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.balance.convex import by_volume
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.balance.step import Balance
from retrieval.encoder.batch import Batch
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import Look, Objective, TextSource, distinct, read_features


class Limited:
    """Adds each limit's gap to a batch's losses, under the limit's name.

    A gap is measured without dropout or mixing, and only while its task learns: a task that has stopped keeps its head,
    which a limit would move.

    Args:
        inner: what looks at a batch.
        model: what learns.
        gaps: one for each limit.
    """

    def __init__(self, inner: Objective, model: MultiTaskEncoder, gaps: Sequence[GroupGap]) -> None:
        self.inner, self.model, self.gaps = inner, model, gaps

    def __call__(self, batch: Batch, source: TextSource, tasks: Sequence[EncoderTask]) -> Look:
        """Look at a batch, and at the groups of its rows."""
        look = self.inner(batch, source, tasks)
        learning = {task.name for task in tasks}
        features = read_features(self.model, batch, look.states)
        gaps = {
            gap.limit.name: gap(self.model, batch, features)
            for gap in self.gaps
            if gap.task.name in look.losses and gap.task.name in learning
        }
        losses = look.losses | {name: found for name, found in gaps.items() if found is not None}
        return Look(losses=losses, features=distinct([*look.features, *features.tensors()]), states=look.states)


class HeldOutLimits:
    """By how much held-out rows exceed the limits, as a cost of the tasks.

    The best weights by the tasks' losses alone are those from before a limit took hold; so an excess counts by the
    highest multiplier, which makes weights that keep the limits the best ones (an exact penalty).

    Args:
        model: what learns.
        gaps: one for each limit, not moving.
        baselines: losses of constant predictors by task.
        ceiling: of a multiplier.
    """

    def __init__(
        self, model: MultiTaskEncoder, gaps: Sequence[GroupGap], baselines: Mapping[str, float], ceiling: float
    ) -> None:
        self.model, self.gaps, self.baselines, self.ceiling = model, gaps, baselines, ceiling
        self._found: dict[str, float] = {}

    def look(self, batch: Batch, features: Features) -> None:
        """Add the rows of a batch."""
        for gap in self.gaps:
            value = gap(self.model, batch, features)
            if value is not None:
                self._found[gap.limit.name] = float(value.detach()) / _unit(gap.limit, self.baselines)

    def costs(self) -> dict[str, float]:
        """Return what to add to the relative losses of limited tasks."""
        costs: dict[str, float] = {}
        for limit in (gap.limit for gap in self.gaps):
            excess = max(0.0, self._found.get(limit.name, 0.0) - limit.limit)
            costs[limit.task] = costs.get(limit.task, 0.0) + self.ceiling * excess
        return costs


def balance_with_limits(
    config: EncoderConfig, tasks: Sequence[EncoderTask], baselines: Mapping[str, float], counts: Mapping[str, float]
) -> Balance:
    """Return the balance of the tasks and, besides them, of the limits on gaps.

    A gap has importance 0, so that nothing but its multiplier makes it count, and its limit is in its own unit (a loss
    gap's in that of the task's constant predictor).

    Args:
        config: of the run.
        tasks: of the run.
        baselines: losses of constant predictors by task.
        counts: what each task's loss rests on.
    """
    losses = {
        task.name: TaskLoss(
            kind="regression" if task.kind == "regression" else "classification",
            baseline=baselines[task.name],
            count=int(counts[task.name]),
        )
        for task in tasks
    }
    balance = config.balance.for_tasks({task.name: task.kind for task in tasks})
    if not config.limits:
        return make_balance(balance, losses)
    if balance.method == "volume":
        labels = {name: loss.count for name, loss in losses.items()}
        balance = balance.model_copy(update={"weights": by_volume(balance.weights, labels, balance.volume.exponent)})
    for limit in config.limits:
        losses[limit.name] = TaskLoss(kind="regression", baseline=_unit(limit, baselines), count=0)
    return make_balance(_limited(balance, config.limits), losses)


def _limited(balance: BalanceConfig, limits: Sequence[LimitConfig]) -> BalanceConfig:
    """Return the balance with a multiplier for each limit; without them `lagrangian` is the sum by importance."""
    own = {limit.name: limit.limit for limit in limits}
    lagrangian = balance.lagrangian.model_copy(update={"limits": {**balance.lagrangian.limits, **own}})
    weights = {**balance.weights, **dict.fromkeys(own, 0.0)}
    return balance.model_copy(update={"method": "lagrangian", "lagrangian": lagrangian, "weights": weights})


def _unit(limit: LimitConfig, baselines: Mapping[str, float]) -> float:
    """Return what a gap is divided by: its task's constant predictor's loss, or nothing for one of probabilities."""
    return baselines[limit.task] if limit.measure == "loss_gap" else 1.0
