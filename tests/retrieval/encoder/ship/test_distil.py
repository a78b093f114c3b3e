from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Backbone, load_backbone, set_trainable
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.ship.config import DistilConfig
from retrieval.encoder.ship.distil import distil
from retrieval.encoder.ship.prune import drop_layers
from retrieval.encoder.tokens import TokenTable, tokenize

CONFIG = DistilConfig(steps=40, batch=16, learning_rate=2e-3, held_out=0.2)


@pytest.fixture(scope="module")
def teacher(tiny_bert: Path) -> Backbone:
    """Three layers, the lower ones frozen as after fine-tuning."""
    backbone = load_backbone(BackboneConfig(name=str(tiny_bert)))
    set_trainable(backbone, 1)
    return backbone


@pytest.fixture(scope="module")
def table(teacher: Backbone, texts: list[str]) -> TokenTable:
    """Forty texts."""
    return tokenize(teacher.tokenizer, {"item": texts}, BackboneConfig())[0]


def test_the_student_comes_near_on_texts_it_never_saw(teacher: Backbone, table: TokenTable) -> None:
    before = copy.deepcopy(teacher.state_dict())
    student = drop_layers(teacher, 2)
    embeddings = student.model.get_input_embeddings().weight.detach().clone()
    report = distil(teacher, student, table, CONFIG)
    assert report.held_out == 8  # a fifth of forty
    assert 1 - report.after < 0.5 * (1 - report.before)
    assert torch.equal(student.model.get_input_embeddings().weight, embeddings)
    assert not torch.equal(
        student.layers()[0].attention.self.query.weight, teacher.layers()[0].attention.self.query.weight
    )
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_the_report_is_the_mean_cosine_of_the_texts_held_out(teacher: Backbone, table: TokenTable) -> None:
    student = drop_layers(teacher, 2)
    report = distil(teacher, student, table, CONFIG.model_copy(update={"steps": 1, "learning_rate": 1e-12}))
    held = np.random.default_rng(CONFIG.seed).permutation(40)[:8]
    with torch.no_grad():
        both = [backbone(*table.padded(held)) for backbone in (teacher, student)]
    expected = float(torch.nn.functional.cosine_similarity(*both).mean())
    # The report's vectors are multiplied in bfloat16 where that is fast.
    assert report.before == pytest.approx(expected, abs=5e-3)
    assert report.after == pytest.approx(expected, abs=5e-3)


def test_a_run_repeats_and_embeddings_learn_if_asked(teacher: Backbone, table: TokenTable) -> None:
    config = CONFIG.model_copy(update={"steps": 3, "embeddings": True})
    first, second = drop_layers(teacher, 2), drop_layers(teacher, 2)
    assert distil(teacher, first, table, config) == distil(teacher, second, table, config)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    whole = teacher.model.get_input_embeddings().weight
    assert not torch.equal(first.model.get_input_embeddings().weight, whole)


def test_what_cannot_be_taught(teacher: Backbone, table: TokenTable) -> None:
    with pytest.raises(
        InvalidInputError, match="expected at most the 32 distinct texts that are not held out, found 33"
    ):
        distil(teacher, drop_layers(teacher, 2), table, CONFIG.model_copy(update={"batch": 33}))
    narrow = drop_layers(teacher, 2)
    narrow.dim = 16
    with pytest.raises(InvalidInputError, match="expected vectors of the teacher's 32, found 16"):
        distil(teacher, narrow, table, CONFIG)


def test_a_causal_student(tiny_llama: Path, texts: list[str]) -> None:
    teacher = load_backbone(BackboneConfig(name=str(tiny_llama)))
    table, _ = tokenize(teacher.tokenizer, {"item": texts}, BackboneConfig())
    report = distil(teacher, drop_layers(teacher, 1), table, CONFIG)
    assert 1 - report.after < 0.7 * (1 - report.before)


def _nearness(teacher: Backbone, student: Backbone, table: TokenTable, texts: np.ndarray) -> float:
    """Mean cosine of the token states."""
    ids, mask = table.padded(texts)
    with torch.no_grad():
        both = [backbone.states(ids, mask)[mask.bool()] for backbone in (teacher, student)]
    return float(torch.nn.functional.cosine_similarity(*both).mean())


def test_token_states_are_taught_where_heads_read_them(teacher: Backbone, table: TokenTable) -> None:
    held = np.random.default_rng(CONFIG.seed).permutation(40)[:8]
    vectors, tokens = drop_layers(teacher, 2), drop_layers(teacher, 2)
    before = _nearness(teacher, tokens, table, held)
    distil(teacher, vectors, table, CONFIG)
    distil(teacher, tokens, table, CONFIG, tokens=True)
    found = _nearness(teacher, tokens, table, held)
    assert 1 - found < 0.6 * (1 - before)
    # Vectors alone say less of where in a text something stands.
    assert found > _nearness(teacher, vectors, table, held)
