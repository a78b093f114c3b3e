from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from retrieval.encoder.adapt.config import LoraConfig
from retrieval.encoder.adapt.lora import Lora
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.explain.load import load_encoder
from retrieval.encoder.export import export
from retrieval.encoder.layout import DESCRIPTION, HEADS, WEIGHTS, EncoderFilesError
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import ShipConfig
from retrieval.encoder.ship.layout import RuntimeChoice
from retrieval.encoder.ship.shrink import shrink
from retrieval.encoder.ship.write import write_runtime
from retrieval.encoder.tokens import tokenize

if TYPE_CHECKING:
    from conftest import Export

TEXTS = [f"user likes {taste} number {n}" for taste in ("tea", "coffee") for n in range(8)]
CHURN = (EncoderTask(name="churn", kind="binary", on="user"),)


def _assert_serves_alike(folder: Path) -> None:
    loaded = load_encoder(folder)
    table, positions = tokenize(loaded.model.backbone.tokenizer, {"user": TEXTS}, loaded.config)
    with torch.no_grad():
        found = loaded.model.vectors(loaded.model.backbone(*table.padded(positions["user"])), "user").numpy()
    expected = TextEncoder.load(folder, choice=RuntimeChoice()).encode(TEXTS, "user")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_pooling_is_found_in_the_graph(tiny_bert: Path, exported: Export) -> None:
    # Neither the description nor a guess by the architecture (mean) tells it.
    folder = exported(tiny_bert, "cls")
    loaded = load_encoder(folder)
    assert loaded.model.backbone.pooling == "cls"
    assert loaded.config.prefixes == {"user": "user "}
    assert loaded.config.max_tokens == {"user": 12, "item": 16, "text": 24}
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not loaded.model.training
    _assert_serves_alike(folder)


def test_a_shrunk_encoder(tiny_bert: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert))
    model = MultiTaskEncoder(load_backbone(config), CHURN, EncoderConfig(hidden=4))
    ship = ShipConfig(keep_layers=2, trim_vocabulary=True, runtime="onnx", precision="int8_weights")
    small, report = shrink(model, {"user": TEXTS}, config, ship)
    export(small, config, tmp_path)
    write_runtime(tmp_path, ship, golden=TEXTS)
    loaded = load_encoder(tmp_path)
    assert len(loaded.model.backbone.layers()) == 2
    assert loaded.model.backbone.model.get_input_embeddings().weight.shape[0] == report.after.tokens
    _assert_serves_alike(tmp_path)


def test_merged_adapters(tiny_llama: Path, tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama), max_tokens={"user": 40, "item": 40, "text": 40})
    model = MultiTaskEncoder(load_backbone(config), CHURN, EncoderConfig(hidden=4))
    lora = Lora(model.backbone, LoraConfig(rank=2, alpha=4), None)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    lora.merge()
    export(model, config, tmp_path)
    _assert_serves_alike(tmp_path)


@pytest.fixture
def copied(tiny_bert: Path, exported: Export, tmp_path: Path) -> Path:
    return shutil.copytree(exported(tiny_bert, "cls"), tmp_path / "encoder")


def _edit(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path, metadata={"format": "pt"})


def test_weights_of_another_model_are_refused(copied: Path) -> None:
    _edit(copied / WEIGHTS, lambda arrays: arrays["encoder.layer.1.output.dense.weight"].mul_(1.5))
    with pytest.raises(EncoderFilesError, match=r"within 0.0001 of encoder.onnx on 5 golden texts, found .* nearest"):
        load_encoder(copied)


def test_heads_that_dont_fit_are_named(copied: Path) -> None:
    _edit(copied / HEADS, lambda arrays: arrays.update({"head/topic/outer": torch.zeros(3, 8)}))
    with pytest.raises(EncoderFilesError, match=r"expected arrays that fit each task, found others for \['topic'\]"):
        load_encoder(copied)


def test_missing_files_are_named(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderFilesError, match=r"encoder\.json: expected an exported encoder, found no such file"):
        load_encoder(tmp_path)
    (copied / WEIGHTS).unlink()
    with pytest.raises(EncoderFilesError, match=r"expected model\.safetensors, found no such file"):
        load_encoder(copied)
    described = json.loads((copied / DESCRIPTION).read_text(encoding="utf-8"))
    (copied / DESCRIPTION).write_text(json.dumps(described | {"format": 1}), encoding="utf-8")
    with pytest.raises(EncoderFilesError, match="expected format 4, found 1"):
        load_encoder(copied)
