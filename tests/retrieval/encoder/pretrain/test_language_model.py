from __future__ import annotations

from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from transformers import AutoModelForMaskedLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.pretrain.language_model import LM_HEAD, LanguageModel, load_language_model, save_language_model


@pytest.fixture(scope="session", params=["bert", "llama"])
def config(request: pytest.FixtureRequest, masked_bert: BackboneConfig, tiny_llama: Path) -> BackboneConfig:
    """A masked and a causal backbone."""
    return masked_bert if request.param == "bert" else BackboneConfig(name=str(tiny_llama))


def _logits(language: LanguageModel) -> torch.Tensor:
    ids = torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]], device=language.device)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], device=language.device)
    with torch.no_grad():
        return language.logits_at(ids, mask, mask.bool())


def test_logits_of_some_positions_are_the_models_own(config: BackboneConfig) -> None:
    language = load_language_model(config)
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    spots = torch.tensor([[True, False, True], [False, True, False]])
    with torch.no_grad():
        expected = language.model(input_ids=ids, attention_mask=mask).logits[spots]
        torch.testing.assert_close(language.logits_at(ids, mask, spots), expected)
        assert language.model(input_ids=ids, attention_mask=mask).logits.shape[:2] == (2, 3)


def test_a_head_that_files_lack_is_new_and_tied_and_the_log_says_so(config: BackboneConfig) -> None:
    with capture_logs() as entries:
        language = load_language_model(config)
    assert language.head_is_new
    assert language.model.get_output_embeddings().weight is language.model.get_input_embeddings().weight
    assert [entry["tied_to"] for entry in entries if entry["event"] == "language_model_head_is_new"]
    # Nothing of a tied next-token head is its own; a masked one has a layer before the matrix.
    assert bool(language.head_parameters()) is not language.backbone.causal


def test_a_written_head_is_found_again(config: BackboneConfig, tmp_path: Path) -> None:
    language = load_language_model(config)
    with torch.no_grad():
        for parameter in language.model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_language_model(language, tmp_path)
    again = load_language_model(BackboneConfig(name=str(tmp_path)))
    assert not again.head_is_new
    assert again.tied
    assert torch.equal(_logits(again), _logits(language))
    # Without the head's file, what is left is a plain backbone.
    (tmp_path / LM_HEAD).unlink()
    assert load_language_model(BackboneConfig(name=str(tmp_path))).head_is_new
    assert type(load_backbone(BackboneConfig(name=str(tmp_path))).model) is type(load_backbone(config).model)


def test_a_checkpoint_with_its_head_keeps_it(masked_bert: BackboneConfig, tmp_path: Path) -> None:
    whole = load_language_model(masked_bert).model
    whole.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(masked_bert.name).save_pretrained(tmp_path)
    language = load_language_model(BackboneConfig(name=str(tmp_path)))
    assert not language.head_is_new
    expected = AutoModelForMaskedLM.from_pretrained(tmp_path).cls.predictions.transform.dense.weight
    assert torch.equal(language.model.cls.predictions.transform.dense.weight, expected)


def test_a_trained_head_with_a_matrix_of_its_own_is_kept(tiny_llama: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_llama))
    whole.save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path / "whole")
    language = load_language_model(BackboneConfig(name=str(tmp_path / "whole")))
    assert (language.head_is_new, language.tied) == (False, False)
    (tmp_path / "written").mkdir()
    save_language_model(language, tmp_path / "written")
    again = load_language_model(BackboneConfig(name=str(tmp_path / "written")))
    assert torch.equal(again.model.lm_head.weight, whole.lm_head.weight.to(again.device))
    assert torch.equal(_logits(again), _logits(language))


def test_transformer_and_language_model_share_their_weights(config: BackboneConfig) -> None:
    language = load_language_model(config)
    own = {id(parameter) for parameter in language.backbone.parameters()}
    head = {id(parameter) for parameter in language.head_parameters().values()}
    assert own
    assert not own & head
    assert own | head == {id(parameter) for parameter in language.model.parameters()}
