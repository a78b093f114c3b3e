from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Backbone, load_backbone, set_trainable
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.labels.config import ContrastiveConfig
from retrieval.encoder.labels.contrastive import PairDraw, contrastive_warm_up
from retrieval.encoder.tokens import tokenize

TASTES = ("tea", "coffee", "bread", "soap")
# Tea and soap against coffee and bread: no likeness that a random transformer starts with.
TEXTS = [f"{taste} number {n}" for taste in TASTES for n in range(3)]
LABELS = np.repeat(np.array([0, 1, 1, 0], np.float32), 3)
CONFIG = ContrastiveConfig(steps=40, pairs=16, learning_rate=1e-3)


@pytest.fixture
def config(tiny_bert: Path) -> BackboneConfig:
    """The tiny BERT."""
    return BackboneConfig(name=str(tiny_bert), max_tokens={"user": 8, "item": 8, "text": 8})


def _cosines(backbone: Backbone, config: BackboneConfig, texts: list[str]) -> np.ndarray:
    table, positions = tokenize(backbone.tokenizer, {"text": texts}, config)
    with torch.no_grad():
        vectors = functional.normalize(backbone(*table.padded(positions["text"])), dim=1)
    return (vectors @ vectors.T).numpy()


def test_texts_of_one_class_come_together(config: BackboneConfig) -> None:
    backbone = load_backbone(config)
    result = contrastive_warm_up(backbone, TEXTS, LABELS, CONFIG, backbone_config=config, progress=False)
    assert result.texts == 12
    assert result.before.same - result.before.different < 0.3
    assert result.after.same > result.after.different + 0.7
    # So do texts that it hasn't seen: number 7 of each taste.
    unseen = _cosines(backbone, config, [f"{taste} number 7" for taste in TASTES])
    assert min(unseen[0, 3], unseen[1, 2]) > max(unseen[0, 1], unseen[0, 2], unseen[3, 1], unseen[3, 2]) + 0.5
    assert not backbone.training


def test_rows_without_a_label_teach_nothing_and_a_seed_repeats(config: BackboneConfig) -> None:
    with_others = [*TEXTS, "user likes tea", "user likes soap"]
    labels = np.concatenate([LABELS, [np.nan, np.nan]]).astype(np.float32)
    short = CONFIG.model_copy(update={"steps": 3})
    weights = []
    for texts, own, seed in (
        (TEXTS, LABELS, 1),
        (TEXTS, LABELS, 1),
        (with_others, labels, 1),
        (TEXTS, LABELS, 2),
    ):
        backbone = load_backbone(config)
        settings = short.model_copy(update={"seed": seed})
        contrastive_warm_up(backbone, texts, own, settings, backbone_config=config, progress=False)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in backbone.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_frozen_layers_stay(config: BackboneConfig) -> None:
    backbone = load_backbone(config)
    before = {name: parameter.detach().clone() for name, parameter in backbone.named_parameters()}
    set_trainable(backbone, 1)
    contrastive_warm_up(backbone, TEXTS, LABELS, CONFIG, backbone_config=config, progress=False)
    changed = {name for name, parameter in backbone.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed
    assert all(name.startswith("model.encoder.layer.2.") for name in changed)
    set_trainable(backbone, 0)
    with pytest.raises(InvalidInputError, match="expected at least one trainable layer"):
        contrastive_warm_up(backbone, TEXTS, LABELS, CONFIG, backbone_config=config, progress=False)


def test_a_causal_backbone_is_warmed_up_too(tiny_llama: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama), max_tokens={"user": 24, "item": 24, "text": 24})
    result = contrastive_warm_up(load_backbone(config), TEXTS, LABELS, CONFIG, backbone_config=config, progress=False)
    assert result.after.same - result.after.different > result.before.same - result.before.different + 0.3


def test_pairs_are_half_of_one_class_and_half_of_two() -> None:
    # Class 0 has six texts, class 1 two, class 2 a single one; row 4 has no label.
    labels = np.array([0, 0, 0, 0, np.nan, 1, 1, 2, 0, 0], np.float32)
    draw, rng = PairDraw(labels), np.random.default_rng(0)
    assert draw.texts == 9
    left, right, same = draw(3000, rng)
    assert same.sum() == 1500
    assert (left != right).all()
    assert 4 not in {*left, *right}
    assert np.array_equal(labels[left] == labels[right], same)
    # The two classes with pairs take turns, whatever their sizes: 750 each, standard deviation sqrt(1,500) / 2 = 19.
    assert np.bincount(labels[left[same]].astype(int), minlength=3)[:2] == pytest.approx([750, 750], abs=100)
    # In pairs of two classes each of three is in two thirds: 1,000 of 1,500, standard deviation 18.
    mixed = np.concatenate([labels[left[~same]], labels[right[~same]]]).astype(int)
    assert np.bincount(mixed) == pytest.approx([1000] * 3, abs=100)


@pytest.mark.parametrize("labels", [[0, 0, np.nan], [0, 1, np.nan], [np.nan] * 3])
def test_too_few_labels_are_refused(labels: list[float]) -> None:
    with pytest.raises(InvalidInputError, match="expected texts of two classes, and two texts of one"):
        PairDraw(np.array(labels, np.float32))


def test_a_label_too_many_is_refused(config: BackboneConfig) -> None:
    with pytest.raises(InvalidInputError, match="expected one for each of 12 texts"):
        contrastive_warm_up(load_backbone(config), TEXTS, LABELS[:5], CONFIG, backbone_config=config, progress=False)
