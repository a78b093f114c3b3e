"""The two sides of a comparison: one model of all tasks, and a model of its own for each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.trial import Quality, Trial

# No task's name has a hyphen.
MULTI: Final = "multi-task"
# A lower error counts as this one where errors are divided: one row in a thousand, below what a validation part tells.
LEAST_ERROR: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class Side:
    """One model of the comparison.

    Attributes:
        name: `multi-task`, or the task's.
        tasks: that it is judged by; parents of theirs are trained as well.
        trained: with those parents, in order.
    """

    name: str
    tasks: tuple[str, ...]
    trained: tuple[str, ...]

    @property
    def joint(self) -> bool:
        """Whether it is the model of all tasks."""
        return self.name == MULTI


def for_tasks(config: EncoderConfig, tasks: Iterable[str]) -> EncoderConfig:
    """Return a configuration for a run on some of the tasks: what names the others goes.

    A single task has nothing to balance, and where importances would leave nothing to learn all count alike.
    """
    own = set(tasks)
    limits = tuple(limit for limit in config.limits if limit.task in own)
    few = {task: lines for task, lines in config.few_labels.items() if task in own}
    changed = {"balance": _balance(config.balance, own), "limits": limits, "few_labels": few}
    residual = config.residual
    if residual is not None and residual.pairs is not None:
        pairs = tuple(pair for pair in residual.pairs if own.issuperset(pair))
        changed["residual"] = residual.model_copy(update={"pairs": pairs}) if pairs else None
    elif len(own) == 1:
        changed["residual"] = None
    return config.model_copy(update=changed)


def _balance(config: BalanceConfig, own: set[str]) -> BalanceConfig:
    if len(own) == 1:
        return BalanceConfig()

    def kept(mapping: Mapping[str, float]) -> dict[str, float]:
        return {task: value for task, value in mapping.items() if task in own}

    weights, limits = kept(config.weights), kept(config.lagrangian.limits)
    learnt = any(weights.get(task, 1.0) for task in own)
    # The Lagrangian without a limit is the static sum, and is refused as a contradiction.
    unlimited = config.method == "lagrangian" and not limits
    return config.model_copy(
        update={
            "method": "static" if unlimited else config.method,
            "weights": weights if learnt else {},
            "dual": config.dual.model_copy(update={"baselines": kept(config.dual.baselines)}),
            "lagrangian": config.lagrangian.model_copy(update={"limits": limits}),
        }
    )


def own_error(trial: Trial, task: str) -> float:
    """Return a task's validation error in a trial."""
    return trial.validation[task].error


def mean_relative_error(trial: Trial, reference: Trial, tasks: Sequence[str]) -> float:
    """Return the mean over tasks of the validation error over that of a reference; below 1 is better."""
    ratios = [_ratio(own_error(trial, task), own_error(reference, task)) for task in tasks]
    return float(np.mean(ratios))


def relative_gain(alone: float, joint: float) -> float:
    """Return the share of a task's own model's error that another model takes away; negative where it adds some."""
    return (alone - joint) / max(alone, LEAST_ERROR)


def unmeasured(qualities: Mapping[str, Quality], tasks: Sequence[str]) -> list[str]:
    """Return the tasks that a part has no label of."""
    return [task for task in tasks if task not in qualities]


def diverged(trial: Trial) -> list[str]:
    """Return the tasks whose loss or error is no number."""
    both = [*trial.validation.items(), *trial.test.items()]
    return sorted({task for task, found in both if not (math.isfinite(found.loss) and math.isfinite(found.error))})


def _ratio(error: float, reference: float) -> float:
    return max(error, LEAST_ERROR) / max(reference, LEAST_ERROR)
