"""Fitting everything that ranking serves: trees on the older cuts, blend and calibration on the newest one.

Trees never see the rows that the blend weighs them on, and encoder and collaborative signals of every cut come from
models fitted before it, so each score the blend reads is out of time. Calibration reads cross-fitted blend logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.schema import Int32
from features.tasks import TaskSpec
from infra.errors import InvalidInputError, unknown_name
from ranking.blend import FAMILIES, BlendConfig, BlendInputs, Float64, MultiTaskBlend, TaskBlend, fit_task_blend
from ranking.calibration import CalibrationConfig, Calibrator, fit_calibrator, rate_shift
from ranking.formula.parse import FormulaText
from ranking.gbdt import GbdtConfig, TrainingRows, fit_binary, fit_rank
from ranking.models import RankingModels, RankingSchema, pair_inputs, user_inputs
from ranking.objective import DEFAULT, by_task
from ranking.rows import CutRows
from ranking.rules.config import Rules
from ranking.signals import SignalSchema
from ranking.spaces import pair_tasks, user_tasks

if TYPE_CHECKING:
    import lightgbm as lgb

log = structlog.get_logger(__name__)

# Fewer positives teach trees nothing that the blend's other signals don't.
_LEAST_POSITIVES: Final = 30
_MAIN_TASK: Final = "purchase"


class RankingConfig(BaseModel):
    """How ranking is fitted and what it serves.

    Attributes:
        gbdt: the trees of every task that `tasks` doesn't name.
        rank: the LambdaRank model.
        tasks: task -> trees of its own.
        main_task: the task whose labels LambdaRank orders by and explanations speak of.
        blend: see there.
        calibration: see there.
        objectives: name -> formula, what a request may ask for; `default`, left out, is the main task's probability.
        rules: on the order, after scoring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gbdt: GbdtConfig = GbdtConfig()
    rank: GbdtConfig = GbdtConfig()
    tasks: dict[str, GbdtConfig] = Field(default_factory=dict)
    main_task: str = _MAIN_TASK
    blend: BlendConfig = BlendConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    objectives: dict[str, FormulaText] = Field(default={DEFAULT: by_task(_MAIN_TASK)})
    rules: Rules = Rules()

    @model_validator(mode="before")
    @classmethod
    def _order_by_the_main_task(cls, given: Any) -> Any:
        own = given.get("objectives", {}) if isinstance(given, dict) else None
        if isinstance(own, dict) and DEFAULT not in own:
            return {**given, "objectives": {DEFAULT: by_task(str(given.get("main_task", _MAIN_TASK))), **own}}
        return given

    def check(self, tasks: Sequence[TaskSpec]) -> None:
        """Check every task that this config names against the workspace's tasks.

        Raises:
            InvalidInputError: an unknown task, with the nearest one named.
        """
        pairs = [task.name for task in pair_tasks(tasks)]
        known = [*pairs, *(task.name for task in user_tasks(tasks))]
        if self.main_task not in pairs:
            raise InvalidInputError(f"ranking.main_task: {unknown_name('task', self.main_task, pairs)}")
        for task in self.tasks:
            if task not in known:
                raise InvalidInputError(f"ranking.tasks: {unknown_name('task', task, known)}")


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One task's blend and calibration from some families only, for the report.

    Attributes:
        blend: the logistic model.
        calibrator: its curve.
    """

    blend: TaskBlend
    calibrator: Calibrator

    def probabilities(self, inputs: BlendInputs) -> Float64:
        """Return calibrated probabilities, float64 `[n]`."""
        return self.calibrator.probabilities(self.blend.logits(inputs))


def fit_ranking(
    older: Sequence[CutRows], newest: CutRows, tasks: Sequence[TaskSpec], schema: SignalSchema, config: RankingConfig
) -> RankingModels:
    """Fit trees on the older cuts, then blend and calibration on the newest.

    A task with fewer than 30 positives gets no trees (logged); its blend then rests on the other signals.

    Args:
        older: rows of the trees' cuts.
        newest: rows of the blend's cut.
        tasks: the workspace's tasks.
        schema: the signals' columns.
        config: how.

    Raises:
        InvalidInputError: the config names an unknown task, or the main task has too few positives.
    """
    config.check(tasks)
    pairs = [task.name for task in pair_tasks(tasks) if task.name in newest.labels]
    users = [task.name for task in user_tasks(tasks) if task.name in newest.user_labels]
    trees: dict[str, lgb.Booster] = {}
    user_trees: dict[str, lgb.Booster] = {}
    for task in pairs:  # one task's rows at a time are copied out of the cuts
        own = config.tasks.get(task, config.gbdt)
        _fit_trees(task, join_rows([cut.task_rows(task, own) for cut in older]), own, trees)
    for task in users:
        rows = join_rows([cut.user_rows(task) for cut in older])
        _fit_trees(task, rows, config.tasks.get(task, config.gbdt), user_trees)
    rank = fit_rank(join_rows([cut.task_rows(config.main_task, config.rank) for cut in older]), config.rank)
    log.info("trees_fitted", tasks=[*trees, *user_trees], rank_trees=rank.num_trees())
    inputs = pair_inputs(trees, rank, newest.features, newest.signals, newest.applies)
    user_columns = user_inputs(user_trees, schema, newest.user_features, newest.user_logits)
    blends: dict[str, TaskBlend] = {}
    calibrators: dict[str, Calibrator] = {}
    for task in pairs:
        windows = [labelled(cut, task) for cut in (newest, *older)]
        _fit_task(task, inputs, windows, newest.users, config, blends, calibrators)
    for task in users:
        numbers = np.arange(len(newest.user_features), dtype=np.int32)
        windows = [cut.user_labels[task].astype(np.float64) for cut in (newest, *older)]
        _fit_task(task, user_columns, windows, numbers, config, blends, calibrators)
    return RankingModels(
        schema=RankingSchema.of(
            schema,
            tuple(trees),
            tuple(user_trees),
            main_task=config.main_task,
            objectives=config.objectives,
            rules=config.rules,
        ),
        trees=trees,
        rank=rank,
        user_trees=user_trees,
        blend=MultiTaskBlend(blends),
        calibrators=calibrators,
    )


def labelled(rows: CutRows, task: str) -> Float64:
    """Return a pair task's labels, float64 `[m]`, NaN where the task doesn't apply or the pair carries none."""
    return np.where(rows.applies[task], rows.labels[task], np.nan).astype(np.float64)


def fit_calibrated(
    inputs: BlendInputs,
    labels: Float64,
    groups: Int32,
    config: RankingConfig,
    families: Sequence[str] = FAMILIES,
) -> Ablation:
    """Fit one task's blend and its calibration on out-of-fold logits.

    Two folds by user: each half is scored by the blend of the other half, so the curve sees logits as a request does.

    Args:
        inputs: the blend's columns, m rows.
        labels: float64 `[m]`, NaN for rows without one.
        groups: int32 `[m]` user of each row.
        config: blend and calibration.
        families: which may speak.
    """
    kept, weights = _thinned(labels, config.blend)
    columns = BlendInputs(inputs.names, inputs.columns[kept])
    truth, half = labels[kept], groups[kept] % 2
    blend = fit_task_blend(columns, truth, weights, config.blend, families=families)
    logits = blend.logits(columns)
    for fold in (0, 1):
        fit, score = np.flatnonzero(half != fold), np.flatnonzero(half == fold)
        if 0 < truth[fit].sum() < len(fit):
            part = BlendInputs(inputs.names, columns.columns[fit])
            other = fit_task_blend(part, truth[fit], weights[fit], config.blend, families=families)
            logits[score] = other.logits(BlendInputs(inputs.names, columns.columns[score]))
    return Ablation(blend=blend, calibrator=fit_calibrator(logits, truth, weights, config.calibration))


def _thinned(labels: Float64, config: BlendConfig) -> tuple[npt.NDArray[np.intp], Float64]:
    """Return the labelled rows to fit on and their weights: all positives, and `config.negatives` of the negatives."""
    positive, negative = np.flatnonzero(labels > 0), np.flatnonzero(labels <= 0)
    if len(negative) <= config.negatives:
        kept = np.sort(np.concatenate([positive, negative]))
        return kept, np.ones(len(kept))
    chosen = np.random.default_rng(config.seed).choice(negative, config.negatives, replace=False)
    kept = np.sort(np.concatenate([positive, chosen]))
    return kept, np.where(labels[kept] > 0, 1.0, len(negative) / config.negatives)


def fit_ablations(
    models: RankingModels, newest: CutRows, config: RankingConfig, task: str | None = None
) -> dict[str, Ablation]:
    """Return one task's blend for every subset that the report compares, on the rows that the served blend saw.

    Returns:
        `encoder`, `collaborative`, `gbdt`: each family alone; `without_encoder` and so on: all but one; `all`.
    """
    chosen = task or config.main_task
    inputs = models.pair_inputs(newest.features, newest.signals, newest.applies)
    labels = labelled(newest, chosen)
    subsets: dict[str, tuple[str, ...]] = {family: (family,) for family in FAMILIES}
    subsets |= {f"without_{family}": tuple(own for own in FAMILIES if own != family) for family in FAMILIES}
    subsets["all"] = FAMILIES
    return {name: fit_calibrated(inputs, labels, newest.users, config, families) for name, families in subsets.items()}


def join_rows(parts: Sequence[TrainingRows]) -> TrainingRows:
    """Return rows of several cuts one after another; a user's list at each cut is a group of its own."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *(int(part.groups.max(initial=-1)) + 1 for part in parts)])
    return TrainingRows(
        names=parts[0].names,
        features=np.concatenate([part.features for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        groups=np.concatenate(
            [part.groups + offset for part, offset in zip(parts, offsets, strict=False)], dtype=np.int32
        ),
    )


def _fit_trees(task: str, rows: TrainingRows, config: GbdtConfig, trees: dict[str, lgb.Booster]) -> None:
    positives = int((rows.labels > 0).sum())
    if min(positives, len(rows) - positives) < _LEAST_POSITIVES:
        log.warning("trees_skipped", task=task, rows=len(rows), positives=positives, least=_LEAST_POSITIVES)
        return
    trees[task] = fit_binary(rows, config)


def _fit_task(
    task: str,
    inputs: BlendInputs,
    windows: Sequence[Float64],
    groups: Int32,
    config: RankingConfig,
    blends: dict[str, TaskBlend],
    calibrators: dict[str, Calibrator],
) -> None:
    """Fit one task's blend and curve on the first window's labels, those of `inputs`; the others tell of its rate."""
    positives = [float(np.nansum(labels)) for labels in windows]
    rows = [int((~np.isnan(labels)).sum()) for labels in windows]
    if positives[0] in (0, rows[0]):
        log.warning("task_skipped", task=task, rows=rows[0], positives=positives[0])
        return
    found = fit_calibrated(inputs, windows[0], groups, config)
    blends[task], calibrators[task] = found.blend, found.calibrator
    if found.calibrator.method == "platt":
        calibrators[task] = found.calibrator.shifted(rate_shift(positives[0] / rows[0], positives, rows))
    log.info("task_blended", task=task, rows=rows[0], positives=positives[0], calibration=found.calibrator.method)
