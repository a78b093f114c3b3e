"""A tiny BERT that has read what texts are about, in English and Chinese."""

from __future__ import annotations

import pytest
from tokenizers import normalizers

from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.pretrain.config import PretrainConfig
from retrieval.encoder.pretrain.pretrain import pretrain
from tests.tiny_transformers import word_tokenizer, words_and_digits, write_bert

ABOUT = {"tea": "drink", "coffee": "drink", "bread": "food", "soap": "wash"}
ABOUT_CHINESE = {"茶": "饮料", "面包": "食品", "肥皂": "清洁"}
READ = [
    *(f"{thing} {n} is about {topic} ." for thing, topic in ABOUT.items() for n in range(8)),
    *(f"{thing}{n}的主题是{topic}。" for thing, topic in ABOUT_CHINESE.items() for n in range(8)),
]


@pytest.fixture(scope="session")
def speechless_bert(tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """A random BERT with a mask token; its words are whole, Chinese ones are characters."""
    split, normalizer = words_and_digits(), normalizers.BertNormalizer()
    text = normalizer.normalize_str(" ".join([*READ, "8 9 first second"]))
    words = sorted({word for word, _ in split.pre_tokenize_str(text)})
    tokenizer = word_tokenizer(words, split=split, normalizer=normalizer)
    folder = write_bert(tmp_path_factory.mktemp("speechless"), tokenizer)
    return BackboneConfig(name=str(folder), max_tokens={"user": 16, "item": 16, "text": 16})


@pytest.fixture(scope="session")
def read_bert(speechless_bert: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """The same after reading in two languages what is drunk, eaten and used for cleaning, with numbers 0 to 7 alone."""
    config = PretrainConfig(
        steps=300, head_steps=0, batch=16, max_tokens=16, learning_rate=3e-3, mask_share=0.4, held_out=0.1,
        validate_every=300,
    )  # fmt: skip
    return pretrain(speechless_bert, READ, config, tmp_path_factory.mktemp("out") / "read", progress=False).backbone
