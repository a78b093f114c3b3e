from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.optimise import make_optimizer
from retrieval.encoder.prepare import prepare
from retrieval.encoder.record import TaskStops, Validation
from retrieval.encoder.step import Stepper
from retrieval.encoder.train import train


def _validation(step: int, **losses: float) -> Validation:
    return Validation(phase="finetune", step=step, losses=losses, mean=0.0)


def test_a_stopped_parent_stays_at_its_best_while_its_child_learns(
    full_world: TrainingData, small_config: EncoderConfig
) -> None:
    torch.manual_seed(0)
    prepared = prepare(full_world, small_config)
    model, batcher, rng = prepared.model, prepared.batcher(small_config.batch), np.random.default_rng(0)
    tasks = [task for task in model.tasks if task.name in ("purchase", "return")]
    balance = make_balance(
        BalanceConfig(), {task.name: TaskLoss(kind="classification", baseline=1.0, count=9) for task in tasks}
    )
    step = Stepper(model, balance, make_optimizer([(model.parameters(), 1e-2)], weight_decay=0.1), 1.0)
    stops = TaskStops(patience=1)

    def learn() -> None:
        step(batcher(rng), prepared.pooler, [task for task in tasks if task.name not in stops.stopped])

    def weights(name: str) -> torch.Tensor:
        return torch.cat([p.detach().flatten().clone() for p in model.heads[name].parameters()])

    best = weights("purchase")
    stops.update(_validation(0, **{"purchase": 0.5, "return": 0.9}), model.heads)
    learn()  # fills the optimiser's moments, which would move a head without a gradient of zero
    assert not torch.equal(weights("purchase"), best)
    stops.update(_validation(1, **{"purchase": 0.6, "return": 0.8}), model.heads)
    assert stops.stopped == {"purchase"}
    child = weights("return")
    for _ in range(3):
        learn()
    assert torch.equal(weights("purchase"), best)
    assert not torch.equal(weights("return"), child)
    stops.restart()
    learn()
    assert not torch.equal(weights("purchase"), best)


def test_a_phase_is_over_once_every_measured_task_has_stopped() -> None:
    heads, stops = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1) for name in ("a", "b", "unmeasured")}), TaskStops(1)
    found = [stops.over]
    for step, (a, b) in enumerate(((0.5, 0.9), (0.6, 0.8), (0.7, 0.8))):
        stops.update(_validation(step, a=a, b=b), heads)
        found.append(stops.over)
    stops.restart()
    # b's second 0.8 is no improvement.
    assert [*found, stops.over] == [False, False, False, True, False]


def test_training_ends_when_every_task_has_stopped(
    world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    """Rates that ruin every head stop the tasks in both phases long before the steps or the run's own patience."""
    warmup = small_config.warmup.model_copy(update={"steps": 60, "validate_every": 1, "learning_rate": 10.0})
    rash = small_config.model_copy(
        update={
            "warmup": warmup, "steps": 60, "validate_every": 1, "patience": 999, "task_patience": 1,
            "learning_rate": 10.0, "head_learning_rate": 10.0,
        }
    )  # fmt: skip
    result = train(replace(world), rash, out=tmp_path, progress=False)
    assert result.steps < 30
    assert sum(validation.phase == "warmup" for validation in result.history) < 30
    assert result.best.mean == min(validation.mean for validation in result.history)
