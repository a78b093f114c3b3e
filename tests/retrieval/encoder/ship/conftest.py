"""A small trained encoder, exported once, and texts for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.export import export
from retrieval.encoder.model import MultiTaskEncoder

TASTES = ("tea", "coffee", "bread", "soap")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Forty distinct texts of one to five words."""
    return [f"{'user likes ' * (n % 2)}{taste} number {n}" if n else taste for taste in TASTES for n in range(10)]


@pytest.fixture(scope="session")
def backbone_config(tiny_bert: Path) -> BackboneConfig:
    """The tiny BERT, with a prefix for users."""
    return BackboneConfig(
        name=str(tiny_bert), max_tokens={"user": 10, "item": 8, "text": 8}, prefixes={"user": "user "}
    )


@pytest.fixture(scope="session")
def model(backbone_config: BackboneConfig, tasks: tuple[EncoderTask, ...]) -> MultiTaskEncoder:
    """A model whose projections are away from zero."""
    torch.manual_seed(1)
    config = EncoderConfig(backbone=backbone_config, rank=8, hidden=8)
    model = MultiTaskEncoder(load_backbone(backbone_config), tasks, config)
    with torch.no_grad():
        for parameter in model.projections.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(scope="session")
def exported(
    model: MultiTaskEncoder, backbone_config: BackboneConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The model's files; tests that write into them take `folder`."""
    folder = tmp_path_factory.mktemp("exported") / "encoder"
    export(model, backbone_config, folder)
    return folder


@pytest.fixture(scope="session")
def tagging(backbone_config: BackboneConfig) -> MultiTaskEncoder:
    """A model with tags of words and of characters."""
    torch.manual_seed(1)
    tasks = (
        EncoderTask(name="slots", kind="token_tags", on="text", classes=("O", "B", "I")),
        EncoderTask(name="signs", kind="token_tags", on="text", classes=("O", "X"), unit="character"),
    )
    model = MultiTaskEncoder(load_backbone(backbone_config), tasks, EncoderConfig(backbone=backbone_config))
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported files."""
    return shutil.copytree(exported, tmp_path / "encoder")
