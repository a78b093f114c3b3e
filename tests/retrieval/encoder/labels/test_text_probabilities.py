from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.labels.text_probabilities import text_probabilities
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.tokens import tokenize

TASKS = (
    EncoderTask(name="topic", kind="multiclass", on="text", classes=("tea", "soap", "milk")),
    EncoderTask(name="urgent", kind="binary", on="text"),
    EncoderTask(name="lost", kind="binary", on="text", parent="urgent"),
)
TEXTS = ["soap 1", "tea 2 is about drink", "soap 1", "bread"]


@pytest.fixture
def model(speechless_bert: BackboneConfig) -> MultiTaskEncoder:
    """Heads and projections of random weights."""
    made = MultiTaskEncoder(load_backbone(speechless_bert), TASKS, EncoderConfig(hidden=0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (*made.heads.parameters(), *made.projections.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    return made.eval()


def test_probabilities_by_hand(model: MultiTaskEncoder, speechless_bert: BackboneConfig) -> None:
    table, positions = tokenize(model.backbone.tokenizer, {"text": TEXTS}, speechless_bert)
    with torch.no_grad():
        vectors = model.vectors(model.backbone(*table.padded(positions["text"])), "text")
        topic, urgent, lost = (model.heads[task.name](vectors).numpy() for task in TASKS)
    yes = 1 / (1 + np.exp(-urgent))
    # A child's probability is its parent's times its own head's.
    both = yes / (1 + np.exp(-lost))
    expected = {
        "topic": np.exp(topic) / np.exp(topic).sum(1, keepdims=True),
        "urgent": np.stack([1 - yes, yes], axis=1),
        "lost": np.stack([1 - both, both], axis=1),
    }
    for task in TASKS:
        found = text_probabilities(model, task, TEXTS, backbone_config=speechless_bert, progress=False)
        assert found.dtype == np.float32
        # In bfloat16 where the machine is fast at it.
        np.testing.assert_allclose(found, expected[task.name], atol=0.02)
        np.testing.assert_array_equal(found[0], found[2])


def test_no_text_has_no_probabilities(model: MultiTaskEncoder, speechless_bert: BackboneConfig) -> None:
    for task, classes in zip(TASKS, (3, 2, 2), strict=True):
        found = text_probabilities(model, task, [], backbone_config=speechless_bert, progress=False)
        assert found.shape == (0, classes)
