"""Single-task against multi-task training of the encoder: held-out quality of every task by method and seed.

usage: python tests/benchmarks/multitask.py -w WORKSPACE [--as-of DATE] [--seeds 5] [--methods static dual]

Every run has the workspace's budget of steps, batches and early stopping; what differs is the tasks in it and how they
are balanced. A run trains on the encoder's cuts, stops by its validation cut, and is measured on the oldest ranker cut,
which no run reads. Runs are kept as lines of RESULTS (by default below the workspace) and never repeated, so that the
command can be stopped and started again; it prints the table of all runs so far.

Measures: AUC for binary tasks, InfoNCE over that of equal scores for a contrastive one, squared error over the
variance's for a number. `gain` is the relative gain over the single-task model of the same seed, positive when better:
of 1 - AUC or of the loss. Intervals are 95% Student intervals over seeds; a task loses when its gain is below minus one
standard deviation of the single-task measure over seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from flows.build import Build
from flows.cli import parse_as_of
from flows.stages.encode import training_data
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import start_heads
from retrieval.encoder.data import CutData, EncoderTask, TrainingData
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.step import batch_features
from retrieval.encoder.train import train
from retrieval.evaluate import auc

CONSOLE = Console(width=120)
SINGLE = "single"
TEST_BATCHES = 24


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    results = arguments.results or workspace.folder / "multitask.jsonl"
    data, test = load(workspace, arguments)
    done = {(row["method"], row["task"], row["seed"]) for row in read(results)}
    for seed in range(arguments.seeds):
        for method, tasks in plans(data.tasks, arguments.methods):
            name = tasks[0].name if method == SINGLE else "all"
            if (method, name, seed) in done:
                continue
            row = run(data, test, workspace.config.encoder, method, tasks, seed)
            with results.open("a") as file:
                file.write(json.dumps({"method": method, "task": name, "seed": seed, **row}) + "\n")
            CONSOLE.print(f"{method} {name} seed {seed}: {row['measures']} in {row['seconds']:.0f} s", highlight=False)
    show(read(results), data.tasks)


def plans(tasks: Sequence[EncoderTask], methods: Sequence[str]) -> list[tuple[str, tuple[EncoderTask, ...]]]:
    """Return every run of a seed: each task alone (a child with its parents), then all by each method."""
    by_name = {task.name: task for task in tasks}
    alone = []
    for task in tasks:
        family = [task]
        while family[-1].parent is not None:
            family.append(by_name[family[-1].parent])
        alone.append((SINGLE, tuple(family)))
    return [*alone, *((method, tuple(tasks)) for method in methods)]


def load(workspace: Workspace, arguments: argparse.Namespace) -> tuple[TrainingData, CutData]:
    """Return the training data and the cut to measure on, which comes after all of it."""
    build = Build.start(workspace, Settings(), arguments.as_of)
    plan = build.plan
    after = min(plan.ranker)
    cuts = (*plan.encoder_training, plan.encoder_validation, after)
    frames = {cut: build.frames(cut) for cut in cuts}
    data = training_data(build.data, build.tasks, plan, frames)
    later = training_data(build.data, build.tasks, replace(plan, encoder_validation=after), frames)
    assert later.validation is not None
    return data, later.validation


def run(
    data: TrainingData, test: CutData, config: EncoderConfig, method: str, tasks: Sequence[EncoderTask], seed: int
) -> dict[str, Any]:
    """Train once and measure every task of the run on the test cut."""
    ordered = tuple(task for task in data.tasks if task in tasks)
    balance = config.balance.model_copy(update={"method": "static" if method == SINGLE else method})
    own = config.model_copy(update={"seed": seed, "balance": balance})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        result = train(replace(data, tasks=ordered), own, out=Path(out), progress=False)
    seconds = time.perf_counter() - began
    assert data.validation is not None
    held = replace(data, tasks=ordered, train=(data.validation,), validation=test)
    prepared = prepare(held, own)
    start_heads(prepared.model, [prepared.batcher(own.batch)(np.random.default_rng(0))])
    prepared.model.load_state_dict(result.model.state_dict())
    return {
        "measures": {name: round(value, 5) for name, value in measure(prepared, own).items()},
        "steps": result.steps,
        "seconds": seconds,
    }


@torch.no_grad()
def measure(prepared: Prepared, config: EncoderConfig) -> dict[str, float]:
    """Return each task's measure on fixed batches of the held-out cut; higher is better for all."""
    model = prepared.model.eval()
    batcher = prepared.batcher(config.batch, "held_out")
    rng = np.random.default_rng(12345)
    losses: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, list[np.ndarray]] = defaultdict(list)
    labels: dict[str, list[np.ndarray]] = defaultdict(list)
    for batch in (batcher(rng) for _ in range(TEST_BATCHES)):
        features = batch_features(model, batch, prepared.pooler)
        for name, loss in model.losses(batch, features).items():
            losses[name].append(float(loss))
        for task in (task for task in model.tasks if task.kind == "binary"):
            found = batch.labels(task.name)
            if found is not None:
                logits = model.logits(task, features, {})
                scores[task.name].append(logits[found.present].numpy())
                labels[task.name].append(found.label[found.present].numpy())
    measured = {name: -float(np.mean(values)) for name, values in losses.items()}
    for name, values in scores.items():
        truth = np.concatenate(labels[name]) > 0
        if 0 < truth.sum() < len(truth):
            measured[name] = auc(truth, np.concatenate(values).astype(np.float32))
    return measured


def show(rows: list[dict[str, Any]], tasks: Sequence[EncoderTask]) -> None:
    """Print each task's measure and gain by method, and the mean gain."""
    single = {(row["task"], row["seed"]): row["measures"][row["task"]] for row in rows if row["method"] == SINGLE}
    table = Table(title="held-out measure by task: AUC, or minus the loss", title_justify="left")
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != SINGLE))
    for column in ("task", "single-task", *(f"{method}, gain %" for method in methods)):
        table.add_column(column, justify="left" if column == "task" else "right")
    gains: dict[str, dict[int, list[float]]] = {method: defaultdict(list) for method in methods}
    for task in tasks:
        alone = {seed: value for (name, seed), value in single.items() if name == task.name}
        cells = [task.name, _interval(list(alone.values()), 4)]
        for method in methods:
            found = {row["seed"]: row["measures"].get(task.name) for row in rows if row["method"] == method}
            own = {seed: _gain(found[seed], alone[seed]) for seed in found if seed in alone and found[seed] is not None}
            for seed, gain in own.items():
                gains[method][seed].append(gain)
            deviation = float(np.std(list(alone.values()), ddof=1)) if len(alone) > 1 else 0.0
            worse = own and np.mean([found[seed] - alone[seed] for seed in own]) < -deviation
            cells.append(f"{_interval([100 * gain for gain in own.values()], 2)}{' loses' if worse else ''}")
        table.add_row(*cells)
    means = [[100 * float(np.mean(values)) for values in gains[method].values()] for method in methods]
    table.add_row("mean of tasks", "", *(_interval(values, 2) for values in means))
    CONSOLE.print(table)


def _gain(found: float, alone: float) -> float:
    """Return the relative fall of the error: 1 - AUC, or the loss."""
    before, after = (1 - alone, 1 - found) if alone > 0 else (-alone, -found)
    return (before - after) / before


def _interval(values: list[float], digits: int) -> str:
    if len(values) < 2:
        return " ".join(f"{value:.{digits}f}" for value in values)
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.{digits}f} ± {half:.{digits}f}"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the runs so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["static", "uncertainty", "dual", "aligned_mtl"])
    parser.add_argument("--results", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
