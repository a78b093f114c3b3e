"""`polyrank tune`: search on both sides with one budget, then compare what was found with several seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import yaml
from rich.console import Console

from flows.build import Build
from flows.tune.finals import compare, final_runs
from flows.tune.page import write
from flows.tune.progress import Progress
from flows.tune.report import SideSearch, TrialRow, TuneReport
from flows.tune.runs import Run, Runs, exclusive
from flows.tune.search import Search, open_storage
from flows.tune.sides import MULTI, Side, for_tasks
from flows.tune.space import Point, Space, configured, nested, shortened
from flows.tune.study_data import StudyData, chosen_tasks, study_folder
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.settings import Settings
from retrieval.encoder.trial import Trial

FOLDER: Final = "tune"
_FINALS: Final = "finals.jsonl"


def tune(
    folder: str,
    *,
    trials: int = 20,
    seeds: int = 3,
    as_of: datetime | None = None,
    tasks: Sequence[str] | None = None,
    timeout: timedelta | None = None,
    console: Console | None = None,
) -> TuneReport:
    """Search the encoder's configuration for the multi-task model and for each task's own, and compare the best.

    Every side gets the same number of trials, the first of them the workspace's own configuration. Stopped at any
    moment, the same command goes on; more trials or seeds add to those that were done.

    Args:
        folder: of the workspace; its `tune` section says what is searched.
        trials: of each side, failed ones included.
        seeds: of the comparison, on rows that no trial was chosen by.
        as_of: nothing at or after it is read; None takes the end of the data.
        tasks: at least two; None takes all.
        timeout: no further round of trials (one on every side) begins after it; the comparison still follows.
        console: for progress; None takes standard error.

    Returns:
        What was found; `report.json`, `report.html` and `best.yaml` of it lie in the study's folder below
        `.polyrank/tune/`.

    Raises:
        InvalidInputError: unknown tasks or fewer than two, no trial, no seed, or a space that the workspace's own
            configuration can't lie in.
        SearchError: the workspace's own configuration can't be trained, or nothing on one side.
        StudyBusyError: another process is at it.
    """
    if trials < 1 or seeds < 1:
        raise InvalidInputError(f"expected at least 1 trial and 1 seed, found {trials} and {seeds}")
    build = Build.start(Workspace.load(folder), Settings(), as_of)
    names = chosen_tasks(build, tasks, least=2)
    place = study_folder(build, FOLDER, names, "tune")
    with exclusive(place):
        tuning = _Tuning.start(build, names, place, console or Console(stderr=True))
        rounds = tuning.search(trials, timeout, then=seeds * len(tuning.searches))
        searches, runs = tuning.compare(rounds, seeds)
        comparison = compare(names, runs)
        report = TuneReport(
            workspace=build.workspace.config.name,
            as_of=build.as_of,
            created_at=datetime.now(UTC),
            folder=str(place),
            trials=rounds,
            wanted=trials,
            seeds=tuple(dict.fromkeys(run.seed for run in runs)),
            searches=searches,
            gains=comparison.gains,
            mean_gain=comparison.mean,
            failed_runs=comparison.failed,
            best=_best_lines(searches[0]),
        )
        write(report, place)
    return report


@dataclass(frozen=True, kw_only=True)
class _Tuning:
    """One study at work.

    Attributes:
        study: data and configuration.
        searches: of each side, the multi-task one first.
        runs: of the comparison.
        progress: of all of them.
    """

    study: StudyData
    searches: tuple[Search, ...]
    runs: Runs
    progress: Progress

    @classmethod
    def start(cls, build: Build, tasks: tuple[str, ...], place: Path, console: Console) -> Self:
        """Load the data and what was done before."""
        study = StudyData.load(build, tasks, place)
        storage, config = open_storage(place), build.workspace.config.tune
        searches = []
        for name, judged in ((MULTI, tasks), *((task, (task,)) for task in tasks)):
            side = Side(name=name, tasks=judged, trained=study.trained(judged))
            own = for_tasks(study.encoder, side.trained)
            if side.joint:
                kinds = {task.name: task.kind for task in study.data.tasks if task.name in side.trained}
                own = own.model_copy(update={"balance": own.balance.for_tasks(kinds)})
            space = Space.around(config, own, side.trained if side.joint else judged)
            searches.append(Search(storage, side, space, own, config.seed))
        return cls(study=study, searches=tuple(searches), runs=Runs(place / _FINALS), progress=Progress(console))

    def search(self, trials: int, timeout: timedelta | None, *, then: int) -> int:
        """Do the trials round by round, so that a search out of time is fair; return how many each side has.

        Args:
            trials: of each side.
            timeout: no round begins after it.
            then: runs that follow, for the time that is left.
        """
        began = time.monotonic()
        for number in range(trials):
            waiting = [search for search in self.searches if len(search.settled) <= number]
            late = timeout is not None and time.monotonic() - began > timeout.total_seconds()
            if late and number and len(waiting) == len(self.searches):
                self.progress.say(f"out of time after {number} of {trials} trials; the same command goes on from here")
                return number
            for search in waiting:
                row = search.step(self._trainer(search))
                done = sum(min(trials, len(each.settled)) for each in self.searches)
                what = f"trial {number + 1} of {trials}, {search.side.name}"
                self.progress.run(what, _words(row, search.rows), left=trials * len(self.searches) - done + then)
        return trials

    def compare(self, trials: int, seeds: int) -> tuple[tuple[SideSearch, ...], tuple[Run, ...]]:
        """Train the best of the first so many trials of each side with several seeds."""
        found = tuple(search.report(trials) for search in self.searches)
        best = [
            (search.side, configured(search.encoder, report.winner.point))
            for search, report in zip(self.searches, found, strict=True)
        ]
        # Not the search's own seed, by which the best were chosen.
        drawn = [self.study.encoder.seed + number for number in range(1, seeds + 1)]
        left, runs, done = len(drawn) * len(best), [], len(self.runs)
        for run in final_runs(self.study, self.runs, best, drawn):
            left -= 1
            runs.append(run)
            if len(self.runs) > done:
                self.progress.run(f"comparison, {run.side}, seed {run.seed}", _measured(run), left=left)
            done = len(self.runs)
        return found, tuple(runs)

    def _trainer(self, search: Search) -> Callable[[Point], Trial | str]:
        return lambda point: self.study.attempt_point(search.encoder, point, search.side.tasks)


def _best_lines(search: SideSearch) -> str:
    """Return the winning multi-task configuration as lines of the workspace file."""
    content = {"encoder": nested(shortened(search.winner.point))}
    return yaml.safe_dump(content, sort_keys=True, allow_unicode=True)


def _words(row: TrialRow, rows: Sequence[TrialRow]) -> str:
    if row.error is None:
        return f"failed ({row.reason})"
    best = min((one for one in rows if one.error is not None), key=lambda one: one.error or 0.0)
    return f"{row.error:.4f}, best {best.error:.4f} (trial {best.number + 1})"


def _measured(run: Run) -> str:
    if run.trial is None:
        return f"failed ({run.reason})"
    return ", ".join(f"{task} {quality.error:.4f}" for task, quality in run.trial.test.items())
