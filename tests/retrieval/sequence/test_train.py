"""Training: what is learnt, from what, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.sequence.histories import Histories
from retrieval.sequence.train import SequenceDataError, Trained, train
from retrieval.sequence.validate import user_vectors
from tests.retrieval.sequence.conftest import CONFIG, RING, World


def next_items(trained: Trained, histories: Histories) -> np.ndarray:
    users = np.arange(len(histories))
    scores = user_vectors(trained.net, histories, users, CONFIG.length) @ trained.net.items().T
    return scores.argmax(1).numpy()


def last_items(histories: Histories) -> np.ndarray:
    return histories.items[histories.starts[1:] - 1]


def test_the_next_item_of_a_ring_is_learnt(ring: World, trained: Trained) -> None:
    np.testing.assert_array_equal(next_items(trained, ring.histories), (last_items(ring.histories) + 1) % RING)
    best = trained.epochs[trained.best - 1]
    assert best.ndcg == max(epoch.ndcg for epoch in trained.epochs) > 0.9


def test_a_sampled_softmax_learns_it_too(ring: World) -> None:
    found = train(ring.histories, ring.texts, CONFIG.model_copy(update={"sampled_above": 5, "negatives": 8}))
    assert np.mean(next_items(found, ring.histories) == (last_items(ring.histories) + 1) % RING) > 0.9


def test_without_order_it_cannot_be_told(ring: World) -> None:
    # Two items read in either order foretell different items, so a mean of both can be right for half at most; longer
    # histories betray their end by what they lack.
    pairs = np.array([[a, (a + 1) % RING, (a + 2) % RING] for a in range(RING)] * 5, np.int32)
    back = pairs[:, [1, 0]], (pairs[:, 0] - 1) % RING
    items = np.concatenate([pairs, np.column_stack([*back])]).astype(np.int32)
    users = np.repeat(np.arange(len(items)), 3).astype(np.int32)
    histories = Histories.of(users, items.ravel(), n_users=len(items))
    blind = CONFIG.model_copy(update={"reader": "mean", "held_out": 0, "dropout": 0.0, "epochs": 40})
    seeing = blind.model_copy(update={"reader": "attention"})
    hits = []
    for config in (blind, seeing):
        found = train(histories, ring.texts, config)
        known = histories.without_last(np.arange(len(histories)))
        hits.append(np.mean(next_items(found, known) == items[:, 2]))
    assert hits[0] <= 0.5
    assert hits[1] > 0.9


def test_the_seed_fixes_everything(ring: World, trained: Trained) -> None:
    again = train(ring.histories, ring.texts, CONFIG, kinds=2)
    assert again.epochs[0].loss == trained.epochs[0].loss
    torch.testing.assert_close(again.net.items(), trained.net.items(), atol=0, rtol=0)


def test_until_stops_on_the_schedule_of_all_epochs(ring: World) -> None:
    config = CONFIG.model_copy(update={"held_out": 0})
    short = train(ring.histories, ring.texts, config, until=2)
    long = train(ring.histories, ring.texts, config, until=3)
    assert [epoch.loss for epoch in short.epochs] == [epoch.loss for epoch in long.epochs[:2]]
    assert (short.best, np.isnan(short.epochs[0].ndcg)) == (2, True)


def test_held_out_events_are_not_learnt_from(ring: World) -> None:
    # Item 13 is in nobody's history but as a last event; with all of these held out it keeps the vector of its text.
    items = ring.histories.items.copy()
    items[ring.histories.starts[1:] - 1] = 13
    histories = Histories(
        starts=ring.histories.starts, items=items, kinds=ring.histories.kinds, gaps=ring.histories.gaps
    )
    found = train(histories, ring.texts, CONFIG.model_copy(update={"held_out": 10_000, "epochs": 1}))
    assert not found.net.items.own[13].any()


def test_where_items_do_not_come_again_the_history_does_not_compete() -> None:
    # Of three items the third is left once two were read: its loss falls to nothing only where these don't compete,
    # for texts alone that are all the same.
    users = np.repeat(np.arange(40), 3).astype(np.int32)
    items = np.tile(np.array([0, 1, 2, 1, 2, 0], np.int32), 20)
    histories = Histories.of(users, items, n_users=40)
    same = np.ones((3, 5), np.float32)
    config = CONFIG.model_copy(update={"held_out": 0, "epochs": 1, "learnt": False, "precision": "fp32"})
    # All scores are equal: log 3 at both positions; with the history out, log 2 and log 1.
    assert train(histories, same, config).epochs[0].loss == pytest.approx(np.log(3), abs=0.01)
    once = config.model_copy(update={"again": False})
    assert train(histories, same, once).epochs[0].loss == pytest.approx(np.log(2) / 2, abs=0.01)


def test_what_cannot_be_trained_on_is_named(ring: World) -> None:
    with pytest.raises(SequenceDataError, match="expected items below 4, found 11"):
        train(ring.histories, ring.texts[:4], CONFIG)
    other = np.ones_like(ring.histories.kinds)
    histories = Histories(
        starts=ring.histories.starts, items=ring.histories.items, kinds=other, gaps=ring.histories.gaps
    )
    with pytest.raises(SequenceDataError, match="expected kinds below 1, found 1"):
        train(histories, ring.texts, CONFIG)
    with pytest.raises(SequenceDataError, match="expected text vectors or `learnt: true`, found neither"):
        train(ring.histories, ring.texts[:, :0], CONFIG.model_copy(update={"learnt": False}))
    lone = Histories.of(np.arange(3, dtype=np.int32), np.arange(3, dtype=np.int32), n_users=3)
    with pytest.raises(SequenceDataError, match="expected a user with two events, found 3 users without"):
        train(lone, ring.texts, CONFIG)
