"""Steps per second of every balance method, relative to static's, on the workspace's own batches.

usage: python tests/benchmarks/balance.py -w WORKSPACE [--as-of DATE] [--steps 6] [--rounds 3]

Every method has a model of its own, starts alike, and takes the same fine-tuning steps; a round times each of them
once, in turn. A figure is the median over rounds of the method's speed over static's in the same round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from flows.build import Build
from flows.cli import parse_as_of
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.adapt.make import Adaptation
from retrieval.encoder.adapt.meta import MetaStepper
from retrieval.encoder.balance.config import BalanceConfig, GradientMethod, ScalarMethod
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, start_heads
from retrieval.encoder.data import TrainingData
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.state_store import Memory
from retrieval.encoder.step import Stepper

CONSOLE = Console(width=110)


@dataclass
class Side:
    """One method: its model, its step, and its seconds by round."""

    name: str
    prepared: Prepared
    step: Stepper | MetaStepper
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    build = Build.start(workspace, Settings(), arguments.as_of)
    data = build.training_data()
    memory = Memory()
    sides = [_side(name, data, config, memory) for name, config in methods(workspace.config.encoder)]
    batcher, rng = sides[0].prepared.batcher(workspace.config.encoder.batch), np.random.default_rng(0)
    for number in range(arguments.rounds + 1):
        batches = [batcher(rng) for _ in range(arguments.steps)]
        with torch.no_grad():  # the side that comes first would pay for the frozen states of all
            for batch in batches:
                sides[0].prepared.pooler(batch.texts)
        for side in sides:
            began = time.perf_counter()
            for batch in batches:
                side.step(batch, side.prepared.pooler, data.tasks)
            if number:  # the first round warms up
                side.seconds.append(time.perf_counter() - began)
    show(sides, arguments.steps, len(data.tasks))


def methods(config: EncoderConfig) -> Iterator[tuple[str, EncoderConfig]]:
    """Yield every method's name and configuration, static first; those that look at gradients at two levels."""
    limits = {"limits": {"churn": 0.5}}
    for method in get_args(ScalarMethod):
        extra = {"lagrangian": limits} if method == "lagrangian" else {}
        yield method, _with(config, method=method, **extra)
    for method in get_args(GradientMethod):
        for level in ("feature", "parameter"):
            yield f"{method}, {level}s", _with(config, method=method, level=level)


def _with(config: EncoderConfig, **balance: object) -> EncoderConfig:
    return config.model_copy(update={"balance": BalanceConfig.model_validate(balance)})


def _side(name: str, data: TrainingData, config: EncoderConfig, memory: Memory) -> Side:
    torch.manual_seed(config.seed)
    prepared = prepare(data, config, memory=memory)
    batcher, rng = prepared.batcher(config.batch), np.random.default_rng(0)
    sample = [batcher(rng) for _ in range(config.baseline_batches)]
    model = prepared.model
    baselines = start_heads(model, constant_losses(model.tasks, sample, logq=model.logq))
    losses = {name: TaskLoss(kind="classification", baseline=loss, count=1) for name, loss in baselines.items()}
    balance = make_balance(config.balance, losses)
    adaptation = Adaptation(prepared, config, baselines)
    step = adaptation.stepper(balance, config.head_learning_rate, layers=True, draw=lambda: batcher(rng))
    return Side(name, prepared, step)


def show(sides: list[Side], steps: int, tasks: int) -> None:
    """Print the table."""
    static = np.array(sides[0].seconds)
    table = Table(title=f"{tasks} tasks; static takes {np.median(static) / steps * 1e3:.0f} ms a step")
    for column in ("method", "ms a step", "steps/s over static's"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for side in sides:
        own = np.array(side.seconds)
        ratios = static / own
        table.add_row(
            side.name,
            f"{np.median(own) / steps * 1e3:.0f}",
            f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
        )
    CONSOLE.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, default=None)
    parser.add_argument("--steps", type=int, default=6, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
