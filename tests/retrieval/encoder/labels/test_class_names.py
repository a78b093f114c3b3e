from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask, TextData, TrainingData
from retrieval.encoder.heads import RowHead
from retrieval.encoder.labels.class_names import class_name_head, start_class_names, start_row_head
from retrieval.encoder.labels.config import ClassNameConfig
from retrieval.encoder.labels.text_probabilities import text_probabilities
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.tokens import tokenize
from retrieval.encoder.train import train

NAMES = ("tea", "coffee_number", "辣")
CONFIG = ClassNameConfig(template="user likes {name}", temperature=0.1)


@pytest.fixture
def config(tiny_bert: Path) -> BackboneConfig:
    """The tiny BERT."""
    return BackboneConfig(name=str(tiny_bert), max_tokens={"user": 8, "item": 8, "text": 8})


def _model(config: BackboneConfig) -> MultiTaskEncoder:
    """Two heads on texts over a projection that has learnt something."""
    tasks = [EncoderTask(name=name, kind="multiclass", on="text", classes=NAMES) for name in ("topic", "other")]
    model = MultiTaskEncoder(load_backbone(config), tasks, EncoderConfig(hidden=0))
    with torch.no_grad():
        projection = model.projections["item"].weight
        projection.copy_(torch.randn(projection.shape, generator=torch.Generator().manual_seed(1)) / 8)
    return model


@pytest.mark.parametrize("hidden", [0, 6, 20])
def test_a_head_starts_as_the_cosine_of_class_names(config: BackboneConfig, hidden: int) -> None:
    model = _model(config)
    # The first three texts are the classes' own.
    texts = ["user likes tea", "user likes coffee number", "user likes 辣", "soap number 3"]
    table, positions = tokenize(model.backbone.tokenizer, {"text": texts}, config)
    with torch.no_grad():
        vectors = model.vectors(model.backbone(*table.padded(positions["text"])), "text")
    head = RowHead(model.backbone.dim, hidden, outputs=3)
    constant = torch.tensor([0.5, -1.0, 0.0])
    with torch.no_grad():
        head.bias.copy_(constant)
    start_row_head(head, class_name_head(model, NAMES, CONFIG, backbone_config=config))
    # Cosine over the temperature, beside the head's constant; 10 for a class's own text.
    expected = vectors @ vectors[:3].T / 0.1 + constant
    with torch.no_grad():
        torch.testing.assert_close(head(vectors), expected, atol=1e-4, rtol=0)
    assert expected[0, 0] == pytest.approx(10.5, abs=1e-4)


def test_every_weight_that_a_head_reads_can_learn(config: BackboneConfig) -> None:
    model = _model(config)
    head = RowHead(model.backbone.dim, 6, outputs=3)
    start_row_head(head, class_name_head(model, NAMES, CONFIG, backbone_config=config))
    vectors = functional.normalize(
        torch.randn(16, model.backbone.dim, generator=torch.Generator().manual_seed(0)), dim=1
    )
    functional.cross_entropy(head(vectors), torch.arange(16) % 3).backward()
    assert head.inner is not None
    assert bool((head.inner.weight.grad.norm(dim=1) > 0).all())
    assert bool((head.outer.weight.grad != 0).all())


def test_heads_and_names_that_dont_fit_are_refused(config: BackboneConfig) -> None:
    model = _model(config)
    weights = class_name_head(model, NAMES, CONFIG, backbone_config=config)
    with pytest.raises(InvalidInputError, match=r"expected 3 classes over 32 dimensions, found \(4, 32\)"):
        start_row_head(RowHead(32, 0, outputs=4), weights)
    with pytest.raises(InvalidInputError, match="expected 0, or two units for each of 3 classes, found 5"):
        start_row_head(RowHead(32, 5, outputs=3), weights)
    with pytest.raises(InvalidInputError, match="names: expected texts that differ"):
        # Both unknown words are one token.
        class_name_head(model, ("unheard", "unseen"), CONFIG, backbone_config=config)
    with pytest.raises(ValidationError, match=r"expected \{name\} once"):
        ClassNameConfig(template="about {text}")


def test_weights_have_the_length_that_the_temperature_asks_for(config: BackboneConfig) -> None:
    model = _model(config)
    weights = class_name_head(model, NAMES, CONFIG, backbone_config=config)
    # A unit vector over .1 x sqrt(32).
    assert weights.norm(dim=1).tolist() == pytest.approx([10 / np.sqrt(32)] * 3, rel=1e-5)


def test_the_heads_that_are_asked_for_begin_so_unless_they_were_kept(config: BackboneConfig) -> None:
    encoder = EncoderConfig(backbone=config, hidden=0, few_labels={"topic": {"class_names": CONFIG.model_dump()}})
    model = _model(config)
    start_class_names(model, encoder)
    topic, other = (model.heads[name].outer.weight for name in ("topic", "other"))
    torch.testing.assert_close(topic, class_name_head(model, NAMES, CONFIG, backbone_config=config))
    assert not other.any()
    kept = _model(config)
    start_class_names(kept, encoder, kept=kept.tasks[:1])
    assert not kept.heads["topic"].outer.weight.any()


def test_a_head_of_class_names_is_right_before_anything_is_learnt(config: BackboneConfig, tmp_path: Path) -> None:
    things = ("tea", "coffee", "bread", "soap")
    task = EncoderTask(name="topic", kind="multiclass", on="text", classes=things)
    texts = TextData(
        texts=[f"{thing} {thing} {thing} {n}" for thing in things for n in range(5)],
        labels={"topic": np.repeat(np.arange(4, dtype=np.float32), 5)},
    )
    data = TrainingData(tasks=(task,), texts=texts, validation_texts=texts)
    right = {}
    for few_labels in ({}, {"topic": {"class_names": CONFIG.model_dump()}}):
        encoder = EncoderConfig.model_validate(
            {"backbone": config.model_dump(), "warmup": {"steps": 0}, "steps": 0, "few_labels": few_labels}
        )
        model = train(data, encoder, out=tmp_path / str(len(few_labels)), progress=False).model
        found = text_probabilities(model, task, texts.texts, backbone_config=config, progress=False)
        right[bool(few_labels)] = float((found.argmax(1) == texts.labels["topic"]).mean())
    # A constant head calls all of four classes one.
    assert right[False] == 0.25
    assert right[True] > 0.7
