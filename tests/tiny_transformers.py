"""Random transformers small enough to train in a test, with tokenizers that read a few words each.

All are seeded: the same call writes the same folder, and leaves torch's generator in the same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
MASK = "[MASK]"
END_OF_TEXT = "</s>"


def words_and_digits() -> PreTokenizer:
    """Words as BERT parts them, and numbers digit by digit: ten tokens read every number."""
    return pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)])


def word_tokenizer(
    words: Iterable[str],
    *,
    special: tuple[str, ...] = (*SPECIAL, MASK),
    split: PreTokenizer | None = None,
    normalizer: Normalizer | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that frames texts as BERT does.

    Args:
        words: The words it knows, in the order of their ids, which follow the special tokens' own.
        special: The special tokens, `SPECIAL` first: their ids are 0, 1, ..., their names those in the brackets.
        split: What parts a text; BERT's parting at spaces and punctuation by default.
        normalizer: What a text passes before it is parted.
    """
    vocabulary = {word: n for n, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = split or pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in special}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)  # type: ignore[no-untyped-call]


def byte_level_tokenizer(texts: Iterable[str], size: int, special: list[str]) -> Tokenizer:
    """A byte-level tokenizer of at most `size` tokens, merged from the texts; it adds nothing to a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_bert(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    architecture: type[BertModel | BertForMaskedLM] = BertModel,
    layers: int = 2,
    hidden: int = 32,
    intermediate: int = 64,
    positions: int = 32,
    dropout: float = 0.1,
    spread: float = 0.2,
) -> Path:
    """Write a random BERT that reads the tokenizer's vocabulary, with the tokenizer.

    Args:
        folder: Where both go.
        tokenizer: Its tokenizer.
        architecture: The bare transformer, or the one with a head for masked tokens.
        layers: Number of layers.
        hidden: Length of a state; each attention head reads eight entries of it.
        intermediate: Length of a state within the feed-forward network.
        positions: The most tokens that a text can have.
        dropout: The share of a state's entries that training drops.
        spread: Standard deviation of the random weights.

    Returns:
        The folder.
    """
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 8,
        intermediate_size=intermediate, max_position_embeddings=positions, hidden_dropout_prob=dropout,
        initializer_range=spread,
    )  # fmt: skip
    architecture(config).save_pretrained(folder)
    return folder


def write_llama(
    folder: Path,
    texts: Iterable[str],
    *,
    architecture: type[LlamaModel | LlamaForCausalLM] = LlamaModel,
    positions: int = 64,
) -> Path:
    """Write a random Llama of two layers and a byte-level tokenizer of the texts, whose only special token ends a text.

    Args:
        folder: Where both go.
        texts: What the tokenizer's tokens are merged from.
        architecture: The bare transformer, or the one that writes on.
        positions: The most tokens that a text can have.

    Returns:
        The folder.
    """
    tokenizer = byte_level_tokenizer(texts, 320, [END_OF_TEXT])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT)  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, max_position_embeddings=positions, initializer_range=0.2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    architecture(config).save_pretrained(folder)
    return folder
