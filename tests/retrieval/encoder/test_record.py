from __future__ import annotations

import torch
from torch import nn

from retrieval.encoder.record import Best, TaskStops, Validation


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
