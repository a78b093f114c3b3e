"""Users' vectors in bulk, and NDCG@10 of what comes next by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import Histories
from retrieval.sequence.model import SequenceNet
from retrieval.sequence.validate import held_out_ndcg, user_vectors


def net(config: SequenceConfig) -> SequenceNet:
    """A reader whose vector of a user is that of the last item: blocks and norms that change no direction."""
    torch.manual_seed(0)
    made = SequenceNet(np.empty((3, 0), np.float32), torch.ones(3, dtype=torch.bool), 1, config)
    with torch.no_grad():
        for name, parameter in made.reader.named_parameters():
            if name not in ("gain", "norm.weight"):
                parameter.zero_()
        # Rows that sum to zero keep their direction through a layer norm. Item 1 lies nearer to 0 than 2 does.
        made.items.own.copy_(torch.tensor([[1.0, -1, 0, 0], [1.0, -1, 0.1, -0.1], [0.0, 0, 1, -1]]))
    return made


def test_gains_by_hand_with_and_without_the_history() -> None:
    config = SequenceConfig(width=4, length=3)
    full = Histories.of(np.array([0, 0, 1, 1], np.int32), np.array([0, 1, 0, 2], np.int32), n_users=2)
    everyone = np.array([0, 1])
    known = full.without_last(everyone)
    # From item 0 the order is 0, 1, 2. User 0 goes on to 1: second, 1 / log2(3); user 1 to 2: third, 1 / log2(4).
    found = held_out_ndcg(net(config), full, known, everyone, config)
    assert found == pytest.approx((1 / np.log2(3) + 1 / 2) / 2)
    # Without item 0 they stand first and second.
    once = config.model_copy(update={"again": False})
    assert held_out_ndcg(net(once), full, known, everyone, once) == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_histories_of_different_lengths_are_read_as_if_alone() -> None:
    torch.manual_seed(0)
    config = SequenceConfig(width=8, length=3)
    other = SequenceNet(np.empty((9, 0), np.float32), torch.ones(9, dtype=torch.bool), 1, config)
    items = np.array([1, 2, 3, 4, 5, 6, 7], np.int32)
    together = Histories.of(np.array([0, 1, 1, 1, 1, 1, 2], np.int32), items, n_users=3)
    # Of user 1's five events the last three are read.
    cut = Histories.of(np.zeros(3, np.int32), np.array([4, 5, 6], np.int32), n_users=1)
    found = user_vectors(other, together, np.array([0, 1, 2]), config.length)
    torch.testing.assert_close(found[1:2], user_vectors(other, cut, np.array([0]), config.length))
