from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import BackboneError, Pooling
from retrieval.encoder.explain.attention import NOTE, AttentionMap, attention_map
from retrieval.encoder.explain.load import LoadedEncoder
from retrieval.encoder.explain.spans import ReadText, Token

if TYPE_CHECKING:
    from conftest import AsLoaded


def test_weights_of_every_layer_and_head(bert: LoadedEncoder) -> None:
    found = attention_map(bert, "user likes tea", "text")
    # Three layers, four heads, three words between [CLS] and [SEP].
    assert found.weights.shape == (3, 4, 5, 5)
    assert found.weights.dtype == np.float32
    np.testing.assert_allclose(found.weights.sum(3), 1, atol=1e-5)
    np.testing.assert_allclose(found.mean(2), found.weights[1].mean(0))
    np.testing.assert_array_equal(found.mean(), found.mean(3))
    assert found.note == NOTE == "a diagnostic, not evidence"


def test_a_causal_model_looks_back_alone(tiny_llama: Path, as_loaded: AsLoaded) -> None:
    weights = attention_map(as_loaded(tiny_llama, "last"), "user likes tea", "text").weights
    assert weights.shape[:2] == (2, 4)
    assert not np.triu(weights, 1).any()


def test_between_words() -> None:
    tokens = (
        Token(piece="[CLS]", start=0, end=0, is_own=False),
        Token(piece="oat", start=0, end=3, is_own=True),
        Token(piece="##s", start=3, end=4, is_own=True),
    )
    read = ReadText(text="oats", kind="item", ids=torch.tensor([[1, 2, 3]]), tokens=tokens, read=4)
    one = np.array([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.6, 0.0, 0.4]], np.float32)
    found = AttentionMap(read=read, weights=np.stack([one, one])[None])
    names, between = found.of_words()
    assert names == ("[CLS]", "oats")
    # To "oats" the sum of both pieces: .5, .8 and .4; from it the mean of both rows: (.2 + .6) / 2 and (.8 + .4) / 2.
    np.testing.assert_allclose(between, [[0.5, 0.5], [0.4, 0.6]], atol=1e-6)


@pytest.mark.parametrize("layer", [0, 4, -1])
def test_no_such_layer(layer: int, bert: LoadedEncoder) -> None:
    with pytest.raises(InvalidInputError, match=f"layer: expected 1 to 3, found {layer}"):
        attention_map(bert, "tea", "text").mean(layer)


def test_a_transformer_without_attention(by_hand: Callable[[Pooling], LoadedEncoder]) -> None:
    with pytest.raises(BackboneError, match="expected weights from LlamaModel, found none"):
        attention_map(by_hand("mean"), "tea", "text")
