from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from retrieval.encoder.batches import Batcher
from retrieval.encoder.config import BatchConfig
from retrieval.encoder.data import CutData, EncoderTask, PairRows, TrainingData
from retrieval.encoder.labelled_rows import LabelledRows


def _batcher(data: TrainingData, config: BatchConfig) -> Batcher:
    sizes = [len(cut.users) for cut in data.train]
    texts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    items = 1000 + np.arange(len(data.item_texts))
    return Batcher(
        data.tasks, data.train, user_texts=texts, item_texts=items, popularity=data.popularity, config=config
    )


def test_labels_belong_to_their_pair(world: TrainingData) -> None:
    batcher = _batcher(world, BatchConfig(users=16, positives=2, negatives=10))
    batch = batcher(np.random.default_rng(0))
    bought = {
        (c * 32 + int(u), int(i))
        for c, cut in enumerate(world.train)
        for u, i in zip(cut.pairs["purchase"].user, cut.pairs["purchase"].item, strict=True)
    }
    purchase, again, retrieval = (batch.pairs[name] for name in ("purchase", "repurchase", "retrieval"))
    for row, user in enumerate(batch.views["user"]):
        for column, item in enumerate(batch.items):
            assert bool(purchase.label[row, column]) == ((int(user), int(item)) in bought)
            assert bool(again.present[row, column]) == ((int(user), int(item)) in bought)
    assert bool(purchase.present.all())
    assert (retrieval.drawn.sum(1) == 2).all()
    assert bool((purchase.label[retrieval.drawn] == 1).all())
    # Negatives of retrieval are exactly the pairs that nobody bought.
    assert torch.equal(~retrieval.excluded, purchase.label == 0)
    churn = batch.rows["churn"]
    assert churn.label.tolist() == [float(user % 4 == 3) for user in batch.views["user"]]
    assert bool(churn.present.all())


def test_the_same_seed_draws_the_same_batch(world: TrainingData) -> None:
    batcher = _batcher(world, BatchConfig(users=8, positives=2, negatives=10))
    first, second = (batcher(np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.items, second.items)
    assert np.array_equal(first.views["user"], second.views["user"])


def test_equal_texts_are_encoded_once_and_are_no_negatives(world: TrainingData) -> None:
    batcher = Batcher(
        world.tasks, world.train[:1], user_texts=[np.arange(32)], item_texts=np.arange(40) // 10,
        popularity=world.popularity, config=BatchConfig(users=8, positives=2, negatives=30),
    )  # fmt: skip
    batch = batcher(np.random.default_rng(0))
    assert np.array_equal(batch.views["item"], batch.items // 10)
    # Users' texts stand at 0..31 in this table, so the four item texts are among them.
    assert len(batch.texts) == len(set(batch.views["user"].tolist()) | {0, 1, 2, 3})
    # All ten items of a taste share a text, so every item of a user's own taste is excluded.
    taste = torch.from_numpy(batch.views["user"] % 4)[:, None] == torch.from_numpy(batch.items // 10)[None, :]
    assert torch.equal(batch.pairs["retrieval"].excluded, taste)


def test_an_absent_label_is_no_zero() -> None:
    """A cut without a task, a user without a label, an item outside the universe: absent, each."""
    tasks = (
        EncoderTask(name="purchase", kind="binary", on="pair"),
        EncoderTask(name="coupon", kind="binary", on="pair", space="rows"),
        EncoderTask(name="churn", kind="binary", on="user"),
    )
    rows = PairRows(user=np.array([0], np.int32), item=np.array([1], np.int32), label=np.ones(1, np.float32))
    cut = CutData(
        users=np.arange(2, dtype=np.int32), user_texts=["a", "b"], pairs={"purchase": rows},
        user_labels={"churn": np.array([np.nan, 1], np.float32)}, universe={"purchase": np.array([True, True, False])},
    )  # fmt: skip
    batcher = Batcher(
        tasks, [cut], user_texts=[np.arange(2)], item_texts=np.arange(3), popularity=np.ones(3), config=BatchConfig()
    )
    batch = batcher(np.random.default_rng(0))
    assert set(batch.pairs) == {"purchase"}
    assert 2 not in batch.items
    churn = batch.rows["churn"]
    assert churn.present[batch.views["user"] == 1].all()
    assert not churn.present[batch.views["user"] == 0].any()
    assert float(churn.label.sum()) == 1.0


@pytest.mark.parametrize("task", ["purchase", "repurchase"])
def test_shift_undoes_the_batch_s_selection(task: str) -> None:
    """The best constant of shifted logits is the rate over the whole space (prior shift after downsampling)."""
    rng = np.random.default_rng(0)
    n_users, n_items, rate = 300, 400, 0.03
    bought = rng.random((n_users, n_items)) < rate
    user, item = np.nonzero(bought)
    everything = PairRows(user=user.astype(np.int32), item=item.astype(np.int32), label=np.ones(len(user), np.float32))
    space_user, space_item = np.nonzero(rng.random((n_users, n_items)) < 0.1)
    listed = PairRows(
        user=space_user.astype(np.int32), item=space_item.astype(np.int32),
        label=bought[space_user, space_item].astype(np.float32),
    )  # fmt: skip
    cut = CutData(
        users=np.arange(n_users, dtype=np.int32), user_texts=[""] * n_users,
        pairs={"purchase": everything, "repurchase": listed}, universe={"purchase": np.ones(n_items, bool)},
    )  # fmt: skip
    tasks = (
        EncoderTask(name="purchase", kind="binary", on="pair"),
        EncoderTask(name="repurchase", kind="binary", on="pair", space="rows"),
    )
    batcher = Batcher(
        tasks, [cut], user_texts=[np.arange(n_users)], item_texts=np.arange(n_items), popularity=np.ones(n_items),
        config=BatchConfig(users=16, positives=2, negatives=20),
    )  # fmt: skip
    pairs = [batcher(rng).pairs[task] for _ in range(60)]
    label = torch.cat([pair.label[pair.present] for pair in pairs])
    shift = torch.cat([pair.shift[pair.present] for pair in pairs])
    naive = float(label.mean())
    truth = float(bought.mean()) if task == "purchase" else float(listed.label.mean())
    # The best constant c solves mean(sigmoid(c + shift)) = mean(label).
    low, high = -10.0, 5.0
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.sigmoid(middle + shift).mean()) < naive else (low, middle)
    found = 1 / (1 + math.exp(-low))
    assert naive > 1.2 * truth
    assert found == pytest.approx(truth, rel=0.15)


def test_users_are_drawn_by_label_space_not_by_label(world: TrainingData) -> None:
    batcher = _batcher(world, BatchConfig(users=8))
    assert batcher.pairs.weights == pytest.approx(1 / 64)


def test_every_view_carries_the_groups_of_its_rows(full_world: TrainingData) -> None:
    cuts = [replace(cut, groups={"parity": np.arange(len(cut.users), dtype=np.int32) % 2}) for cut in full_world.train]
    items = {"decade": (np.arange(40) // 10).astype(np.int32)}
    texts = replace(full_world.texts, groups={"channel": np.arange(48, dtype=np.int32) % 3})
    batcher = Batcher(
        full_world.tasks, cuts, user_texts=[np.arange(32), np.arange(32)], item_texts=100 + np.arange(40),
        popularity=full_world.popularity, config=BatchConfig(users=8, positives=2, negatives=10, item_rows=5, texts=6),
        texts=LabelledRows.of_texts(texts, 200 + np.arange(48), {}), item_groups=items,
    )  # fmt: skip
    batch = batcher(np.random.default_rng(0))
    assert batch.groups["user"]["parity"].tolist() == [position % 2 for position in batch.views["user"]]
    assert batch.groups["item"]["decade"].tolist() == [item // 10 for item in batch.items]
    assert batch.groups["item_row"]["decade"].tolist() == [(place - 100) // 10 for place in batch.views["item_row"]]
    assert batch.groups["text"]["channel"].tolist() == [(place - 200) % 3 for place in batch.views["text"]]
