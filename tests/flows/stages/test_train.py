"""The encoder step on texts that name what they are about: with few labels, then going on from that encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.stages.train import FEW_LABELS, TRAINING_RUN, read_training_run, train_encoder
from infra.errors import InvalidInputError
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask, Float32, TextData, TrainingData
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.labels.probabilities import class_probabilities
from retrieval.encoder.labels.text_probabilities import text_probabilities
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.train import train

LIQUID = EncoderTask(name="liquid", kind="binary", on="text")


def _liquids(numbers: range) -> TextData:
    """Tea and soap are told from coffee and bread."""
    return TextData(
        texts=[f"{thing} {n}" for thing in ("tea", "coffee", "bread", "soap") for n in numbers],
        labels={"liquid": np.repeat(np.array([1, 0, 0, 1], np.float32), len(numbers))},
    )


@pytest.fixture
def new(topics: TrainingData) -> TrainingData:
    """A new task; of the old one there is no label."""
    return TrainingData(
        tasks=(*topics.tasks, LIQUID), texts=_liquids(range(4, 10)), validation_texts=_liquids(range(2, 4))
    )


def _loss(topics: TrainingData, probabilities: Float32) -> float:
    """Return the mean log loss of the topics held out."""
    codes = topics.validation_texts.labels["topic"].astype(int)
    return float(-np.log(probabilities[np.arange(len(codes)), codes]).mean())


def test_few_labels_are_used_and_told(old: Path) -> None:
    run, written = read_training_run(old), json.loads((old / FEW_LABELS).read_bytes())
    assert run is not None
    assert run.few_labels is not None
    assert run.few_labels.model_dump(mode="json") == written["report"]
    warm_up, (pseudo,) = run.few_labels.warm_up["topic"], run.few_labels.pseudo
    assert warm_up.after.same - warm_up.after.different > warm_up.before.same - warm_up.before.different + 0.2
    # A head without class names begins at its best constant, whose loss is the measure.
    topic = next(curve for curve in run.curves if curve.name == "topic")
    assert topic.steps[0] == 0
    assert topic.losses[0] < 0.9
    assert (pseudo.judge, pseudo.found.unlabelled, pseudo.found.held_out.rows) == ("first training", 42, 8)
    assert [label["label"] for label in written["labels"]] == [label["text"].split()[0] for label in written["labels"]]
    assert len(written["labels"]) == pseudo.found.taken == 42


def test_the_last_training_reads_the_pseudo_labels(old: Path) -> None:
    content = json.loads((old / TRAINING_RUN).read_bytes())
    # Labelled texts are spread evenly: ln 4 = 1.39. With pseudo-labels 2 + 4 of each thing but 2 + 30 of soap:
    # 3 x .12 x ln(1 / .12) + .64 x ln(1 / .64) = .763 + .286 = 1.05.
    assert content["baselines"]["topic"] == pytest.approx(1.05, abs=0.1)
    assert content["seconds"]["few_labels"] > 0
    assert "pretrain" not in content["seconds"]


def test_a_release_is_trained_once_more_on_all_rows(
    topics: TrainingData, encoder_lines: dict[str, Any], tmp_path: Path
) -> None:
    """The report's curves and the time of each phase stay the first run's."""
    lines = {**encoder_lines, "steps": 4, "validate_every": 2}
    train_encoder(topics, EncoderConfig.model_validate(lines), tmp_path / "plain")
    train_encoder(topics, EncoderConfig.model_validate({**lines, "refit": True}), tmp_path / "refit")
    plain, again = (json.loads((tmp_path / name / TRAINING_RUN).read_bytes()) for name in ("plain", "refit"))
    assert again["run"] == plain["run"]
    assert again["seconds"].keys() == plain["seconds"].keys() | {"refit"}
    texts = topics.validation_texts.texts
    one, other = (TextEncoder.load(tmp_path / name, threads=1).encode(texts, "text") for name in ("plain", "refit"))
    assert abs(one - other).max() > 1e-4


def test_replay_and_kl_hold_the_old_task_in_the_step(
    old: Path, topics: TrainingData, new: TrainingData, encoder_lines: dict[str, Any], tmp_path: Path
) -> None:
    texts = topics.validation_texts.texts

    def after(encoder: Path) -> float:
        vectors = TextEncoder.load(encoder, threads=1).encode(texts, "text")
        return _loss(topics, class_probabilities(Heads.load(encoder), "topic", vectors))

    free = EncoderConfig.model_validate({**encoder_lines, "start": old})
    model = train(new, free, out=tmp_path / "free", progress=False).model
    forgotten = text_probabilities(model, topics.tasks[0], texts, backbone_config=free.backbone, progress=False)
    assert _loss(topics, forgotten) > after(old) + 0.5
    kept = EncoderConfig.model_validate({**encoder_lines, "start": old, "keep": {"replay": 0.25, "kl": 1.0}})
    train_encoder(new, kept, tmp_path / "new", replay=topics)
    assert after(tmp_path / "new") < after(old) + 0.05
    run = read_training_run(tmp_path / "new")
    assert run is not None
    assert run.few_labels is None
    liquid = next(curve for curve in run.curves if curve.name == "liquid")
    assert liquid.losses[-1] < 0.3


def test_what_cannot_be_done_is_refused(
    topics: TrainingData, new: TrainingData, encoder_lines: dict[str, Any], tmp_path: Path
) -> None:
    wrong = EncoderConfig.model_validate({**encoder_lines, "few_labels": {"topics": {"pseudo": {}}}})
    with pytest.raises(InvalidInputError, match="few_labels: unknown task 'topics'; did you mean 'topic'"):
        train_encoder(topics, wrong, tmp_path / "one")
    lone = EncoderConfig.model_validate({**encoder_lines, "keep": {"replay": 0.25}})
    with pytest.raises(AdaptError, match="keep: expected replay data for replay or ewc, found none"):
        train_encoder(new, lone, tmp_path / "two")
