from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.record import PHASES
from retrieval.encoder.train import TrainResult, train


def _flat(result: TrainResult) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in result.model.parameters()])


@pytest.mark.parametrize("method", ["static", "uncertainty"])
def test_both_phases_learn_every_task(
    world: TrainingData, small_config: EncoderConfig, tmp_path: Path, method: str
) -> None:
    balance = small_config.balance.model_copy(update={"method": method})
    result = train(world, small_config.model_copy(update={"balance": balance}), out=tmp_path, progress=False)
    first, best = result.history[0], result.best
    counts = Counter(validation.phase for validation in result.history)
    # Heads alone are looked at once more with each one's best weights; all phases but fine-tuning at their start too.
    assert list(counts) == list(PHASES)
    assert (counts["warmup"], counts["finetune"]) == (3, 2)
    assert counts["warmup_heads"] <= 4
    assert best.mean < first.mean - 0.1
    # Users and items share their taste's word or lack it: each of these tasks beats its constant.
    assert max(best.losses[name] for name in ("retrieval", "purchase", "churn")) < 0.95
    assert any((tmp_path / "tensorboard").iterdir())
    assert set(result.weights) == set(result.baselines) == {task.name for task in world.tasks}


def test_every_kind_of_task_learns_in_one_run(
    full_world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    config = small_config.model_copy(update={"steps": 60, "validate_every": 20, "task_patience": 9})
    result = train(full_world, config, out=tmp_path, progress=False)
    assert set(result.best.losses) == {task.name for task in full_world.tasks}
    unlearnt = {name: loss for name, loss in result.best.losses.items() if loss > 0.9}
    # Which of a user's items are bought again is a coin's toss in this world.
    assert set(unlearnt) <= {"repurchase"}


def test_texts_alone_are_trained_on(full_world: TrainingData, small_config: EncoderConfig, tmp_path: Path) -> None:
    """A workspace without users, items or events: customer service, say."""
    tasks = tuple(task for task in full_world.tasks if task.on == "text" and task.kind != "contrastive")
    drop = {"answers": {}}
    data = TrainingData(
        tasks=tasks,
        texts=replace(full_world.texts, **drop),
        validation_texts=replace(full_world.validation_texts, **drop),
    )
    config = small_config.model_copy(update={"steps": 60, "validate_every": 20, "task_patience": 9})
    result = train(data, config, out=tmp_path, progress=False)
    assert all(loss < 0.9 for loss in result.best.losses.values())
    assert set(result.best.losses) == {"topic", "urgent", "tone", "slots"}


def test_a_seed_repeats_a_run(world: TrainingData, small_config: EncoderConfig, tmp_path: Path) -> None:
    short = small_config.model_copy(update={"steps": 4, "validate_every": 2})
    runs = [
        _flat(train(world, short.model_copy(update={"seed": seed}), out=tmp_path / str(n), progress=False))
        for n, seed in enumerate((1, 1, 2))
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_run_repeats_on_several_threads(world: TrainingData, small_config: EncoderConfig, tmp_path: Path) -> None:
    # Thirty items share each text, and a batch holds enough of them for torch to add up their gradients in parallel.
    copies = 30
    every = {"retrieval": np.ones(40 * copies, bool), "purchase": np.ones(40 * copies, bool)}
    cuts = [replace(cut, universe=every) for cut in (*world.train, world.validation)]
    data = replace(
        world,
        item_texts=list(world.item_texts) * copies,
        popularity=np.ones(40 * copies),
        train=tuple(cuts[:-1]),
        validation=cuts[-1],
    )
    config = small_config.model_copy(
        update={
            "batch": small_config.batch.model_copy(update={"negatives": 8_000}),
            "warmup": small_config.warmup.model_copy(update={"steps": 0}),
            "steps": 40, "validate_every": 40, "threads": 2,
        }
    )  # fmt: skip
    before = torch.get_num_threads()
    try:
        runs = [_flat(train(data, config, out=tmp_path / str(n), progress=False)) for n in range(2)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*runs)


def test_lower_layers_stay_as_they_were(world: TrainingData, small_config: EncoderConfig, tmp_path: Path) -> None:
    before = dict(load_backbone(small_config.backbone).named_parameters())
    result = train(world, small_config, out=tmp_path, progress=False)
    changed = {name for name, p in result.model.backbone.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(name.startswith(("model.encoder.layer.1.", "model.encoder.layer.2.")) for name in changed)


@pytest.mark.parametrize("train_layers", [None, 1])
def test_a_causal_model_is_trained_end_to_end(
    world: TrainingData, small_config: EncoderConfig, tiny_llama: Path, tmp_path: Path, train_layers: int | None
) -> None:
    backbone = BackboneConfig(name=str(tiny_llama), max_tokens={"user": 16, "item": 16, "text": 16})
    warmup = small_config.warmup.model_copy(update={"steps": 0})
    config = small_config.model_copy(
        update={"backbone": backbone, "train_layers": train_layers, "warmup": warmup, "steps": 30}
    )
    result = train(world, config, out=tmp_path, progress=False)
    assert result.best.mean < result.history[0].mean - 0.05


def test_training_stops_when_the_held_out_window_stops_improving(
    world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    rash = small_config.model_copy(
        update={"steps": 200, "validate_every": 1, "patience": 2, "learning_rate": 10.0, "head_learning_rate": 10.0}
    )
    result = train(world, rash, out=tmp_path, progress=False)
    assert result.steps < 20
    assert result.best.mean == min(v.mean for v in result.history)
