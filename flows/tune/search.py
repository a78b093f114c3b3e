"""One side's trials by Optuna: kept in a journal, so that a search goes on where it was stopped.

The sampler is seeded anew for each trial by the trial's number: a sampler that lived through the search would begin its
random numbers again with every restart, and propose the same points twice. So a search that was stopped proposes what
one that ran through would have.

No trial is pruned. Errors of one task and means over tasks fall at different rates, so any rule for giving up early
would be kinder to one side.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from flows.tune.config import Range, Scalar
from flows.tune.report import SideSearch, TrialRow
from flows.tune.runs import drop_half_line
from flows.tune.sides import Side, mean_relative_error, own_error
from flows.tune.space import Dimension, Point, Space
from infra.errors import InvalidInputError
from retrieval.encoder.balance.config import BLIND_TO_IMPORTANCE
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.trial import Trial

JOURNAL: Final = "trials.log"
_RUN, _POINT, _SECONDS, _REASON = "run", "point", "seconds", "reason"
_METHOD: Final = "balance.method"
# A forest says nothing of fewer trials than this.
_LEAST_FOR_IMPORTANCE: Final = 4

Train = Callable[[Point], Trial | str]


class SearchError(InvalidInputError):
    """Nothing that was tried could be trained."""

    title = "Search failed"


class Search:
    """The trials of one side.

    Args:
        storage: of all sides.
        side: whose they are.
        space: around the workspace's own point.
        encoder: the workspace's own configuration for this side.
        seed: of the search.
    """

    def __init__(self, storage: BaseStorage, side: Side, space: Space, encoder: EncoderConfig, seed: int) -> None:
        self.side, self.space, self.encoder, self.seed = side, space, encoder, seed
        self._study = optuna.create_study(storage=storage, study_name=side.name, load_if_exists=True)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Its process is gone. Without a reason it counts as none, and the same point is proposed again.
            self._study.tell(trial.number, state=TrialState.FAIL)

    @property
    def settled(self) -> list[FrozenTrial]:
        """Trials that ended, in order: finished, or failed for a reason."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
        return [trial for trial in trials if trial.state == TrialState.COMPLETE or _REASON in trial.user_attrs]

    def step(self, train: Train) -> TrialRow:
        """Do the next trial.

        Raises:
            SearchError: the workspace's own configuration failed as the multi-task model, against which the others are
                measured.
        """
        self._check_reference()
        number = len(self.settled)
        if number == 0 and not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.enqueue_trial(self.space.own)
        self._study.sampler = TPESampler(seed=int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]))
        trial = self._study.ask()
        point = self._point(trial)
        began = time.perf_counter()
        result = train(point)
        for key, value in ((_POINT, point), (_SECONDS, time.perf_counter() - began)):
            trial.set_user_attr(key, value)
        if isinstance(result, str):
            trial.set_user_attr(_REASON, result)
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            trial.set_user_attr(_RUN, result.model_dump(mode="json"))
            self._study.tell(trial, self._error(result))
        self._check_reference()
        return self.rows[-1]

    @property
    def rows(self) -> tuple[TrialRow, ...]:
        """The trials so far."""
        return tuple(_row(number, trial) for number, trial in enumerate(self.settled))

    def report(self, trials: int) -> SideSearch:
        """Return the first so many trials and the best of them.

        Raises:
            SearchError: all failed.
        """
        rows = self.rows[:trials]
        found = [row for row in rows if row.error is not None]
        if not found:
            reasons = "; ".join(dict.fromkeys(row.reason for row in rows))
            raise SearchError(
                f"{self.side.name}: expected one of {len(rows)} trials to train, found that all failed: {reasons}"
            )
        best = min(found, key=lambda row: (cast("float", row.error), row.number))
        measure = "validation error"
        if self.side.joint:
            measure = "mean validation error over that of the workspace's own configuration"
        return SideSearch(
            side=self.side.name, measure=measure, trials=rows, best=best.number, importance=self._importance(len(found))
        )

    def _point(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """Draw a point; importances stay equal under a method that makes all gradients count alike."""
        point = {dimension.key: _draw(trial, dimension) for dimension in self.space.dimensions}
        method = point.get(_METHOD, self.encoder.balance.method)
        if method not in BLIND_TO_IMPORTANCE:
            point |= {dimension.key: _draw(trial, dimension) for dimension in self.space.weights}
        return point

    def _error(self, trial: Trial) -> float:
        if not self.side.joint:
            return own_error(trial, self.side.tasks[0])
        settled = self.settled
        reference = Trial.model_validate(settled[0].user_attrs[_RUN]) if settled else trial
        return mean_relative_error(trial, reference, self.side.tasks)

    def _check_reference(self) -> None:
        settled = self.settled[:1]
        if self.side.joint and settled and settled[0].state == TrialState.FAIL:
            raise SearchError(
                "expected the workspace's own configuration to train, since the others are measured against it, found: "
                f"{settled[0].user_attrs[_REASON]}"
            )

    def _importance(self, finished: int) -> dict[str, float]:
        """Return fANOVA's importances (Hutter et al., 2014) of the options that every finished trial has."""
        if finished < _LEAST_FOR_IMPORTANCE or len({row.error for row in self.rows} - {None}) == 1:
            return {}
        found = get_param_importances(self._study, evaluator=FanovaImportanceEvaluator(seed=self.seed))
        return {name: float(value) for name, value in found.items()}


def open_storage(folder: Path) -> BaseStorage:
    """Return the journal of a study's trials; only the study's owner may open it (see `runs.exclusive`)."""
    # Optuna's own handler writes to standard error; its warnings go to ours instead.
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / JOURNAL
    drop_half_line(path)
    # Left by a writer that was killed: Optuna would wait half a minute for it.
    path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


def _draw(trial: optuna.Trial, dimension: Dimension) -> Scalar:
    key, values = dimension.key, dimension.values
    if not isinstance(values, Range):
        return trial.suggest_categorical(key, values)
    if dimension.count:
        return trial.suggest_int(key, int(values.low), int(values.high), log=values.log)
    return dimension.settle(trial.suggest_float(key, float(values.low), float(values.high), log=values.log))


def _row(number: int, trial: FrozenTrial) -> TrialRow:
    attributes = trial.user_attrs
    return TrialRow(
        number=number,
        point=attributes[_POINT],
        error=trial.value if trial.state == TrialState.COMPLETE else None,
        seconds=attributes[_SECONDS],
        reason=attributes.get(_REASON, ""),
    )
