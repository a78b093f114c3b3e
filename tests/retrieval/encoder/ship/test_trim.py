from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from retrieval.encoder.backbone import Backbone, BackboneError, load_backbone
from retrieval.encoder.config import BackboneConfig, Kind
from retrieval.encoder.ship.trim import trim_tokens
from retrieval.encoder.tokens import tokenize

SEEN: dict[Kind, list[str]] = {
    "item": ["tea number 3", "tea number 4", "辣 tea"],
    "user": ["user likes tea"],
    "text": [],
}


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_texts_keep_their_vectors(kind: str, tiny_bert: Path, tiny_llama: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert if kind == "bert" else tiny_llama))
    whole = load_backbone(config)
    small = trim_tokens(whole, SEEN, config)
    small.model.save_pretrained(tmp_path)
    small.tokenizer.save_pretrained(tmp_path)
    loaded = load_backbone(BackboneConfig(name=str(tmp_path)))
    expected = _vectors(whole, config)
    for trimmed in (small, loaded):
        torch.testing.assert_close(_vectors(trimmed, config), expected, atol=1e-6, rtol=0)
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    assert rows == loaded.model.config.vocab_size == len(loaded.tokenizer)
    assert rows < whole.model.get_input_embeddings().weight.shape[0]
    if kind == "bert":
        # Four special tokens, and tea, number, 3, 4, user, likes and 辣; 椒 and coffee stay as single characters do.
        kept = set(loaded.tokenizer.get_vocab())
        assert kept == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "tea", "number", "3", "4", "user", "likes", "辣"}
        assert loaded.tokenizer("coffee").input_ids == [2, 1, 3]


def test_ids_that_the_configuration_names_move_along(tiny_llama: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama))
    whole = load_backbone(config)
    whole.model.config.bos_token_id = whole.tokenizer.convert_tokens_to_ids("coffee") or 300
    whole.model.config.eos_token_id = whole.tokenizer.convert_tokens_to_ids("tea")
    small = trim_tokens(whole, SEEN, config)
    assert small.model.config.eos_token_id == small.tokenizer.convert_tokens_to_ids("tea")
    assert small.model.config.bos_token_id is None
    assert whole.model.config.bos_token_id is not None


def test_a_model_that_counts_positions_from_its_padding() -> None:
    words = ["unused", "[PAD]", "[UNK]", "tea", "soap"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    shape = RobertaConfig(
        vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=20, pad_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    whole = Backbone(RobertaModel(shape, add_pooling_layer=False), fast, "mean", causal=False).eval()
    # Without "unused" the padding's id becomes 0, and the first position 1 instead of 2.
    with pytest.raises(BackboneError, match="expected the same states from RobertaModel with fewer tokens, found"):
        trim_tokens(whole, {"item": ["tea soap"]}, BackboneConfig())
    used = trim_tokens(whole, {"item": ["unused tea"]}, BackboneConfig())
    assert used.model.get_input_embeddings().weight.shape == (4, 8)


@torch.no_grad()
def _vectors(backbone: Backbone, config: BackboneConfig) -> torch.Tensor:
    table, positions = tokenize(backbone.tokenizer, SEEN, config)
    return torch.cat([backbone(*table.padded(positions[kind])) for kind in ("item", "user")])
