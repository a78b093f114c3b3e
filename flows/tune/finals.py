"""The comparison: the best configuration of each side, trained with several seeds and measured on rows no run read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from flows.report import Figure
from flows.tune.report import TaskGain, over_seeds
from flows.tune.runs import Run, Runs
from flows.tune.sides import MULTI, Side, relative_gain
from flows.tune.study_data import StudyData
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.trial import Metric


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the final runs show.

    Attributes:
        gains: by task.
        mean: of the tasks' gains, over seeds.
        failed: runs that failed, in words.
    """

    gains: tuple[TaskGain, ...]
    mean: Figure | None
    failed: tuple[str, ...]


def final_runs(
    study: StudyData, runs: Runs, best: Sequence[tuple[Side, EncoderConfig]], seeds: Sequence[int]
) -> Iterator[Run]:
    """Do the runs, seed after seed, so that an unfinished comparison is fair; those that were done are not repeated.

    Args:
        study: its data.
        runs: where they are kept.
        best: each side and its best configuration.
        seeds: of the runs.
    """
    for seed in seeds:
        for side, config in best:
            own = config.model_copy(update={"seed": seed})
            yield runs.do(side.name, own, partial(study.attempt, own, side.tasks))


def compare(tasks: Sequence[str], found: Sequence[Run]) -> Comparison:
    """Compare each task's own model with the multi-task one, seed by seed.

    Args:
        tasks: in order.
        found: final runs of all sides.
    """
    metrics: dict[str, Metric] = {}
    errors: dict[tuple[str, str], dict[int, float]] = {}
    for run in found:
        if run.trial is not None:
            for task in tasks if run.side == MULTI else [run.side]:
                if task in run.trial.test:
                    quality = run.trial.test[task]
                    metrics[task] = quality.metric
                    errors.setdefault((run.side, task), {})[run.seed] = quality.error
    gains: dict[str, dict[int, float]] = {}
    rows = []
    for task in tasks:
        alone, joint = errors.get((task, task), {}), errors.get((MULTI, task), {})
        gains[task] = {seed: relative_gain(alone[seed], joint[seed]) for seed in sorted(alone.keys() & joint.keys())}
        rows.append(TaskGain.of(task, metrics.get(task), alone, joint, gains[task]))
    failed = tuple(f"{run.side}, seed {run.seed}: {run.reason}" for run in found if run.trial is None)
    means = _mean_gains(gains)
    return Comparison(gains=tuple(rows), mean=over_seeds(means) if means else None, failed=failed)


def _mean_gains(gains: Mapping[str, Mapping[int, float]]) -> list[float]:
    """Return the mean over the tasks that were compared, for each seed that has all of them."""
    compared = [own for own in gains.values() if own]
    if not compared:
        return []
    seeds = set.intersection(*(set(own) for own in compared))
    return [float(np.mean([own[seed] for own in compared])) for seed in sorted(seeds)]
