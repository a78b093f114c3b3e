from __future__ import annotations

import numpy as np
import pytest

from retrieval.encoder.data import PairRows
from retrieval.encoder.rows import Rows


def _rows(user: list[int], item: list[int], label: list[float]) -> PairRows:
    return PairRows(user=np.array(user, np.int32), item=np.array(item, np.int32), label=np.array(label, np.float32))


def test_stacked_cuts_keep_apart() -> None:
    # Cut 0 has 2 users, cut 1 has 3, the second cut's user 2 is row 4; a cut without the task has no entries.
    stacked = Rows.stack([_rows([0, 0], [5, 6], [1, 0]), None, _rows([2], [5], [1])], np.array([0, 2, 2, 5]))
    assert stacked.counts.tolist() == [2, 0, 0, 0, 1]
    assert stacked.only(1).item.tolist() == [5, 5]
    owner, spots = stacked.take(np.array([4, 0]))
    assert owner.tolist() == [0, 1, 1]
    assert stacked.item[spots].tolist() == [5, 5, 6]


def test_draw_takes_all_of_a_short_row_and_some_of_a_long_one() -> None:
    table = Rows.stack([_rows([0] * 10 + [1], [*range(10), 3], [1] * 11)], np.array([0, 2]))
    hits = np.zeros(10)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        owner, spots = table.draw(np.array([1, 0]), 2, rng)
        assert np.bincount(owner).tolist() == [1, 2]
        drawn = table.item[spots[owner == 1]]
        assert len(set(drawn.tolist())) == 2
        hits[drawn] += 1
    # Two of ten, 2,000 times: 400 each, standard deviation 18.
    assert hits == pytest.approx(400, abs=75)
