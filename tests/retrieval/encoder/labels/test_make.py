"""Things to drink, to eat and to wash with; few texts have a label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.errors import InvalidInputError
from infra.files import sha256_file
from retrieval.encoder.backbone import WEIGHTS, load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask, TextData, TrainingData
from retrieval.encoder.labels.make import unlabelled_texts, use_few_labels

THINGS = {"tea": 0, "coffee": 0, "bread": 1, "soap": 2}
TOPIC = EncoderTask(name="topic", kind="multiclass", on="text", classes=("drink", "food", "wash"))
COLD = EncoderTask(name="cold", kind="binary", on="text")
PROMPT = {"template": "{text} is about {mask} .", "max_tokens": 16, "steps": 20, "learning_rate": 1e-3}


def _texts(numbers: range, *, with_topic: bool = True) -> TextData:
    """Each thing with each number; odd ones are cold."""
    rows = [(f"{thing} {n}", code, n % 2) for thing, code in THINGS.items() for n in numbers]
    texts, topic, cold = (list(column) for column in zip(*rows, strict=True))
    labels = {"cold": np.array(cold, np.float32)}
    if with_topic:
        labels["topic"] = np.array(topic, np.float32)
    return TextData(texts=texts, labels=labels)


UNLABELLED = tuple(_texts(range(4, 9)).texts)


@pytest.fixture
def data() -> TrainingData:
    """Numbers 0 and 1 teach, 2 and 3 are held out, 4 to 8 have no label."""
    return TrainingData(
        tasks=(TOPIC, COLD), texts=_texts(range(2)), validation_texts=_texts(range(2, 4)), unlabelled=UNLABELLED
    )


def _config(backbone: BackboneConfig, few_labels: dict[str, Any], **lines: Any) -> EncoderConfig:
    own = {
        "batch": {"texts": 8}, "warmup": {"steps": 0}, "train_layers": None, "steps": 40, "validate_every": 20,
        "learning_rate": 3e-3, "head_learning_rate": 1e-2, "hidden": 0, "validation_batches": 2, "baseline_batches": 4,
        "task_patience": 9,
    }  # fmt: skip
    return EncoderConfig.model_validate({"backbone": backbone.model_dump(), "few_labels": few_labels, **own, **lines})


def _topic_of(text: str) -> str:
    return TOPIC.classes[THINGS[text.split(maxsplit=1)[0]]]


def test_without_an_entry_nothing_happens(data: TrainingData, read_bert: BackboneConfig, tmp_path: Path) -> None:
    config = _config(read_bert, {})
    ready = use_few_labels(data, config, tmp_path / "none", progress=False)
    assert ready.data is data
    assert ready.config is config
    assert not (tmp_path / "none").exists()


def test_texts_to_judge_by_hand() -> None:
    texts = TextData(texts=["a", "b", "c", "a", "h"], labels={"topic": np.array([0, np.nan, np.nan, np.nan, np.nan])})
    held, test = TextData(texts=["h"]), TextData(texts=["t"])
    data = TrainingData(
        tasks=(TOPIC, COLD), texts=texts, validation_texts=held, test_texts=test, unlabelled=["u", "t", "b", "u"]
    )
    # "a" has a label in one of its rows, "h" and "t" are held out; of equal ones the first.
    assert unlabelled_texts(data, TOPIC) == ["b", "c", "u"]
    assert unlabelled_texts(data, COLD) == ["a", "b", "c", "u"]


def test_a_prompt_labels_texts_from_no_label_at_all(
    data: TrainingData, read_bert: BackboneConfig, tmp_path: Path
) -> None:
    bare = replace(
        data, texts=_texts(range(2), with_topic=False), validation_texts=_texts(range(2, 4), with_topic=False)
    )
    config = _config(read_bert, {"topic": {"prompt": PROMPT, "pseudo": {"threshold": 0.5}}})
    ready = use_few_labels(bare, config, tmp_path, progress=False)
    # Eight texts with a label of another task, twenty without any; one in ten of those taken is held out.
    (found,) = ready.report.pseudo
    assert (found.task, found.judge, found.found.unlabelled) == ("topic", "prompt", 28)
    assert found.found.taken == len(ready.given) > 20
    assert found.found.held_out.rows == 0
    assert sum(given.held_out for given in ready.given) == len(ready.given) // 10
    assert {given.text for given in ready.given} <= {*bare.texts.texts, *UNLABELLED}
    right = [given.label == _topic_of(given.text) for given in ready.given]
    assert sum(right) / len(right) > 0.9
    _assert_rows_carry_what_was_given(ready.data, ready.given)
    # There is no first training, and the backbone is the one given.
    assert list(tmp_path.iterdir()) == []
    assert ready.config == config


def _assert_rows_carry_what_was_given(data: TrainingData, given: tuple[Any, ...]) -> None:
    for part, held_out in ((data.texts, False), (data.validation_texts, True)):
        known = np.flatnonzero(~np.isnan(part.labels["topic"]))
        rows = [(part.texts[row], TOPIC.classes[int(part.labels["topic"][row])]) for row in known]
        assert rows == [(own.text, own.label) for own in given if own.held_out == held_out]


def test_labels_teach_a_prompt_before_it_judges(data: TrainingData, read_bert: BackboneConfig, tmp_path: Path) -> None:
    def sure(steps: int) -> float:
        # The words mean nothing of the kind: only labels can tell.
        words = {"drink": ["first"], "food": ["second"], "wash": ["is"]}
        prompt = {**PROMPT, "words": words, "steps": steps, "learning_rate": 3e-3}
        config = _config(read_bert, {"topic": {"prompt": prompt, "pseudo": {"threshold": 0.0}}})
        ready = use_few_labels(data, config, tmp_path, progress=False)
        assert not any(given.held_out for given in ready.given)
        share = ready.report.pseudo[0].found.held_out.share
        assert share is not None
        return share

    assert sure(60) > sure(1) + 0.3


def test_a_first_training_labels_what_it_is_sure_of(
    data: TrainingData, read_bert: BackboneConfig, tmp_path: Path
) -> None:
    config = _config(read_bert, {"topic": {"pseudo": {"threshold": 0.6, "cap": 4}}})
    ready = use_few_labels(data, config, tmp_path, progress=False)
    (found,) = ready.report.pseudo
    assert (found.judge, found.found.unlabelled) == ("first training", 20)
    assert max(own.taken for own in found.found.classes) == 4
    assert found.found.held_out.share == 1.0
    assert all(given.label == _topic_of(given.text) for given in ready.given)
    # The pseudo-labels come after the rows that were there, and say nothing of the other task.
    n = len(data.texts.texts)
    assert list(ready.data.texts.texts[n:]) == [given.text for given in ready.given]
    assert [TOPIC.classes[int(code)] for code in ready.data.texts.labels["topic"][n:]] == [
        given.label for given in ready.given
    ]
    assert np.isnan(ready.data.texts.labels["cold"][n:]).all()
    np.testing.assert_array_equal(ready.data.texts.labels["cold"][:n], data.texts.labels["cold"])


def test_the_warm_up_hands_over_a_backbone_that_tells_classes_apart(
    data: TrainingData, read_bert: BackboneConfig, tmp_path: Path
) -> None:
    config = _config(
        read_bert, {"topic": {"warm_up": {"steps": 30, "pairs": 16, "learning_rate": 1e-3}}}, train_layers=1
    )
    ready = use_few_labels(data, config, tmp_path, progress=False)
    found = ready.report.warm_up["topic"]
    assert found.texts == 8
    assert found.after.same - found.after.different > found.before.same - found.before.different + 0.2
    own = ready.config.backbone
    assert own.sha256 == sha256_file(Path(own.name) / WEIGHTS)
    assert own.max_tokens == read_bert.max_tokens
    before, after = (dict(load_backbone(backbone).named_parameters()) for backbone in (read_bert, own))
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    # Of two layers the top one learns.
    assert changed
    assert all(name.startswith("model.encoder.layer.1.") for name in changed)


def test_the_warm_up_learns_from_what_a_prompt_says(
    data: TrainingData, read_bert: BackboneConfig, tmp_path: Path
) -> None:
    bare = replace(data, texts=_texts(range(2), with_topic=False))
    lines = {"prompt": PROMPT, "pseudo": {"threshold": 0.5}, "warm_up": {"steps": 2, "pairs": 4}}
    ready = use_few_labels(bare, _config(read_bert, {"topic": lines}), tmp_path, progress=False)
    assert ready.report.warm_up["topic"].texts == ready.report.pseudo[0].found.taken
    with pytest.raises(InvalidInputError, match="labels: expected texts of two classes"):
        use_few_labels(bare, _config(read_bert, {"topic": {"warm_up": {}}}), tmp_path, progress=False)
