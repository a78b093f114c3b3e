from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from retrieval.encoder.record import Best, Record, TaskStops, Validation
from retrieval.encoder.tracking import open_trackers


def _validation(step: int, **losses: float) -> Validation:
    return Validation(phase="warmup", step=step, losses=losses, mean=sum(losses.values()) / len(losses))


def _set(module: nn.Linear, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)


def test_the_best_weights_come_back() -> None:
    model, best = nn.Linear(1, 1), Best()
    for value, loss in enumerate((0.9, 0.5, 0.7)):
        _set(model, float(value))
        best.offer(_validation(value, a=loss), model)
    assert best.misses == 1
    best.restore(model)
    assert model.weight.item() == 1.0


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    model, best = nn.Linear(1, 1), Best()
    for value, loss in enumerate((0.9, float("nan"))):
        _set(model, float(value))
        best.offer(_validation(value, a=loss), model)
    best.restore(model)
    assert model.weight.item() == 0.0


def test_a_task_stops_alone_with_its_best_head() -> None:
    rare, common = nn.Linear(1, 1), nn.Linear(1, 1)
    heads, stops = nn.ModuleDict({"rare": rare, "common": common}), TaskStops(patience=2)
    # rare: best at step 0, then two misses; common improves throughout.
    for step, (first, second) in enumerate(((0.5, 0.9), (0.6, 0.8), (0.7, 0.7))):
        _set(rare, float(step))
        _set(common, float(step))
        stops.update(_validation(step, rare=first, common=second), heads)
    assert stops.stopped == {"rare"}
    assert rare.weight.item() == 0.0
    assert common.weight.item() == 2.0
    stops.restart()
    assert not stops.stopped


def test_figures_go_to_the_trackers_by_steps_of_all_phases(tmp_path: Path) -> None:
    with open_trackers(("tensorboard",), folder=tmp_path, run="demo") as tracking:
        record = Record(tracking, {"a": 3.0})
        record.add("warmup", 10, {"a": 0.5, "b": 0.9}, {"a": 2.0, "b": 1.0})
        best = record.add("finetune", 5, {"a": 0.75}, {"a": 4.0, "b": 1.0}, known={"a": 0.25})
        record.finish(best, 7, {"prepare": 1.5})
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = {tag: [(point.step, point.value) for point in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    assert points == {
        # (0.5 ** 3 * 0.9 ** 1) ** (1 / 4); the second has one task, whose loss is known better. The warm-up ended at
        # 10, so fine-tuning's step 5 is 15.
        "validation/mean": [(10, pytest.approx(0.1125**0.25)), (15, pytest.approx(0.25))],
        "validation/a": [(10, 0.5), (15, 0.75)],
        "validation/b": [(10, pytest.approx(0.9))],
        "balance/a": [(10, 2.0), (15, 4.0)],
        "balance/b": [(10, 1.0), (15, 1.0)],
        "best/step": [(0, 15.0)],
        "best/mean": [(0, pytest.approx(0.25))],
        "steps": [(0, 7.0)],
        "seconds/prepare": [(0, 1.5)],
    }


def _means(*validations: dict[str, float]) -> list[float]:
    with open_trackers((), folder=Path(), run="") as tracking:
        record = Record(tracking, {"retrieval": 6.0})
        return [record.add("finetune", step, losses, {}).mean for step, losses in enumerate(validations)]


def test_a_relative_gain_counts_alike_however_much_texts_explain() -> None:
    # Of films' texts retrieval, of six shares, learns 2% of its loss whatever it does, demand four fifths or more.
    warm, tuned = _means({"retrieval": 0.977, "demand": 0.2}, {"retrieval": 0.993, "demand": 0.12})
    assert tuned < warm
    halved, rare, both = _means({"a": 0.5, "b": 0.1}, {"a": 1.0, "b": 0.05}, {"a": 0.5, "b": 0.05})
    assert halved == pytest.approx(rare)
    assert both < rare


def test_a_solved_task_does_not_decide_for_all() -> None:
    solved, more = _means({"a": 0.9, "b": 1e-4}, {"a": 0.91, "b": 1e-9})
    assert solved < more


def test_a_loss_that_is_no_number_makes_the_mean_none() -> None:
    (mean,) = _means({"a": 0.9, "b": float("nan")})
    assert np.isnan(mean)
