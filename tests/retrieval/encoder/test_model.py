from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.batch import Batch, RowLabels, TagLabels
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.constants import constant_losses, evidence, losses_elsewhere, start_heads
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.model import Features, MultiTaskEncoder

INTENT = EncoderTask(name="intent", kind="multiclass", on="text", classes=("a", "b", "c"))
TONE = EncoderTask(name="tone", kind="regression", on="text")
CLICK = EncoderTask(name="click", kind="binary", on="text")
BUY = EncoderTask(name="buy", kind="binary", on="text", parent="click")
SLOTS = EncoderTask(name="slots", kind="token_tags", on="text", classes=("O", "X"))


def _model(folder: Path, *tasks: EncoderTask) -> MultiTaskEncoder:
    config = EncoderConfig(backbone=BackboneConfig(name=str(folder)), hidden=0, rank=4)
    return MultiTaskEncoder(load_backbone(config.backbone), tasks, config)


def _batch(**rows: list[float]) -> Batch:
    labels = {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}
    n = len(next(iter(labels.values())))
    return Batch(
        views={"text": np.arange(n)}, items=np.empty(0, np.int64), log_q=torch.empty(0),
        rows={name: RowLabels(label=label.nan_to_num(), present=~label.isnan()) for name, label in labels.items()},
    )  # fmt: skip


def _features(n: int, dim: int = 32) -> Features:
    torch.manual_seed(0)
    return Features(vectors={"text": torch.nn.functional.normalize(torch.randn(n, dim), dim=1)})


@torch.no_grad()
def _values(model: MultiTaskEncoder, batch: Batch) -> dict[str, float]:
    features = _features(len(batch.views["text"]))
    return {name: float(loss) for name, loss in model.losses(batch, features).items()}


def test_heads_start_at_the_best_constant_and_its_loss(tiny_bert: Path) -> None:
    model = _model(tiny_bert, INTENT, TONE, CLICK, BUY)
    nan = float("nan")
    batch = _batch(intent=[0, 0, 1, nan], tone=[1, 2, 3, nan], click=[1, 1, 0, 0], buy=[1, 0, 0, 0])
    losses = _values(model, batch)
    constants = constant_losses(model.tasks, [batch], logq=True)
    baselines = start_heads(model, constants)
    # Laplace: (2 + 1, 1 + 1, 0 + 1) of 6: -(2 log 1/2 + log 1/3) / 3. Variance of 1, 2, 3: 2/3. One in two: log 2.
    assert baselines["intent"] == pytest.approx((2 * math.log(2) + math.log(3)) / 3, rel=1e-5)
    assert baselines["tone"] == pytest.approx(2 / 3)
    assert baselines["click"] == pytest.approx(math.log(2), rel=1e-5)
    # One in four: -(1/4 log 1/4 + 3/4 log 3/4).
    assert baselines["buy"] == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3), rel=1e-4)
    assert _values(model, batch) == pytest.approx(baselines, rel=1e-3)
    assert any(losses[name] > baselines[name] * 1.01 for name in losses)


def test_constants_cost_more_where_rates_are_others() -> None:
    nan = float("nan")
    here = _batch(intent=[0, 0, 1, nan], tone=[1, 2, 3, nan], click=[1, 1, 0, 0], buy=[nan])
    there = _batch(intent=[2, 2], tone=[5, 1], click=[1, 1, 1, 0])
    tasks = (INTENT, TONE, CLICK, BUY)
    found = losses_elsewhere(tasks, constant_losses(tasks, [here], logq=True), [there], logq=True)
    # Class 2 has Laplace's 1 of 6; the mean 2 misses 5 by 3 and 1 by 1; a half costs log 2 whatever comes. Nothing of
    # buy, which the other batch lacks.
    assert found == {
        "intent": pytest.approx(math.log(6), rel=1e-5),
        "tone": pytest.approx(5.0),
        "click": pytest.approx(math.log(2), rel=1e-5),
    }
    for name, (loss, _) in constant_losses(tasks[:3], [here], logq=True).items():
        own = losses_elsewhere(tasks, constant_losses(tasks, [here], logq=True), [here], logq=True)
        assert own[name] == pytest.approx(loss)


def test_a_child_is_never_likelier_than_its_parent(tiny_bert: Path) -> None:
    model = _model(tiny_bert, CLICK, BUY)
    with torch.no_grad():
        for head in model.heads.values():
            for parameter in head.parameters():
                parameter.normal_()
    features = _features(50)
    click, buy = (torch.sigmoid(model.logits(task, features, {})) for task in (CLICK, BUY))
    assert bool((buy <= click).all())
    own = torch.sigmoid(model.heads["buy"](features.vectors["text"]))
    torch.testing.assert_close(buy, click * own)


def test_a_childs_label_teaches_its_parent(tiny_bert: Path) -> None:
    """A conversion proves the click: the parent's head learns from rows that carry the child's label alone."""
    model = _model(tiny_bert, CLICK, BUY)
    loss = model.losses(_batch(buy=[1.0, 1.0]), _features(2))
    assert set(loss) == {"buy"}
    loss["buy"].backward()
    assert model.heads["click"].outer.weight.grad is not None
    assert model.heads["click"].outer.bias.grad.item() < 0


def test_only_the_tasks_asked_for_have_a_loss(tiny_bert: Path) -> None:
    model = _model(tiny_bert, INTENT, TONE)
    batch = _batch(intent=[0, 1], tone=[0, 1])
    assert set(model.losses(batch, _features(2), [TONE])) == {"tone"}


def test_tags_read_their_own_token(tiny_bert: Path) -> None:
    model = _model(tiny_bert, SLOTS)
    tokens = torch.zeros(5, 32)
    tokens[3, 0] = 1.0  # text 1 begins at 2: its second token
    tags = TagLabels(text=torch.tensor([1]), token=torch.tensor([1]), code=torch.tensor([1]))
    batch = Batch(views={"text": np.arange(2)}, items=np.empty(0, np.int64), log_q=torch.empty(0), tags={"slots": tags})
    features = Features(vectors={}, tokens=tokens, starts=torch.tensor([0, 2]))
    with torch.no_grad():
        model.heads["slots"].outer.weight[1, 0] = 1.0
    # The state is normalised to mean 0 and standard deviation 1: its first entry is sqrt(31) = 5.568.
    loss = model.losses(batch, features)["slots"]
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-math.sqrt(31))), rel=1e-2)
    assert model.losses(batch, Features(vectors={})) == {}


def test_evidence_counts_positives_or_labels() -> None:
    nan = float("nan")
    batches = [_batch(intent=[0, 2, nan], click=[1, 0, nan]), _batch(intent=[1, 1, 1], click=[1, 1, 1])]
    assert evidence((INTENT, CLICK), batches) == {"intent": 5.0, "click": 4.0}
    assert constant_losses((TONE,), batches, logq=True)["tone"] == (1.0, None)


RETRIEVAL = EncoderTask(name="retrieval", kind="contrastive", on="pair")
ANSWER = EncoderTask(name="answer", kind="contrastive", on="text")
PURCHASE = EncoderTask(name="purchase", kind="binary", on="pair")


def _taught(model: MultiTaskEncoder, task: EncoderTask) -> set[str]:
    """Return the sides whose projection a task's logits have a gradient for."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    features = model.features({"user": torch.randn(3, 32), "item": torch.randn(4, 32), "text": torch.randn(2, 32)})
    model.logits(task, features, {}).square().sum().backward()
    return {side for side, projection in model.projections.items() if projection.weight.grad is not None}


def test_contrastive_tasks_alone_teach_the_projections(tiny_bert: Path) -> None:
    model = _model(tiny_bert, RETRIEVAL, PURCHASE)
    assert _taught(model, RETRIEVAL) == {"user", "item"}
    assert _taught(model, PURCHASE) == set()
    # Without such a task, whatever there is teaches them.
    assert _taught(_model(tiny_bert, PURCHASE), PURCHASE) == {"user", "item"}


def test_both_ways_through_a_projection_give_the_same_vectors(tiny_bert: Path) -> None:
    model = _model(tiny_bert, RETRIEVAL, PURCHASE)
    torch.nn.init.normal_(model.projections["user"].weight)
    features = model.features({"user": torch.randn(3, 32), "item": torch.randn(4, 32)})
    for view, vectors in features.searched.items():
        assert torch.equal(vectors, features.vectors[view])


def test_a_projection_belongs_to_the_only_task_that_teaches_it(tiny_bert: Path) -> None:
    def owners(*tasks: EncoderTask) -> dict[str, set[str]]:
        model = _model(tiny_bert, *tasks)
        sides = {id(projection.weight): side for side, projection in model.projections.items()}
        return {
            name: {sides[id(weight)] for weight in own.parameters() if id(weight) in sides}
            for name, own in model.own.items()
        }

    assert owners(RETRIEVAL, PURCHASE) == {"retrieval": {"user", "item"}, "purchase": set()}
    # Answers are items, so both search with the items' projection, and neither may set it back alone.
    assert owners(RETRIEVAL, ANSWER) == {"retrieval": {"user"}, "answer": set()}
    assert owners(PURCHASE) == {"purchase": set()}
