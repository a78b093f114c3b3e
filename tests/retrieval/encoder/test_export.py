from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig, Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.export import ExportError, export, verify
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.heads import RowHead
from retrieval.encoder.layout import DESCRIPTION, EncoderFilesError, TaskEntry
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.tokens import tokenize

TEXTS = ["user likes tea", "", "tea number 3", "辣椒 tea", "user likes tea", "coffee " * 30, "unheard of"]


def _model(config: BackboneConfig, tasks: tuple[EncoderTask, ...]) -> MultiTaskEncoder:
    """A model whose every parameter, heads included, is away from its start."""
    torch.manual_seed(1)
    model = MultiTaskEncoder(load_backbone(config), tasks, EncoderConfig(backbone=config, rank=8, hidden=8))
    with torch.no_grad():
        for part in (model.projections, model.heads):
            for parameter in part.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module")
def exported(
    tiny_bert: Path, tasks: tuple[EncoderTask, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[MultiTaskEncoder, BackboneConfig, Path]:
    config = BackboneConfig(
        name=str(tiny_bert), max_tokens={"user": 8, "item": 6, "text": 8}, prefixes={"user": "user "}
    )
    model = _model(config, tasks)
    folder = tmp_path_factory.mktemp("encoder")
    report = export(model, config, folder, golden=TEXTS)
    assert report.vector_difference < 1e-5
    return model, config, folder


@pytest.mark.parametrize("kind", ["user", "item", "text"])
def test_runtime_equals_torch(exported: tuple[MultiTaskEncoder, BackboneConfig, Path], kind: Kind) -> None:
    model, config, folder = exported
    table, positions = tokenize(model.backbone.tokenizer, {kind: TEXTS}, config)
    with torch.no_grad():
        expected = model.vectors(model.backbone(*table.padded(positions[kind])), kind).numpy()
    seen: list[tuple[int, int]] = []
    found = TextEncoder.load(folder, threads=1).encode(TEXTS, kind, progress=lambda done, of: seen.append((done, of)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert seen[-1] == (6, 6)  # seven texts, two of them equal
    assert np.array_equal(found[0], found[4])


def test_one_text_alone_and_none(exported: tuple[MultiTaskEncoder, BackboneConfig, Path]) -> None:
    encoder = TextEncoder.load(exported[2])
    together = encoder.encode(TEXTS, "item")
    np.testing.assert_allclose(encoder.encode(TEXTS[3:4], "item")[0], together[3], atol=1e-5)
    assert encoder.encode([], "item").shape == (0, 32)


def test_a_query_that_is_an_items_text_finds_it(exported: tuple[MultiTaskEncoder, BackboneConfig, Path]) -> None:
    encoder = TextEncoder.load(exported[2])
    np.testing.assert_allclose(encoder.encode(["tea"], "text"), encoder.encode(["tea"], "item"), atol=1e-6)


def test_heads_equal_torch(exported: tuple[MultiTaskEncoder, BackboneConfig, Path]) -> None:
    model, _, folder = exported
    heads = Heads.load(folder)
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, 32)).astype(np.float32) for n in (2, 5))
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    with torch.no_grad():
        for task in ("retrieval", "purchase", "repurchase"):
            expected = model.heads[task](torch.from_numpy(users), torch.from_numpy(items)).numpy()
            side = heads.item_side(task, items)
            for row in range(2):
                np.testing.assert_allclose(heads.pair_logits(task, users[row], items), expected[row], atol=1e-4)
                np.testing.assert_allclose(
                    heads.side_logits(task, users[row], side[[3, 1]]), expected[row, [3, 1]], atol=1e-4
                )
        expected = model.heads["churn"](torch.from_numpy(users)).numpy()
    np.testing.assert_allclose(heads.row_logits("churn", users), expected, atol=1e-4)
    assert heads.item_side("purchase", items).shape == (5, 9)


def test_a_linear_user_head() -> None:
    head = RowHead(3, 0)
    with torch.no_grad():
        head.outer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        head.bias.fill_(0.5)
    arrays = {name: value.detach().numpy() for name, value in head.arrays().items()}
    heads = Heads({"churn": TaskEntry(name="churn", kind="binary", on="user")}, {"churn": arrays})
    vectors = np.eye(3, dtype=np.float32)
    # The head scales unit vectors by sqrt(3).
    np.testing.assert_allclose(heads.row_logits("churn", vectors), np.sqrt(3) * np.array([1, 2, 3]) + 0.5, rtol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(heads.row_logits("churn", vectors), head(torch.from_numpy(vectors)), rtol=1e-6)


def test_a_causal_backbone(tiny_llama: Path, tasks: tuple[EncoderTask, ...], tmp_path: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama), max_tokens={"user": 16, "item": 16, "text": 16})
    report = export(_model(config, tasks), config, tmp_path, golden=TEXTS)
    assert report.vector_difference < 1e-5


def test_unknown_tasks_and_broken_folders_are_named(
    exported: tuple[MultiTaskEncoder, BackboneConfig, Path], tmp_path: Path
) -> None:
    heads = Heads.load(exported[2])
    with pytest.raises(InvalidInputError, match=r"one on user or item or text \(churn\), found 'purchase'"):
        heads.row_logits("purchase", np.zeros((1, 32), np.float32))
    with pytest.raises(EncoderFilesError, match="expected an exported encoder"):
        TextEncoder.load(tmp_path)
    description = json.loads((exported[2] / DESCRIPTION).read_text())
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(EncoderFilesError, match=r"expected encoder\.onnx"):
        TextEncoder.load(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(EncoderFilesError, match="expected format 4, found 99"):
        Heads.load(tmp_path)


def test_files_of_another_model_are_refused(exported: tuple[MultiTaskEncoder, BackboneConfig, Path]) -> None:
    model, config, folder = exported
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.heads["churn"].parameters()).add_(0.1)
    with pytest.raises(ExportError, match="golden texts, found"):
        verify(other, config, folder)


def test_the_runtime_imports_no_torch() -> None:
    code = "import sys, retrieval.encoder.runtime; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
