from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask, TextData, TrainingData
from retrieval.encoder.ends import AsBefore, Ending, heads_alone
from retrieval.encoder.packed import FrozenTexts, TextStates
from retrieval.encoder.record import PHASES
from retrieval.encoder.step import batch_features
from retrieval.encoder.train import TrainResult, refit, train

TOPIC = EncoderTask(name="topic", kind="multiclass", on="text", classes=("coffee", "soap"))
NOWHERE = FrozenTexts(np.empty(0, np.int64), TextStates(pooled=torch.empty(0, 32)), 0)


def topics(words: str, codes: list[float]) -> TextData:
    return TextData(texts=words.split(), labels={"topic": np.array(codes, np.float32)})


@pytest.fixture
def known(small_config: EncoderConfig, tmp_path: Path) -> tuple[TrainingData, TrainResult]:
    """A run that never saw what bread is about: the held-out rows alone say so."""
    data = TrainingData(
        tasks=(TOPIC,),
        texts=topics("coffee soap coffee soap", [0, 1, 0, 1]),
        validation_texts=topics("coffee soap bread", [0, 1, 1]),
    )
    config = small_config.model_copy(update={"steps": 30, "hidden": 0, "task_patience": 9})
    return data, train(data, config, out=tmp_path / "first", progress=False)


def logits(result: TrainResult) -> torch.Tensor:
    """Return the logits of coffee, soap and bread, `[3, 2]`."""
    rows = result.prepared.placed.held_out_texts.positions
    batch = replace(result.held_out.batches[0], views={"text": rows}, pairs={}, rows={}, tags={})
    with torch.no_grad():
        features = batch_features(result.model, batch, result.prepared.pooler)
        return result.model.logits(result.model.task("topic"), features, {})


def test_the_held_out_rows_are_learnt_and_the_rest_is_the_first_runs(
    known: tuple[TrainingData, TrainResult], tmp_path: Path
) -> None:
    data, first = known
    again = refit(first, data, out=tmp_path / "again", progress=False)
    assert (logits(again).argmax(1) == torch.tensor([0, 1, 1])).all()
    assert float(logits(again)[2, 1]) > float(logits(first)[2, 1])
    assert (again.history, again.best, again.ending) == (first.history, first.best, first.ending)
    assert again.steps == first.ending.steps["finetune"]
    assert len(data.texts.texts) == 4, "the data stays as it is"
    twice = refit(first, data, out=tmp_path / "twice", progress=False)
    assert torch.equal(logits(twice), logits(again))


def test_phases_and_tasks_end_where_they_ended_before() -> None:
    steps = {"warmup": 20, "warmup_heads": 5, "finetune": 10, "finetune_heads": 0}
    ends = AsBefore(Ending(steps=steps, tasks={"warmup": {"churn": 15, "age": 0}}), {"retrieval"})
    ends.begin("warmup", NOWHERE)
    assert ends.stopped == {"age"}
    assert not ends.over("warmup", 14, NOWHERE)
    assert not ends.over("warmup", 15, NOWHERE)
    assert ends.stopped == {"age", "churn"}
    assert ends.over("warmup", 20, NOWHERE)
    ends.close("warmup", NOWHERE)
    ends.begin("warmup_heads", NOWHERE)
    assert ends.stopped == {"retrieval"}, "heads alone need no search"
    ends.close("warmup_heads", NOWHERE)
    assert ends.stopped == set()
    assert ends.over("finetune", 10, NOWHERE)


def test_the_ending_tells_every_phase_up_to_the_best(known: tuple[TrainingData, TrainResult]) -> None:
    _, first = known
    last = PHASES.index(first.best.phase)
    for place, phase in enumerate(PHASES):
        found = [validation for validation in first.history if validation.phase == phase]
        if heads_alone(phase):
            expected = max(first.ending.tasks[phase].values())
        else:
            expected = min(found, key=lambda validation: validation.mean).step
        assert first.ending.steps[phase] == (expected if place <= last else 0)


def test_a_smaller_model_is_calibrated_on_rows_that_nothing_learnt() -> None:
    with pytest.raises(ValidationError, match=r"refit: expected no ship\.keep_layers"):
        EncoderConfig.model_validate({"refit": True, "ship": {"keep_layers": 3}})
