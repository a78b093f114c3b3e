"""`polyrank task-values`: what each task is worth to each other one, and to all of them, by exact Shapley values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

import numpy as np
from rich.console import Console

from flows.build import Build
from flows.tune.progress import Progress
from flows.tune.report import over_seeds
from flows.tune.runs import RunFailedError, Runs, exclusive
from flows.tune.sides import for_tasks, relative_gain, unmeasured
from flows.tune.study_data import StudyData, chosen_tasks, study_folder
from flows.tune.value_report import TargetValues, TaskValuesReport, write_values
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.settings import Settings
from retrieval.encoder.relatedness.shapley import MOST_TASKS, shapley_values, subsets
from retrieval.encoder.trial import Quality, Trial

FOLDER: Final = "task_values"
_RUNS: Final = "runs.jsonl"


def task_values(
    folder: str,
    *,
    seeds: int = 3,
    as_of: datetime | None = None,
    tasks: Sequence[str] | None = None,
    console: Console | None = None,
) -> TaskValuesReport:
    """Train every subset of the tasks and say which task helps which.

    Stopped at any moment, the same command goes on; more seeds, or other tasks of the same workspace, add to the runs
    that were done. A child is trained with its parents, so a parent adds nothing to a subset that has its child.

    Args:
        folder: of the workspace; every run has its configuration.
        seeds: of each subset.
        as_of: nothing at or after it is read; None takes the end of the data.
        tasks: two to five; None takes all.
        console: for progress; None takes standard error.

    Returns:
        What was found; `report.json` and `report.html` of it lie in the study's folder below `.polyrank/task_values/`.

    Raises:
        InvalidInputError: unknown tasks, fewer than two or more than five, no seed, or a task without test labels.
        RunFailedError: a subset can't be trained.
        StudyBusyError: another process is at it.
    """
    if seeds < 1:
        raise InvalidInputError(f"expected at least 1 seed, found {seeds}")
    build = Build.start(Workspace.load(folder), Settings(), as_of)
    names = chosen_tasks(build, tasks, least=2)
    if len(names) > MOST_TASKS:
        raise InvalidInputError(
            f"expected at most {MOST_TASKS} tasks, each subset of which is trained, found {len(names)} "
            f"({', '.join(names)}); choose some with --tasks"
        )
    place = study_folder(build, FOLDER, [])
    with exclusive(place):
        study = StudyData.load(build, names, place)
        drawn = tuple(study.encoder.seed + number for number in range(1, seeds + 1))
        found = _run_subsets(study, Runs(place / _RUNS), drawn, Progress(console or Console(stderr=True)))
        whole = [shapley_values(names, own.mean_gain) for own in found]
        report = TaskValuesReport(
            workspace=build.workspace.config.name,
            as_of=build.as_of,
            created_at=datetime.now(UTC),
            folder=str(place),
            seeds=drawn,
            targets=tuple(target_values(name, names, found) for name in names),
            whole={name: over_seeds([values[name] for values in whole]) for name in names},
            mean_gain=over_seeds([own.mean_gain(frozenset(names)) for own in found]),
        )
        write_values(report, place)
    return report


@dataclass(frozen=True, kw_only=True)
class SubsetRuns:
    """The runs of one seed.

    Attributes:
        qualities: on test rows, by subset of the tasks and task in it.
    """

    qualities: Mapping[frozenset[str], Mapping[str, Quality]] = field(repr=False)

    def alone(self, task: str) -> Quality:
        """Return a task's quality, trained by itself."""
        return self.qualities[frozenset({task})][task]

    def gain(self, task: str, subset: frozenset[str]) -> float:
        """Return the share of a task's error alone that training with a subset takes away."""
        return relative_gain(self.alone(task).error, self.qualities[subset | {task}][task].error)

    def mean_gain(self, subset: frozenset[str]) -> float:
        """Return the mean gain of the tasks in a subset; 0 for none."""
        return float(np.mean([self.gain(task, subset) for task in subset])) if subset else 0.0


def target_values(target: str, tasks: Sequence[str], seeds: Sequence[SubsetRuns]) -> TargetValues:
    """Return what the other tasks are worth to one.

    Args:
        target: one of the tasks.
        tasks: in order.
        seeds: the runs of each.
    """
    others = [task for task in tasks if task != target]
    found = [shapley_values(others, partial(own.gain, target)) for own in seeds]
    return TargetValues(
        target=target,
        metric=seeds[0].alone(target).metric,
        alone=over_seeds([own.alone(target).error for own in seeds]),
        helpers={task: over_seeds([values[task] for values in found]) for task in others},
        together=over_seeds([own.gain(target, frozenset(others)) for own in seeds]),
    )


def _run_subsets(study: StudyData, runs: Runs, seeds: Sequence[int], progress: Progress) -> list[SubsetRuns]:
    """Train every subset, seed after seed, and return the runs of each seed; what was done is not repeated."""
    wanted = [subset for subset in subsets(study.tasks) if subset]
    left, found = len(wanted) * len(seeds), []
    for seed in seeds:
        qualities = {}
        for subset in wanted:
            left, done = left - 1, len(runs)
            trial = _run_subset(study, runs, subset, seed)
            if len(runs) > done:
                errors = ", ".join(f"{task} {trial.test[task].error:.4f}" for task in study.tasks if task in subset)
                progress.run(f"{' + '.join(trial.tasks)}, seed {seed}", errors, left=left)
            qualities[subset] = trial.test
        found.append(SubsetRuns(qualities=qualities))
    return found


def _run_subset(study: StudyData, runs: Runs, subset: frozenset[str], seed: int) -> Trial:
    tasks = tuple(task for task in study.tasks if task in subset)
    trained = study.trained(tasks)
    config = for_tasks(study.encoder, trained).model_copy(update={"seed": seed})

    def train() -> Trial:
        result = study.attempt(config, tasks)
        if isinstance(result, str):
            raise RunFailedError(f"{', '.join(trained)}, seed {seed}: {result}")
        missing = unmeasured(result.test, tasks)
        if missing:
            raise InvalidInputError(f"expected test labels of every task, found none of {', '.join(missing)}")
        return result

    trial = runs.do("+".join(trained), config, train).trial
    assert trial is not None
    return trial
