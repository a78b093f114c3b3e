"""Limits on gaps between groups: the gap by hand, its multiplier, and what a run with one gives up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from retrieval.encoder.adapt.config import LimitConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.gaps import GroupGap, make_gaps
from retrieval.encoder.adapt.limits import HeldOutLimits, Limited, balance_with_limits
from retrieval.encoder.batch import Batch, PairLabels, RowLabels
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.heads import RowHead
from retrieval.encoder.model import Features, MultiTaskEncoder
from retrieval.encoder.step import Plain, batch_features
from retrieval.encoder.train import TrainResult

if TYPE_CHECKING:
    from conftest import Scene

Runner = Callable[..., TrainResult]
CHURN = EncoderTask(name="churn", kind="binary", on="user")
LINES = {"task": "churn", "on": "user", "column": "age", "measure": "rate_gap", "limit": 0.1}


def limit(**lines: Any) -> LimitConfig:
    return LimitConfig.model_validate({**LINES, "rows": 1, **lines})


@pytest.fixture
def model(scene: Scene) -> MultiTaskEncoder:
    """A model whose churn head returns a vector's first entry as it stands."""
    head = RowHead(32, 0)
    with torch.no_grad():
        head.outer.weight[0, 0] = 1 / math.sqrt(32)
    scene.prepared.model.heads["churn"] = head
    return scene.prepared.model


def rows(
    probabilities: Sequence[float], codes: Sequence[int], labels: Sequence[float] | None = None
) -> tuple[Batch, Features, Tensor]:
    """Return a batch of users whose churn is predicted so, what the head reads, and the logits that it depends on."""
    logits = torch.logit(torch.tensor(probabilities)).requires_grad_()
    vectors = torch.cat([logits[:, None], torch.zeros(len(logits), 31)], dim=1)
    label = torch.tensor(labels or [1.0] * len(logits), dtype=torch.float32)
    batch = Batch(
        views={"user": np.arange(len(logits))},
        items=np.empty(0, np.int64),
        log_q=torch.empty(0),
        rows={"churn": RowLabels(label=label.nan_to_num(), present=~label.isnan())},
        groups={"user": {"age": torch.tensor(codes)}},
    )
    return batch, Features(vectors={"user": vectors}), logits


def seen(gap: GroupGap, model: MultiTaskEncoder, batch: Batch, features: Features) -> Tensor:
    found = gap(model, batch, features)
    assert found is not None
    return found


def test_the_gap_of_rates_and_its_slope_by_hand(model: MultiTaskEncoder) -> None:
    """Means .7, .3 and .5; the slope of a mean of n sigmoids is p (1 - p) / n, and of the middle group nothing."""
    batch, features, logits = rows([0.8, 0.6, 0.2, 0.4, 0.5], [0, 0, 1, 1, 2])
    found = seen(GroupGap(limit(), CHURN, 3), model, batch, features)
    assert float(found.detach()) == pytest.approx(0.7 - 0.3)
    (slope,) = torch.autograd.grad(found, [logits])
    # .8 * .2 / 2, .6 * .4 / 2, then the lowest group's with a minus
    torch.testing.assert_close(slope, torch.tensor([0.08, 0.12, -0.08, -0.12, 0.0]))


def test_rows_without_a_label_or_a_group_count_nowhere(model: MultiTaskEncoder) -> None:
    nan = math.nan
    batch, features, _ = rows([0.8, 0.99, 0.2, 0.01], [0, 0, 1, -1], labels=[1.0, nan, 0.0, 1.0])
    found = seen(GroupGap(limit(), CHURN, 2), model, batch, features)
    assert float(found.detach()) == pytest.approx(0.6)


def test_the_gap_of_losses_by_hand(model: MultiTaskEncoder) -> None:
    """At p = 3/4 a label 1 costs ln 4/3 and a label 0 costs ln 4: groups of (1, 1), (1, 0), (0, 0) span ln 3."""
    batch, features, _ = rows([0.75] * 6, [0, 0, 1, 1, 2, 2], labels=[1, 1, 1, 0, 0, 0])
    found = seen(GroupGap(limit(measure="loss_gap"), CHURN, 3), model, batch, features)
    assert float(found.detach()) == pytest.approx(math.log(3), rel=1e-5)


def test_groups_are_averaged_over_a_window_that_fades(model: MultiTaskEncoder) -> None:
    """A window of 2 halves what was: group 0 (.7 + .9) / (1 + 1) = .8, group 1 (.3 + 3 * .1) / (1 + 3) = .15."""
    gap = GroupGap(limit(window=2), CHURN, 2)
    gap(model, *rows([0.8, 0.6, 0.2, 0.4], [0, 0, 1, 1])[:2])
    batch, features, logits = rows([0.9, 0.1, 0.1, 0.1], [0, 1, 1, 1])
    found = seen(gap, model, batch, features)
    assert float(found.detach()) == pytest.approx(0.8 - 0.15)
    (slope,) = torch.autograd.grad(found, [logits])
    # the batch's own means: .9 * .1 / 1, and .1 * .9 / 3
    torch.testing.assert_close(slope, torch.tensor([0.09, -0.03, -0.03, -0.03]))
    # Without fading: (1.4 + .9) / 3 = .7667 and (.6 + .3) / 5 = .18.
    still = GroupGap(limit(window=2), CHURN, 2, moving=False)
    still(model, *rows([0.8, 0.6, 0.2, 0.4], [0, 0, 1, 1])[:2])
    found = seen(still, model, batch, features)
    assert float(found.detach()) == pytest.approx(2.3 / 3 - 0.18)


def test_a_group_counts_once_the_window_holds_enough_of_it(model: MultiTaskEncoder) -> None:
    gap = GroupGap(limit(rows=3, window=10), CHURN, 3)
    batch, features, _ = rows([0.8, 0.8, 0.4, 0.4, 0.01], [0, 0, 1, 1, 2])
    assert gap(model, batch, features) is None  # two rows of each at most
    found = seen(gap, model, batch, features)  # .9 * 2 + 2 = 3.8 of groups 0 and 1, 1.9 of group 2
    assert float(found.detach()) == pytest.approx(0.4)


def test_pairs_take_the_group_of_either_side(model: MultiTaskEncoder, scene: Scene) -> None:
    task = model.task("purchase")
    present = torch.tensor([[True, True, False], [True, False, True]])
    none = torch.zeros(2, 3)
    pairs = PairLabels(label=none, present=present, drawn=none.bool(), excluded=none.bool(), shift=none)
    groups = {"user": {"age": torch.tensor([0, 1])}, "item": {"brand": torch.tensor([0, 1, 1])}}
    batch = replace(scene.batches[0], pairs={"purchase": pairs}, groups=groups)
    generator = torch.Generator().manual_seed(0)
    vectors = {"user": torch.randn(2, 32, generator=generator), "item": torch.randn(3, 32, generator=generator)}
    p = torch.sigmoid(model.heads["purchase"](vectors["user"], vectors["item"]))
    by_user = abs((p[0, 0] + p[0, 1]) / 2 - (p[1, 0] + p[1, 2]) / 2)
    by_item = abs((p[0, 0] + p[1, 0]) / 2 - (p[0, 1] + p[1, 2]) / 2)
    for lines, expected in (({}, by_user), ({"on": "item", "column": "brand"}, by_item)):
        gap = GroupGap(limit(task="purchase", **lines), task, 2)
        found = seen(gap, model, batch, Features(vectors=vectors))
        torch.testing.assert_close(found, expected)


def test_the_multiplier_rises_while_the_gap_exceeds_its_limit() -> None:
    """Eta .05: the excess .4 - .1 makes .015; after it the scalar is the loss + .015 * .3."""
    config = EncoderConfig(limits=(limit(),))
    balance = balance_with_limits(config, [CHURN], {"churn": 0.5}, {"churn": 9.0})
    name = "churn rate_gap by user age"
    assert balance.weights() == {"churn": 2.0, name: 0.0}
    parameter = nn.Parameter(torch.ones(()))
    slopes = []
    for _ in range(2):
        parameter.grad = None
        losses = {"churn": 0.5 * parameter, name: 0.4 * parameter}
        balance.backward(losses, features=[], shared=[], heads=[parameter])
        assert parameter.grad is not None
        slopes.append(float(parameter.grad))
    assert slopes == pytest.approx([1.0, 1.0 + 0.015 * 0.4])
    assert balance.weights()[name] == pytest.approx(0.03)


def test_a_gap_of_losses_is_held_in_units_of_the_constant_predictor(model: MultiTaskEncoder) -> None:
    """ln 3 over .5 is 2.197, .197 above a limit of 2; ten times that is the held-out cost."""
    batch, features, _ = rows([0.75] * 6, [0, 0, 1, 1, 2, 2], labels=[1, 1, 1, 0, 0, 0])
    gap = GroupGap(limit(measure="loss_gap", limit=2.0), CHURN, 3, moving=False)
    held_out = HeldOutLimits(model, [gap], {"churn": 0.5}, ceiling=10.0)
    assert held_out.costs() == {"churn": 0.0}
    held_out.look(batch, features)
    assert held_out.costs() == {"churn": pytest.approx(10 * (2 * math.log(3) - 2), rel=1e-4)}


def test_a_limit_rests_while_its_task_has_stopped(scene: Scene) -> None:
    model = scene.prepared.model
    batch = replace(scene.batches[0], groups={"user": {"age": torch.arange(16) % 2}})
    limited = Limited(Plain(model), model, [GroupGap(limit(), CHURN, 2)])
    learning = [task for task in model.tasks if task.name != "churn"]
    name = "churn rate_gap by user age"
    assert name in limited(batch, scene.prepared.pooler, model.tasks).losses
    assert name not in limited(batch, scene.prepared.pooler, learning).losses


def grouped(world: TrainingData) -> TrainingData:
    """Return the world with an age for each user: the old like bread or soap, and it is lovers of soap who churn."""
    age = (np.arange(32) % 4 >= 2).astype(np.int32)
    cuts = [replace(cut, groups={"age": age}) for cut in (*world.train, world.validation) if cut is not None]
    return replace(world, train=tuple(cuts[:-1]), validation=cuts[-1])


def held_out(result: TrainResult) -> tuple[float, float]:
    """Return the gap of mean predicted churn over the held-out users, and churn's loss over its constant's."""
    model, pooler = result.model, result.prepared.pooler
    batcher, rng = result.prepared.batcher(result.config.warmup.batch, "held_out"), np.random.default_rng(7)
    gap, found, losses = GroupGap(limit(), CHURN, 2, moving=False), 0.0, []
    with torch.no_grad():
        for batch in (batcher(rng) for _ in range(8)):
            features = batch_features(model, batch, pooler)
            found = float(seen(gap, model, batch, features))
            losses.append(float(model.losses(batch, features, [CHURN])["churn"]))
    return found, float(np.mean(losses)) / result.baselines["churn"]


def test_a_limit_makes_the_gap_smaller_at_a_cost(world: TrainingData, short: Runner) -> None:
    data = grouped(world)
    lines = {
        "steps": 60, "validate_every": 10, "patience": 9, "task_patience": 9,
        "balance": {"method": "static", "contrastive": 1, "lagrangian": {"eta": 0.3, "ceiling": 10}},
    }  # fmt: skip
    gaps, losses = [], []
    for seed in range(3):
        free = short(data, **lines, seed=seed)
        limited = short(data, **lines, seed=seed, limits=[{**LINES, "rows": 5, "window": 5}])
        (free_gap, free_loss), (gap, loss) = held_out(free), held_out(limited)
        gaps.append((free_gap, gap))
        losses.append((free_loss, loss))
        assert limited.weights["churn rate_gap by user age"] > 0
    # Half of the old churn and none of the young: a prediction that knows the taste has a gap of .5. With a limit of .1
    # (means of the seeds measured: .41 -> .11) it knows less of churn, and that costs (.18 -> .66 of the constant's).
    (free_gap, gap), (free_loss, loss) = np.mean(gaps, axis=0), np.mean(losses, axis=0)
    assert free_gap > 0.35
    assert gap < 0.2
    assert free_loss + 0.3 < loss < 0.8


def test_a_limit_for_which_batches_hold_too_few_rows_is_refused(world: TrainingData, short: Runner) -> None:
    """Batches of 16 users, half of them old: 8 a batch, 40 in a window of 5; 2 validation batches hold 16."""
    gap = {**LINES, "window": 5}
    for rows, message in ((60, "with 60 labelled rows in a window of 5 batches"), (25, "with 25 .* in a validation")):
        with pytest.raises(AdaptError, match=message):
            short(grouped(world), limits=[{**gap, "rows": rows}])


@pytest.mark.parametrize("method", ["static", "volume", "lagrangian"])
def test_a_limit_that_holds_changes_no_bit(world: TrainingData, short: Runner, method: str) -> None:
    balance = {"method": method} | ({"lagrangian": {"limits": {"purchase": 0.9}}} if method == "lagrangian" else {})
    lines = {"warmup": {"steps": 4, "validate_every": 2}, "balance": balance, "dropout": 0.1}
    free = short(grouped(world), **lines)
    limited = short(grouped(world), **lines, limits=[{**LINES, "limit": 1.0, "rows": 3}])
    assert limited.weights.pop("churn rate_gap by user age") == 0.0
    assert limited.weights == free.weights
    for one, other in zip(free.model.parameters(), limited.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_the_data_cannot_tell_is_refused(world: TrainingData, full_world: TrainingData) -> None:
    for lines, message in (
        ({"column": "income"}, "expected groups of column 'income' in the training data, found 0"),
        ({"task": "churm"}, r"expected a binary task \(purchase, repurchase, churn\), found 'churm'"),
        ({"on": "item"}, "expected groups of user, found item"),
    ):
        with pytest.raises(AdaptError, match=message):
            make_gaps([limit(**lines)], grouped(world))
    with pytest.raises(AdaptError, match=r"expected a binary task .* found 'taste'"):
        make_gaps([limit(task="taste")], full_world)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"balance": {"method": "dual"}}, "limits: expected balance.method static, volume or lagrangian, found dual"),
        ({"balance": {"method": "pcgrad"}}, "found pcgrad"),
        ({"limits": [LINES, LINES]}, "expected each gap once, found twice: churn rate_gap by user age"),
        ({"limits": [{**LINES, "limit": 0}]}, "greater than 0"),
    ],
)
def test_limits_that_nothing_would_keep_are_refused(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderConfig.model_validate({"limits": [LINES], **lines})


def test_limits_name_the_columns_that_data_must_carry() -> None:
    brand = {**LINES, "task": "purchase", "on": "item", "column": "brand"}
    config = EncoderConfig.model_validate({"limits": [LINES, {**LINES, "measure": "loss_gap"}, brand]})
    assert config.group_columns == {"user": ("age",), "item": ("brand",)}
    assert EncoderConfig().group_columns == {}
