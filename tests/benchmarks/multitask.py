"""Single-task against multi-task training of the encoder: every task's error on rows no run read, by method and seed.

usage: python tests/benchmarks/multitask.py -w WORKSPACE [--as-of DATE] [--seeds 5] [--methods volume dual] [--by loss]
           [--results FILE] [--show]

Every run has the workspace's budget of steps, batches and early stopping; what differs is the tasks in it and how they
are balanced. A run trains on the encoder's cuts, stops by its validation cut, and is measured on the oldest ranker cut
(`retrieval.encoder.trial` says by what). Finished runs are lines of RESULTS (by default below the workspace) and never
repeated, so that the command can be stopped and started again; it prints the table of all runs so far, and with
`--show` nothing else. A run of other sections of the workspace, another time or other code of the encoder stays in the
file and out of the table. `tests/benchmarks/results/` holds runs to go on from.

`gain` is the relative fall of the error from the single-task model of the same seed, positive when better. Intervals
are 95% Student intervals over seeds. A task loses when its mean error is above the single-task one by over one standard
deviation of that one's over seeds. `--by loss` compares what no threshold is in: the loss over its constant's, of which
a class's accuracy and a pair's order are coarse shadows. Yes-or-no heads on pairs and users are calibrated by ranking
alone, so their own loss also tells how sure they are.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from features.tasks import TaskSpec
from flows.build import Build
from flows.cli import parse_as_of
from flows.steps import source_hash
from flows.tune.report import over_seeds
from flows.tune.runs import append_line, drop_half_line
from flows.tune.study_data import study_data
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.state_store import Memory
from retrieval.encoder.trial import Quality, Trial, run_trial

CONSOLE = Console(width=140)
SINGLE = "single-task"

Measure = Literal["error", "loss"]


class Run(BaseModel):
    """One line of the results.

    Attributes:
        study: what was trained how, as of when and by which code; runs of one study compare.
        method: of balancing, or `single-task`.
        task: or `all`.
        seed: of everything drawn.
        trial: what was measured.
    """

    study: str
    method: str
    task: str
    seed: int
    trial: Trial


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    results: Path = arguments.results or workspace.folder / "multitask.jsonl"
    study = study_of(workspace, arguments.as_of)
    if not arguments.show:
        train(workspace, study, results, arguments)
    show([run for run in read(results) if run.study == study], workspace.config.tasks, arguments.by)
    other = sum(run.study != study for run in read(results))
    if other:
        CONSOLE.print(f"{other} runs of {results} are of another configuration, time or code", highlight=False)


def study_of(workspace: Workspace, as_of: datetime | None) -> str:
    """Return what tells a study's runs from those of others."""
    sections = workspace.config_hash("features", "time", "eligible", "texts", "tasks", "encoder")
    key = f"{sections} {as_of} {source_hash('retrieval.encoder')}"
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def train(workspace: Workspace, study: str, results: Path, arguments: argparse.Namespace) -> None:
    """Train and measure what the results lack."""
    data = study_data(Build.start(workspace, Settings(), arguments.as_of))
    drop_half_line(results)
    done = {(run.method, run.task, run.seed) for run in read(results) if run.study == study}
    memory = Memory()
    for method, name, seed in plans(data.tasks, arguments.methods, arguments.seeds):
        if (method, name, seed) in done:
            continue
        names = [task.name for task in data.tasks] if name == "all" else [name]
        trial = run_trial(data, own_config(workspace.config.encoder, method, seed), names, memory=memory)
        append_line(results, Run(study=study, method=method, task=name, seed=seed, trial=trial).model_dump_json())
        errors = {task: round(quality.error, 4) for task, quality in trial.test.items()}
        CONSOLE.print(f"{method} {name} seed {seed}: {errors} in {trial.seconds:.0f} s", highlight=False)


def plans(tasks: Sequence[EncoderTask], methods: Sequence[str], seeds: int) -> Iterator[tuple[str, str, int]]:
    """Yield (method, task or "all", seed) of every run: a seed after the other, so that an unfinished study is fair."""
    for seed in range(seeds):
        yield from ((SINGLE, task.name, seed) for task in tasks)
        yield from ((method, "all", seed) for method in methods)


def own_config(config: EncoderConfig, method: str, seed: int) -> EncoderConfig:
    """Return the workspace's configuration with this method and seed."""
    balance = config.balance.model_copy(update={"method": "static" if method == SINGLE else method})
    return config.model_copy(update={"seed": seed, "balance": balance})


def show(runs: Sequence[Run], tasks: Sequence[TaskSpec], by: Measure) -> None:
    """Print each task's measure and gain by method, and the mean gain."""
    methods = list(dict.fromkeys(run.method for run in runs if run.method != SINGLE))
    table = Table(
        title=f"{by.capitalize()} on rows that no run read, and gain over single-task training", title_justify="left"
    )
    for column in ("task", "metric", "single-task", *(f"{method}: gain, %" for method in methods)):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    gains: dict[str, dict[int, list[float]]] = {method: {} for method in methods}
    for task in tasks:
        alone = {
            run.seed: of(run.trial.test[task.name], by)
            for run in runs
            if (run.method, run.task) == (SINGLE, task.name) and task.name in run.trial.test
        }
        metric = next((run.trial.test[task.name].metric for run in runs if task.name in run.trial.test), "")
        cells = [task.name, metric if by == "error" else "loss", _interval(list(alone.values()), 4)]
        for method in methods:
            found = {
                run.seed: of(run.trial.test[task.name], by)
                for run in runs
                if run.method == method and run.seed in alone and task.name in run.trial.test
            }
            own = {seed: 100 * (alone[seed] - error) / alone[seed] for seed, error in found.items()}
            for seed, gain in own.items():
                gains[method].setdefault(seed, []).append(gain)
            worse = len(own) > 1 and np.mean(list(found.values())) > np.mean(list(alone.values())) + _deviation(alone)
            cells.append(f"{_interval(list(own.values()), 2)}{' loses' if worse else ''}")
        table.add_row(*cells)
    means = ([float(np.mean(values)) for values in gains[method].values()] for method in methods)
    table.add_row("mean of tasks", "", "", *(_interval(values, 2) for values in means))
    CONSOLE.print(table)
    CONSOLE.print(f"{len(runs)} runs", highlight=False)


def of(quality: Quality, by: Measure) -> float:
    """Return what is compared; lower is better."""
    return quality.error if by == "error" else quality.loss


def _deviation(values: dict[int, float]) -> float:
    return float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else 0.0


def _interval(values: Sequence[float], digits: int) -> str:
    if len(values) < 2:
        return " ".join(f"{value:.{digits}f}" for value in values)
    found = over_seeds(values)
    assert found.high is not None
    return f"{found.value:.{digits}f} ± {found.high - found.value:.{digits}f}"


def read(path: Path) -> list[Run]:
    """Return the finished runs."""
    return [Run.model_validate_json(line) for line in path.read_text().splitlines()] if path.exists() else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["volume", "static", "uncertainty", "dual", "aligned_mtl"])
    parser.add_argument("--by", choices=get_args(Measure), default="error")
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--show", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
