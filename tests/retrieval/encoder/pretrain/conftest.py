"""A tiny BERT that can be asked for masked tokens, Chinese ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import normalizers
from transformers import AutoModel, AutoTokenizer

from retrieval.encoder.config import BackboneConfig


@pytest.fixture(scope="session")
def masked_bert(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> BackboneConfig:
    """The tiny BERT with a mask token, and a normaliser that parts Chinese characters."""
    folder = tmp_path_factory.mktemp("masked_bert")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModel.from_pretrained(tiny_bert)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    return BackboneConfig(name=str(folder))
