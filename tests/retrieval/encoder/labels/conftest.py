"""A tiny BERT that has read what texts are about, in English and Chinese."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.pretrain.config import PretrainConfig
from retrieval.encoder.pretrain.pretrain import pretrain

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ABOUT = {"tea": "drink", "coffee": "drink", "bread": "food", "soap": "wash"}
ABOUT_CHINESE = {"茶": "饮料", "面包": "食品", "肥皂": "清洁"}
READ = [
    *(f"{thing} {n} is about {topic} ." for thing, topic in ABOUT.items() for n in range(8)),
    *(f"{thing}{n}的主题是{topic}。" for thing, topic in ABOUT_CHINESE.items() for n in range(8)),
]


@pytest.fixture(scope="session")
def speechless_bert(tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """A random BERT with a mask token; its words are whole, Chinese ones are characters."""
    folder = tmp_path_factory.mktemp("speechless")
    split = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)])
    normalizer = normalizers.BertNormalizer()
    text = normalizer.normalize_str(" ".join([*READ, "8 9 first second"]))
    words = sorted({word for word, _ in split.pre_tokenize_str(text)})
    vocabulary = {word: n for n, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return BackboneConfig(name=str(folder), max_tokens={"user": 16, "item": 16, "text": 16})


@pytest.fixture(scope="session")
def read_bert(speechless_bert: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """The same after reading in two languages what is drunk, eaten and used for cleaning, with numbers 0 to 7 alone."""
    config = PretrainConfig(
        steps=300, head_steps=0, batch=16, max_tokens=16, learning_rate=3e-3, mask_share=0.4, held_out=0.1,
        validate_every=300,
    )  # fmt: skip
    return pretrain(speechless_bert, READ, config, tmp_path_factory.mktemp("out") / "read", progress=False).backbone
