from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from structlog.testing import capture_logs

from retrieval.encoder.adapt.start import set_arrays, start_backbone, start_from
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.calibrate import HeldOutScores
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.export import export
from retrieval.encoder.heads import PairHead, RetrievalHead, RowHead, TagHead
from retrieval.encoder.layout import WEIGHTS, EncoderFilesError
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.refined import HeldOutAnswers
from retrieval.encoder.step import batch_features
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]
HEADS = [PairHead(6, 4), RetrievalHead(0.07), RowHead(6, 5), RowHead(6, 0, 3), RowHead(6, 5, 3), TagHead(6, 3)]


@pytest.fixture(scope="module")
def exported(
    full_world: TrainingData, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MultiTaskEncoder, Path]:
    """A model with a head of every kind, off its start in every weight, and its folder."""
    config = BackboneConfig(name=str(tiny_bert), max_tokens={"user": 8, "item": 8, "text": 8})
    torch.manual_seed(1)
    model = MultiTaskEncoder(load_backbone(config), full_world.tasks, EncoderConfig(backbone=config, rank=8, hidden=8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for name in ("rating", "spend", "tone"):
            model.heads[name].scale.fill_(7.0)
    folder = tmp_path_factory.mktemp("start")
    export(model, config, folder)
    return model, folder


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_arrays_go_back_into_a_head(head: torch.nn.Module, scale: float) -> None:
    torch.manual_seed(0)
    arrays = {key: torch.rand_like(value) + 0.5 for key, value in head.arrays().items()}
    if hasattr(head, "scale"):
        head.scale.fill_(scale)
    set_arrays(head, arrays)
    found = head.arrays()
    assert found.keys() == arrays.keys()
    for key, value in arrays.items():
        torch.testing.assert_close(found[key], value)
    if hasattr(head, "scale"):
        assert float(head.scale) == scale


def test_the_same_tasks_start_as_the_same_model(
    exported: tuple[MultiTaskEncoder, Path], full_world: TrainingData
) -> None:
    old, folder = exported
    config = start_backbone(BackboneConfig(), folder)
    model = MultiTaskEncoder(load_backbone(config), full_world.tasks, EncoderConfig(rank=8, hidden=8))
    taken = start_from(model, folder)
    assert taken == full_world.tasks
    before = dict(old.named_parameters())
    for name, parameter in model.backbone.named_parameters():
        assert torch.equal(parameter, before[f"backbone.{name}"])
    for name, parameter in model.projections.named_parameters():
        assert torch.equal(parameter, before[f"projections.{name}"])
    for name, head in model.heads.items():
        for key, value in head.arrays().items():
            torch.testing.assert_close(value, old.heads[name].arrays()[key])


def test_heads_of_other_tasks_are_new_and_told(
    exported: tuple[MultiTaskEncoder, Path], full_world: TrainingData
) -> None:
    _, folder = exported
    by_name = {task.name: task for task in full_world.tasks}
    tasks = (
        by_name["churn"],
        replace(by_name["taste"], classes=("tea", "coffee", "bread", "milk")),  # as many classes, another meaning
        replace(by_name["demand"], kind="binary"),
        replace(by_name["return"], parent=None),
        EncoderTask(name="gift", kind="binary", on="pair"),
        by_name["topic"],
    )
    model = MultiTaskEncoder(load_backbone(start_backbone(BackboneConfig(), folder)), tasks, EncoderConfig(hidden=8))
    before = {name: [p.detach().clone() for p in head.parameters()] for name, head in model.heads.items()}
    with capture_logs() as logs:
        taken = start_from(model, folder)
    assert [task.name for task in taken] == ["churn", "topic"]
    for name, head in model.heads.items():
        same = all(torch.equal(p, old) for p, old in zip(head.parameters(), before[name], strict=True))
        assert same == (name not in {"churn", "topic"})
    (entry,) = [entry for entry in logs if entry["event"] == "encoder_started"]
    assert (entry["heads"], entry["new"]) == (2, 4)
    assert entry["new_heads"] == ["taste", "demand", "return", "gift"]


def test_heads_of_another_size_are_new(exported: tuple[MultiTaskEncoder, Path], full_world: TrainingData) -> None:
    _, folder = exported
    backbone = load_backbone(start_backbone(BackboneConfig(), folder))
    model = MultiTaskEncoder(backbone, full_world.tasks, EncoderConfig(rank=4, hidden=8))
    taken = {task.name for task in start_from(model, folder)}
    pairs = {task.name for task in full_world.tasks if task.on == "pair" and task.kind != "contrastive"}
    assert taken == {task.name for task in full_world.tasks} - pairs


def test_training_begins_where_the_start_ended(
    exported: tuple[MultiTaskEncoder, Path], full_world: TrainingData, short: Runner, scene: Scene
) -> None:
    """The first validation is the start's own, whatever the new data's constants are."""
    old, folder = exported
    result = short(full_world, start=str(folder), steps=1)
    held_out, rng = scene.prepared.batcher(scene.config.warmup.batch, "held_out"), np.random.default_rng(0)
    batches = [held_out(rng) for _ in range(scene.config.validation_batches)]
    scores, answers, totals = HeldOutScores(full_world.tasks), HeldOutAnswers(full_world.tasks), defaultdict(list)
    with torch.no_grad():
        scene.prepared.model.load_state_dict(old.state_dict())
        for batch in batches:
            features = batch_features(old, batch, scene.prepared.pooler)
            scores.look(old, batch, features)
            answers.look(old, batch, features)
            for name, cost in old.losses(batch, features).items():
                totals[name].append(float(cost))
    expected = {name: np.mean(losses) for name, losses in totals.items()} | scores.losses() | answers.refined()
    constants = result.held_out.yardsticks | scores.constants() | answers.constants()
    for name, loss in result.history[0].losses.items():
        assert loss == pytest.approx(expected[name] / constants[name], rel=2e-3)


def test_folders_without_safetensors_are_refused(exported: tuple[MultiTaskEncoder, Path], tmp_path: Path) -> None:
    with pytest.raises(EncoderFilesError, match="expected an exported encoder, found no such file"):
        start_backbone(BackboneConfig(), tmp_path)
    for path in exported[1].iterdir():
        if path.name != WEIGHTS:
            (tmp_path / path.name).symlink_to(path)
    torch.save(load_file(exported[1] / WEIGHTS), tmp_path / "pytorch_model.bin")
    with pytest.raises(EncoderFilesError, match=r"expected model\.safetensors, found no such file"):
        start_backbone(BackboneConfig(), tmp_path)
