"""Gradient-boosted trees: one binary model per task and one LambdaRank model over users' candidate lists.

Models are fitted on rows of one or more cuts and stored as LightGBM's own text. Prediction is the one place that knows
LightGBM's interface: `Booster.predict` with one thread costs the same as the C call beneath it at 100 and 500 rows
(measured: 1.9 and 1.8 ms, 10.8 and 11.2 ms for 300 trees of 63 leaves on busy cores), so the plain call is used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from features.schema import Float32, Int32
from infra.errors import InvalidInputError
from infra.files import write_atomic

RawScores = npt.NDArray[np.float64]

# LambdaRank looks at pairs whose better item lies in the first positions; twice the reported cut-off of 10 and some.
_TRUNCATION: Final = 30
# So many rows are no request's.
_BULK: Final = 10_000
# Rows x trees (about .3 ms) from which another thread is worth waking; 1,000 to 16,000 measured alike.
_OWN_THREAD: Final = 8_000


class TrainingRowsError(InvalidInputError):
    """Training rows that no model can be fitted on."""


class GbdtConfig(BaseModel):
    """How the trees are grown.

    Attributes:
        num_leaves: leaves a tree.
        learning_rate: shrinkage.
        rounds: most trees.
        early_stopping_rounds: stop after so many trees without a better held-out loss.
        min_data_in_leaf: least rows a leaf.
        feature_fraction: share of the features each tree may use.
        lambda_l2: L2 penalty on leaf values.
        negative_rate: share of negatives kept; in a binary model each kept one weighs 1 / rate, so that the mean
            prediction stays the mean label.
        holdout_share: share of users held out for early stopping.
        exclude: prefixes of feature names that the trees may not use, such as `signal_head_`.
        seed: of the sampling and of LightGBM.
        threads: for fitting; 0 takes all cores.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_leaves: int = Field(default=31, ge=2)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    rounds: int = Field(default=300, ge=1)
    early_stopping_rounds: int = Field(default=30, ge=1)
    min_data_in_leaf: int = Field(default=100, ge=1)
    feature_fraction: float = Field(default=0.7, gt=0, le=1)
    lambda_l2: float = Field(default=5.0, ge=0)
    negative_rate: float = Field(default=0.5, gt=0, le=1)
    holdout_share: float = Field(default=0.1, gt=0, lt=1)
    exclude: tuple[str, ...] = ()
    seed: int = 0
    threads: int = Field(default=0, ge=0)


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Rows of one task.

    Attributes:
        names: the features' names.
        features: float32 `[m, len(names)]`, C-contiguous.
        labels: float32 `[m]` of 0 and 1.
        weights: float32 `[m]`, positive.
        groups: int32 `[m]`; rows of one list (a user at a cut) are adjacent and share a number.
    """

    names: tuple[str, ...]
    features: Float32
    labels: Float32
    weights: Float32
    groups: Int32

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> TrainingRows:
        """Return the selected rows, in their order."""
        return TrainingRows(
            names=self.names,
            features=self.features[rows],
            labels=self.labels[rows],
            weights=self.weights[rows],
            groups=self.groups[rows],
        )


def fit_binary(rows: TrainingRows, config: GbdtConfig) -> lgb.Booster:
    """Fit the log-odds of a positive label.

    Args:
        rows: training rows, their negatives already thinned and weighted (`thinned`).
        config: how; a share of the users is held out for early stopping.

    Raises:
        TrainingRowsError: the labels hold a single class.
    """
    train, stop = _split(rows, config)
    _require_both_classes(train, "binary GBDT")
    parameters = {"objective": "binary", "metric": "binary_logloss"}
    return _fit(_dataset(train), _dataset(stop) if len(stop) else None, rows.names, parameters, config)


def fit_rank(rows: TrainingRows, config: GbdtConfig) -> lgb.Booster:
    """Fit LambdaRank (Burges 2010) over each group's list; groups of one class teach no order and are left out.

    Raises:
        TrainingRowsError: no group holds both a positive and a negative.
    """
    # All negatives of a list count alike, so those that were kept need no weight.
    train, stop = _split(replace(rows, weights=np.ones_like(rows.weights)), config)
    train, stop = _mixed_groups(train), _mixed_groups(stop)
    _require_both_classes(train, "LambdaRank")
    parameters = {
        "objective": "lambdarank", "metric": "ndcg", "eval_at": [10], "lambdarank_truncation_level": _TRUNCATION,
    }  # fmt: skip
    lists = _dataset(train, group_sizes(train.groups))
    stop_lists = _dataset(stop, group_sizes(stop.groups)) if len(stop) else None
    return _fit(lists, stop_lists, rows.names, parameters, config)


def predict_raw(booster: lgb.Booster, features: Float32) -> RawScores:
    """Return raw scores (log-odds of a binary model), float64 `[n]`; a row's score doesn't depend on the others.

    Args:
        booster: a loaded model; LightGBM's predictions may run from several threads at once. A request's rows run on
            one thread, an evaluation's on all cores.
        features: float32 `[n, f]`, C-contiguous, columns as fitted.
    """
    if len(features) == 0:
        return np.empty(0)
    threads = 1 if len(features) < _BULK else 0
    return np.asarray(booster.predict(features, raw_score=True, num_threads=threads), np.float64)


def predict_raw_each(models: Sequence[tuple[lgb.Booster, Float32]]) -> list[RawScores]:
    """Return the raw scores of several models, each of its own rows, large ones side by side on the machine's cores.

    LightGBM lets go of the GIL, but to wake a thread costs what a small model takes. So the caller's thread runs the
    largest model and every small one: for 500 rows of one user's candidates that took scoring from 6.6 ms (all in one
    thread, or all but one in others, alike) to 5.2, for 100 rows from 3.2 (2.8 in one thread) to 2.5.
    """
    if any(len(features) >= _BULK for _, features in models):
        return [predict_raw(*model) for model in models]
    work = [len(features) * booster.num_trees() for booster, features in models]
    largest = max(range(len(models)), key=work.__getitem__, default=0)
    sent = {
        place: _pool().submit(predict_raw, *model)
        for place, model in enumerate(models)
        if place != largest and work[place] >= _OWN_THREAD
    }
    own = {place: predict_raw(*model) for place, model in enumerate(models) if place not in sent}
    return [sent[place].result() if place in sent else own[place] for place in range(len(models))]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="trees")


def contributions(booster: lgb.Booster, features: Float32) -> RawScores:
    """Return TreeSHAP contributions, float64 `[n, f + 1]`, the last column the expected raw score.

    A row's contributions sum to its raw score. Costs about 10 ms a row for 300 trees of 63 leaves: for the few items
    shown, never for all candidates. Lundberg et al. 2018, arXiv:1802.03888.
    """
    return np.asarray(booster.predict(features, pred_contrib=True, num_threads=1), np.float64)


def save(booster: lgb.Booster, path: Path) -> None:
    """Write the model as LightGBM text, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, booster.model_to_string().encode())


def load(path: Path) -> lgb.Booster:
    """Read what `save` wrote."""
    return lgb.Booster(model_str=path.read_text())


def thinned(labels: Float32, rate: float, seed: int) -> tuple[npt.NDArray[np.intp], Float32]:
    """Return the rows to train on, all positives and each negative with probability `rate`, and their weights.

    Args:
        labels: float32 `[m]`.
        rate: share of negatives kept.
        seed: of the draw.

    Returns:
        Ascending rows and float32 weights of the same length: 1 for a positive, 1 / rate for a negative.
    """
    kept = (labels > 0) | (np.random.default_rng(seed).random(len(labels)) < rate)
    rows = np.flatnonzero(kept)
    return rows, np.where(labels[rows] > 0, 1, 1 / rate).astype(np.float32)


def _split(rows: TrainingRows, config: GbdtConfig) -> tuple[TrainingRows, TrainingRows]:
    """Return training rows and early-stopping rows: whole groups on one side or the other."""
    groups = np.unique(rows.groups)
    count = max(1, round(len(groups) * config.holdout_share))
    chosen = np.random.default_rng(config.seed).permutation(groups)[:count]
    stop = np.isin(rows.groups, chosen)
    return rows.take(~stop), rows.take(stop)


def _require_both_classes(rows: TrainingRows, model: str) -> None:
    positives = int((rows.labels > 0).sum())
    if positives in (0, len(rows)):
        raise TrainingRowsError(f"{model}: expected rows of both labels, found {positives} positives of {len(rows)}")


def group_sizes(groups: Int32) -> Int32:
    """Return the length of each run of equal numbers, int32 `[number of runs]`."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1 if len(groups) == 0 else groups[0] - 1))
    return np.diff(starts, append=len(groups)).astype(np.int32)


def _mixed_groups(rows: TrainingRows) -> TrainingRows:
    """Return the rows of groups that hold a positive and a negative."""
    _, inverse = np.unique(rows.groups, return_inverse=True)
    positives = np.bincount(inverse, weights=rows.labels > 0)
    sizes = np.bincount(inverse)
    mixed = (positives > 0) & (positives < sizes)
    return rows.take(mixed[inverse])


def _dataset(rows: TrainingRows, sizes: Int32 | None = None) -> lgb.Dataset:
    return lgb.Dataset(
        rows.features, label=rows.labels, weight=rows.weights, group=sizes, feature_name=list(rows.names)
    )


def _fit(
    train: lgb.Dataset, stop: lgb.Dataset | None, names: tuple[str, ...], parameters: dict[str, Any], config: GbdtConfig
) -> lgb.Booster:
    parameters = parameters | {
        "num_leaves": config.num_leaves,
        "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.min_data_in_leaf,
        "feature_fraction": config.feature_fraction,
        "lambda_l2": config.lambda_l2,
        "num_threads": config.threads,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
        # A gain multiplied by zero is never the best split: the column keeps its place and is not used.
        "feature_contri": [0.0 if name.startswith(config.exclude) else 1.0 for name in names],
    }
    if stop is None:
        booster = lgb.train(parameters, train, config.rounds)
    else:
        stop.set_reference(train)
        patience = lgb.early_stopping(config.early_stopping_rounds, verbose=False)
        booster = lgb.train(parameters, train, config.rounds, valid_sets=[stop], callbacks=[patience])
    # Through its text, so that the fitted and the loaded model are the same object and the training data is freed.
    return lgb.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
