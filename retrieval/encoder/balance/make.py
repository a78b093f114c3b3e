"""From the configuration and the tasks to the balance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.balance.cagrad import ConflictAverse
from retrieval.encoder.balance.config import BLIND_TO_IMPORTANCE, BalanceConfig
from retrieval.encoder.balance.convex import Convex, Factors, Static, by_volume
from retrieval.encoder.balance.dual import Dual
from retrieval.encoder.balance.dwa import DynamicWeightAverage
from retrieval.encoder.balance.famo import Famo
from retrieval.encoder.balance.gradients import GradientStep, Mean, Weighted
from retrieval.encoder.balance.gradnorm import GradNorm
from retrieval.encoder.balance.lagrangian import Lagrangian
from retrieval.encoder.balance.protocols import Aggregator, Scalariser
from retrieval.encoder.balance.random_weights import RandomWeights
from retrieval.encoder.balance.scales import Scales
from retrieval.encoder.balance.step import Balance
from retrieval.encoder.balance.uncertainty import Uncertainty

Kind = Literal["classification", "regression"]

# A constant predictor's loss below it is the sample's luck (one class alone), and dividing by it would make the task
# all that matters; a squared error may be as small as its unit makes it.
LOWEST_BASELINE: Final[Mapping[Kind, float]] = {"classification": 1e-6, "regression": 1e-12}


class BalanceError(InvalidInputError):
    """A balance that the tasks or the method contradict."""


@dataclass(frozen=True, kw_only=True)
class TaskLoss:
    """What a balance knows of a task.

    Attributes:
        kind: whether its loss is a cross-entropy (contrastive ones too) or a squared error.
        baseline: loss of its best constant prediction.
        count: training labels.
    """

    kind: Kind
    baseline: float
    count: int


def make_balance(config: BalanceConfig, tasks: Mapping[str, TaskLoss]) -> Balance:
    """Build the configured balance.

    Args:
        config: method and numbers.
        tasks: every task that a step may hold.

    Raises:
        BalanceError: a name in `weights`, `lagrangian.limits` or `dual.baselines` is no task, no task has an importance
            above 0, or the method takes no notice of importances and they differ.
    """
    named = {
        "weights": config.weights,
        "lagrangian.limits": config.lagrangian.limits,
        "dual.baselines": config.dual.baselines,
    }
    for field, mapping in named.items():
        for name in mapping:
            if name not in tasks:
                raise BalanceError(f"balance.{field}: {unknown_name('task', name, tasks)}")
    importance = {name: config.weights.get(name, 1.0) for name in tasks}
    if not any(importance.values()):
        raise BalanceError(f"balance.weights: expected a task with an importance above 0, found {importance}")
    if config.method in BLIND_TO_IMPORTANCE and len(set(importance.values())) > 1:
        raise BalanceError(
            f"balance.weights: expected equal importances for method {config.method!r}, which makes the tasks' "
            f"gradients count alike whatever their scale, found {importance}"
        )
    if config.method == "volume":
        counts = {name: task.count for name, task in tasks.items()}
        importance = by_volume(importance, counts, config.volume.exponent)
    scales = Scales(
        importance=importance,
        baselines={name: max(task.baseline, LOWEST_BASELINE[task.kind]) for name, task in tasks.items()},
    )
    rule = _scalariser(config, scales, tasks) or GradientStep(scales, _aggregator(config, tasks), config.level)
    return Balance(rule, scales)


def _scalariser(config: BalanceConfig, scales: Scales, tasks: Mapping[str, TaskLoss]) -> Scalariser | None:
    """Return the method that weighs losses, or None for one that looks at gradients."""
    match config.method:
        case "uncertainty":
            return Uncertainty(scales, regression=[name for name, task in tasks.items() if task.kind == "regression"])
        case "lagrangian":
            limited = config.lagrangian
            return Lagrangian(scales, limited.limits, eta=limited.eta, ceiling=limited.ceiling)
        case "famo":
            return Famo(scales, learning_rate=config.famo.learning_rate, weight_decay=config.famo.weight_decay)
        case _:
            factors = _factors(config, scales.importance)
            return Convex(scales, factors) if factors else None


def _factors(config: BalanceConfig, importance: Mapping[str, float]) -> Factors | None:
    match config.method:
        case "static" | "volume":
            return Static(importance)
        case "dual":
            dual = config.dual
            return Dual(importance, dual.baselines, eta=dual.eta, pull=dual.pull)
        case "dwa":
            return DynamicWeightAverage(importance, temperature=config.dwa.temperature, window=config.dwa.window)
        case "random":
            chance = config.random
            return RandomWeights(importance, distribution=chance.distribution, alpha=chance.alpha, seed=config.seed)
        case _:
            return None


def _aggregator(config: BalanceConfig, tasks: Mapping[str, TaskLoss]) -> Aggregator:
    """Return the method that looks at gradients."""
    match config.method:
        case "mean":
            return Weighted(Mean())
        case "gradnorm":
            numbers = config.gradnorm
            return Weighted(GradNorm(tasks, alpha=numbers.alpha, learning_rate=numbers.learning_rate))
        case "cagrad":
            return Weighted(ConflictAverse(config.surgery.cagrad_c))
        case _:
            return _surgery(config)


def _surgery(config: BalanceConfig) -> Aggregator:
    # torchjd takes half a second to import, which the other methods needn't wait for.
    from retrieval.encoder.balance import surgery  # noqa: PLC0415

    match config.method:
        case "graddrop":
            return surgery.SignDropout(leak=config.surgery.graddrop_leak, seed=config.seed)
        case "config":
            return surgery.ConflictFree()
        case _:
            return Weighted(surgery.SurgeryWeighting(config.method, config.surgery, seed=config.seed))
