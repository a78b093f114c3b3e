"""Exported encoders with a head of every kind, and one without layers whose logits can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from retrieval.encoder.backbone import Backbone, Pooling, load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.explain.load import LoadedEncoder
from retrieval.encoder.export import export
from retrieval.encoder.heads import RowHead
from retrieval.encoder.model import MultiTaskEncoder

Export = Callable[[Path, Pooling], Path]
AsLoaded = Callable[[Path, Pooling], LoadedEncoder]


def config_of(source: Path, pooling: Pooling) -> BackboneConfig:
    """A backbone with a length for each kind of text, and a prefix for users."""
    return BackboneConfig(
        name=str(source), pooling=pooling, max_tokens={"user": 12, "item": 16, "text": 24}, prefixes={"user": "user "}
    )


def off_the_start(config: BackboneConfig, tasks: tuple[EncoderTask, ...]) -> MultiTaskEncoder:
    """A model whose projections and heads are away from their start, numbers in units of their own."""
    torch.manual_seed(1)
    model = MultiTaskEncoder(load_backbone(config), tasks, EncoderConfig(backbone=config, rank=8, hidden=8))
    with torch.no_grad():
        for part in (model.projections, model.heads):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        for name in ("rating", "spend", "tone"):
            model.heads[name].scale.fill_(7.0)
    return model.eval()


@pytest.fixture(scope="session")
def exported(full_world: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Exports a model once per backbone."""
    known: dict[Path, Path] = {}

    def make(source: Path, pooling: Pooling) -> Path:
        if source not in known:
            config = config_of(source, pooling)
            folder = tmp_path_factory.mktemp("exported")
            export(off_the_start(config, full_world.tasks), config, folder)
            known[source] = folder
        return known[source]

    return make


@pytest.fixture(scope="session")
def as_loaded(full_world: TrainingData) -> AsLoaded:
    """Makes what loading an export of a backbone would give, without the export."""

    def make(source: Path, pooling: Pooling) -> LoadedEncoder:
        config = config_of(source, pooling)
        return LoadedEncoder(model=off_the_start(config, full_world.tasks).requires_grad_(False), config=config)

    return make


@pytest.fixture(scope="session")
def bert(tiny_bert: Path, as_loaded: AsLoaded) -> LoadedEncoder:
    """The tiny BERT with a head of every kind."""
    return as_loaded(tiny_bert, "mean")


@pytest.fixture
def by_hand(tiny_bert: Path) -> Callable[[Pooling], LoadedEncoder]:
    """No layer at all; "tea" is (0, 1), every other word and the padding (1, 0); a head that reads the second entry.

    A state is its embedding scaled to a root mean square of 1 by the final norm: (0, s) and (s, 0) with s = sqrt(2).
    """

    def make(pooling: Pooling) -> LoadedEncoder:
        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        sizes = {"hidden_size": 2, "intermediate_size": 2, "num_attention_heads": 1, "num_key_value_heads": 1}
        model = LlamaModel(LlamaConfig(vocab_size=len(tokenizer), num_hidden_layers=0, rms_norm_eps=1e-12, **sizes))
        task = EncoderTask(name="likes_tea", kind="binary", on="text")
        backbone = Backbone(model, tokenizer, pooling, causal=False).eval()
        encoder = MultiTaskEncoder(backbone, (task,), EncoderConfig(hidden=0))
        head = encoder.heads["likes_tea"]
        assert isinstance(head, RowHead)
        with torch.no_grad():
            model.embed_tokens.weight.copy_(torch.tensor([1.0, 0.0]))
            model.embed_tokens.weight[tokenizer.convert_tokens_to_ids("tea")] = torch.tensor([0.0, 1.0])
            head.outer.weight.copy_(torch.tensor([[0.0, 1.0]]))
            head.bias.fill_(0.25)
        return LoadedEncoder(model=encoder.requires_grad_(False), config=BackboneConfig())

    return make
