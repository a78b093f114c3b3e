from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from infra.errors import InvalidInputError
from infra.files import TargetExistsError
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.pretrain import pretrain as module
from retrieval.encoder.pretrain.config import PretrainConfig
from retrieval.encoder.pretrain.pretrain import PretrainResult, pretrain, similar_lengths, split
from retrieval.encoder.tokens import tokenize
from retrieval.encoder.train import train

CORPUS = [f"{taste} number {n}" for taste in ("tea", "coffee", "bread", "soap", "辣椒") for n in range(10)]
CONFIG = PretrainConfig(
    steps=60, head_steps=20, batch=16, learning_rate=1e-3, head_learning_rate=1e-2, validate_every=20, held_out=0.2
)


def _vectors(config: BackboneConfig) -> torch.Tensor:
    backbone = load_backbone(config)
    table, _ = tokenize(backbone.tokenizer, {"text": CORPUS}, config)
    with torch.no_grad():
        return backbone(*table.padded(np.arange(len(table.lengths))))


@pytest.fixture(scope="module")
def masked(masked_bert: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> PretrainResult:
    """A pass over the small corpus, each text twice."""
    return pretrain(masked_bert, CORPUS + CORPUS, CONFIG, tmp_path_factory.mktemp("out") / "bert", progress=False)


def test_the_held_out_loss_falls(masked: PretrainResult) -> None:
    assert (masked.objective, masked.head_is_new) == ("mlm", True)
    # Fifty distinct texts, a fifth of them held out.
    assert (masked.texts, masked.held_out) == (40, 10)
    assert masked.after < masked.transformer_before - 0.1
    assert masked.transformer_before < masked.before - 0.1
    assert [(entry.phase, entry.step) for entry in masked.history] == [
        ("head", 0), ("head", 20), ("pretrain", 0), ("pretrain", 20), ("pretrain", 40), ("pretrain", 60),
    ]  # fmt: skip
    assert masked.perplexities == pytest.approx(np.exp([masked.before, masked.transformer_before, masked.after]))


def test_the_folder_written_is_another_backbone_of_the_same_architecture(
    masked: PretrainResult, masked_bert: BackboneConfig
) -> None:
    before, after = load_backbone(masked_bert), load_backbone(masked.backbone)
    assert type(after.model) is type(before.model)
    shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (before, after)]
    assert shapes[0] == shapes[1]
    assert (after.pooling, after.causal, after.pad_id) == (before.pooling, before.causal, before.pad_id)
    assert not torch.allclose(_vectors(masked.backbone), _vectors(masked_bert), atol=1e-3)
    assert masked.backbone.sha256 is not None


def test_the_encoder_trains_on_it(
    masked: PretrainResult, world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    backbone = masked.backbone.model_copy(update={"max_tokens": small_config.backbone.max_tokens})
    config = small_config.model_copy(update={"backbone": backbone, "steps": 2})
    result = train(world, config, out=tmp_path, progress=False)
    assert result.best.mean < result.history[0].mean


def test_a_head_alone_leaves_the_transformer_as_it_was(masked_bert: BackboneConfig, tmp_path: Path) -> None:
    # A rate of nearly nothing: what differs then, differs by the head's steps.
    still = CONFIG.model_copy(update={"steps": 1, "learning_rate": 1e-12})
    result = pretrain(masked_bert, CORPUS, still, tmp_path / "still", progress=False)
    assert torch.allclose(_vectors(result.backbone), _vectors(masked_bert), atol=1e-6)
    assert result.transformer_before < result.before - 0.1


def test_a_second_pass_goes_on_with_the_first_ones_head(masked: PretrainResult, tmp_path: Path) -> None:
    again = pretrain(masked.backbone, CORPUS, CONFIG.model_copy(update={"steps": 1}), tmp_path / "on", progress=False)
    assert not again.head_is_new
    assert again.before == again.transformer_before == pytest.approx(masked.after, abs=1e-4)


def test_a_causal_backbone_learns_the_next_token(tiny_llama: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama))
    result = pretrain(config, CORPUS, CONFIG, tmp_path / "llama", progress=False)
    assert result.objective == "clm"
    # Its tied head has no weights of its own, so the transformer learns from the first step.
    assert {entry.phase for entry in result.history} == {"pretrain"}
    assert result.after < result.before - 0.5
    assert load_backbone(result.backbone).causal
    assert not torch.allclose(_vectors(result.backbone), _vectors(config), atol=1e-3)


def test_a_seed_repeats_a_pass_whatever_the_order_of_texts(masked_bert: BackboneConfig, tmp_path: Path) -> None:
    short = CONFIG.model_copy(update={"steps": 20})
    runs = [
        pretrain(masked_bert, texts, short.model_copy(update={"seed": seed}), tmp_path / str(n), progress=False)
        for n, (texts, seed) in enumerate(((CORPUS, 1), (CORPUS[::-1], 1), (CORPUS, 2)))
    ]
    # The weights kept are no longer those that all runs begin with.
    assert runs[0].after < runs[0].transformer_before
    assert runs[0].backbone.sha256 == runs[1].backbone.sha256
    assert runs[0].backbone.sha256 != runs[2].backbone.sha256


@pytest.mark.parametrize("rate", [100.0, 1e30])
def test_a_pass_that_diverges_stops_and_leaves_the_best_weights(
    masked_bert: BackboneConfig, tmp_path: Path, rate: float
) -> None:
    # At 1e30 the loss is no number after the first step.
    rash = CONFIG.model_copy(
        update={"head_steps": 0, "steps": 200, "learning_rate": rate, "validate_every": 1, "patience": 2}
    )
    result = pretrain(masked_bert, CORPUS, rash, tmp_path / "rash", progress=False)
    assert result.steps < 20
    assert result.after == min(entry.mean for entry in result.history)
    assert bool(torch.isfinite(_vectors(result.backbone)).all())


def test_what_cannot_be_learnt_from_is_refused(masked_bert: BackboneConfig, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"texts: expected at least two .*, found 1"):
        pretrain(masked_bert, ["tea", "tea", ""], CONFIG, tmp_path / "one", progress=False)
    with pytest.raises(InvalidInputError, match="max_tokens: expected at most the backbone's 64, found 65"):
        pretrain(masked_bert, CORPUS, CONFIG.model_copy(update={"max_tokens": 65}), tmp_path / "long", progress=False)
    with pytest.raises(TargetExistsError, match="expected no entry"):
        pretrain(masked_bert, CORPUS, CONFIG, tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValidationError, match="mask_rate"):
        PretrainConfig.model_validate({"mask_rate": 0.15})


def test_texts_held_out_are_a_share_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_OUT_LIMIT", 3)
    rng = np.random.default_rng(0)
    # .3 x 10 = 3; .5 x 10 = 5, at most 3; .01 x 10, at least 1; of two texts one is learnt from.
    for count, share, expected in ((10, 0.3, 3), (10, 0.5, 3), (10, 0.01, 1), (2, 0.9, 1)):
        training, held_out = split(np.arange(count), share, rng)
        assert len(held_out) == expected
        assert sorted([*training, *held_out]) == list(range(count))


def test_a_pass_takes_every_text_once_with_its_like() -> None:
    lengths = np.array([2, 9, 2, 9, 2, 9, 2, 9])
    batches = similar_lengths(np.arange(8), lengths, 4, np.random.default_rng(0))
    for _ in range(3):
        first, second = islice(batches, 2)
        assert sorted([*first, *second]) == list(range(8))
        assert len(set(lengths[first])) == len(set(lengths[second])) == 1
