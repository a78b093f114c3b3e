"""Tasks on texts, one model of all against a model of each: every metric on the texts held for a test.

usage: python tests/benchmarks/texts.py -w WORKSPACE [--seeds 5] [--joint-only] [--task NAME ...]

Each run is a release of its own, built, shipped and evaluated as `polyrank refresh model` and `polyrank evaluate` do
it, from the workspace's file but for the tasks and the seed. Its steps lie in the workspace's `.polyrank/`, so that the
command can be stopped and started again. Figures are means over seeds with a 95% Student interval; `gain` is the joint
model's figure less the single one's of the same seed, positive when better.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.build import Build
from flows.evaluate import evaluate_release
from flows.report.texts import LOWER_IS_BETTER, TextMetric
from flows.stages.release import ReleaseParts
from flows.tune.report import over_seeds
from flows.workspace import Workspace
from infra.settings import Settings

CONSOLE = Console(width=120)
Key = tuple[str, TextMetric]
Figures = dict[Key, float]


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    names = [task.name for task in workspace.config.tasks]
    names = [name for name in names if name in (arguments.task or names)]
    joint: dict[Key, list[float]] = defaultdict(list)
    single: dict[Key, list[float]] = defaultdict(list)
    for seed in range(arguments.seeds):
        for key, value in figures(workspace, names, seed).items():
            joint[key].append(value)
        for name in () if arguments.joint_only or len(names) == 1 else names:
            for key, value in figures(workspace, [name], seed).items():
                single[key].append(value)
        show(joint, single, seed + 1)


def figures(workspace: Workspace, names: Sequence[str], seed: int) -> Figures:
    """Build and evaluate a release of these tasks, and return its figures by task and metric."""
    config = workspace.config
    encoder = config.encoder.model_copy(update={"seed": seed})
    tasks = tuple(
        task.model_copy(update={"energy": tuple(name for name in task.energy if name in names)})
        for task in config.tasks
        if task.name in names
    )
    own = replace(workspace, config=config.model_copy(update={"encoder": encoder, "tasks": tasks}))
    build = Build.start(own, Settings(), None)
    trained = build.encoder()
    scene = build.scene(build.as_of, trained) if own.config.parts.items else None
    release = build.release(ReleaseParts(encoder=trained, scene=scene))
    report = evaluate_release(own, release, None)
    found = {(row.task, own.metric): own.figure.value for row in report.texts for own in row.figures}
    CONSOLE.print(f"seed {seed}, {', '.join(names)}: {len(found)} figures", highlight=False)
    return found


def show(joint: dict[Key, list[float]], single: dict[Key, list[float]], seeds: int) -> None:
    """Print every metric of both, and the gain."""
    table = Table(title=f"Texts held for the test, seeds: {seeds}", title_justify="left")
    for column in ("task", "metric", "one model of all", "one of each", "gain"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for (task, metric), values in joint.items():
        alone = single.get((task, metric), [])
        sign = -1 if metric in LOWER_IS_BETTER else 1
        gains = [sign * (both - own) for both, own in zip(values, alone, strict=False)]
        table.add_row(task, metric, _interval(values), _interval(alone), _interval(gains))
    CONSOLE.print(table)


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return " ".join(f"{value:.4f}" for value in values)
    found = over_seeds(list(values))
    assert found.high is not None
    return f"{found.value:.4f} ± {found.high - found.value:.4f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--joint-only", action="store_true", help="leave the models of single tasks out")
    parser.add_argument("--task", nargs="+", default=[], help="tasks of both; all where none is named")
    return parser.parse_args()


if __name__ == "__main__":
    main()
