from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from retrieval.encoder.backbone import BackboneError, load_backbone, locate, pool, set_trainable
from retrieval.encoder.config import PACKAGED_BACKBONE, BackboneConfig


def test_pooling_ignores_padding() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [90.0, 90.0]]])
    mask = torch.tensor([[1, 1, 0]])
    # mean: ((1 + 3) / 2, (2 + 4) / 2); cls: the first token; last: the second, since the third is padding.
    assert pool(states, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(states, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pool(states, mask, "last").tolist() == [[3.0, 4.0]]


def test_pooling_follows_the_architecture(tiny_bert: Path, tiny_llama: Path) -> None:
    bert, llama = (load_backbone(BackboneConfig(name=str(folder))) for folder in (tiny_bert, tiny_llama))
    assert (bert.causal, bert.pooling) == (False, "mean")
    assert (llama.causal, llama.pooling) == (True, "last")
    assert load_backbone(BackboneConfig(name=str(tiny_bert), pooling="cls")).pooling == "cls"
    assert not bert.training


def test_padding_changes_no_vector(tiny_llama: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_llama)))
    short = backbone(torch.tensor([[5, 6]]), torch.tensor([[1, 1]]))
    long = backbone(torch.tensor([[5, 6, 0, 0]]), torch.tensor([[1, 1, 0, 0]]))
    torch.testing.assert_close(short, long, atol=1e-6, rtol=1e-5)


def test_only_the_top_layers_learn(tiny_bert: Path) -> None:
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    set_trainable(backbone, 1)
    learning = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert learning
    assert all(name.startswith("model.encoder.layer.2.") for name in learning)


def test_weights_of_another_digest_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(BackboneError, match=r"expected sha256 0000, found [0-9a-f]{64}"):
        locate(BackboneConfig(name=str(tiny_bert), sha256="0000"))
    with pytest.raises(BackboneError, match="expected sha256 0000"):
        locate(BackboneConfig(name=PACKAGED_BACKBONE, sha256="0000"))


def test_the_packaged_backbone_is_the_trusted_one() -> None:
    assert (Path(locate(BackboneConfig())) / "tokenizer.json").is_file()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=f"found '{tmp_path}' \\(folder\\)"):
        load_backbone(BackboneConfig(name=str(tmp_path)))
    with pytest.raises(BackboneError, match="not a folder on this machine"):
        load_backbone(BackboneConfig(name="no-such/model", local_files_only=True))


def test_weights_that_a_file_lacks_are_told(tiny_bert: Path, tmp_path: Path) -> None:
    for path in tiny_bert.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(("encoder.layer.2.", "pooler."))}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with capture_logs() as logs:
        load_backbone(BackboneConfig(name=str(tmp_path)))
    (entry,) = [entry for entry in logs if entry["event"] == "backbone_weights_missing"]
    # A BERT layer has 16 arrays; the pooler, which no backbone keeps, is not missed.
    assert entry["weights"] == 16
    with capture_logs() as logs:
        load_backbone(BackboneConfig(name=str(tiny_bert)))
    assert logs == []
