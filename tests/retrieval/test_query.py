"""What the semantic source is asked for a user."""

from __future__ import annotations

import numpy as np

from retrieval.query import Near

VECTORS = np.array([[1, 0], [0, 1], [1, 0], [-1, 0]], np.float32)


def near(own: list[float] | None, history: list[int], recent: int) -> Near:
    vector = None if own is None else np.array(own, np.float32)
    return Near.to_user(vector, np.array(history, np.int32), VECTORS, recent)


def test_the_last_distinct_items_ask_beside_the_users_own_vector() -> None:
    """Items 0 and 2 have one text: the second of them asks nothing new."""
    found = near([0, -1], [2, 0, 3, 1], 2)
    assert found.vectors.tolist() == [[0, -1], [1, 0], [-1, 0]]
    assert found.weights.tolist() == [3, 1, 1]


def test_without_a_vector_of_their_own_the_items_ask_alone() -> None:
    found = near(None, [1, 3], 5)
    assert found.vectors.tolist() == [[0, 1], [-1, 0]]
    assert found.weights.tolist() == [1, 1]


def test_without_history_or_by_choice_there_is_the_own_vector_alone() -> None:
    for found in (near([0, 1], [], 3), near([0, 1], [1, 2], 0)):
        assert found.vectors.tolist() == [[0, 1]]
    assert len(near(None, [], 3)) == 0


def test_a_single_vector() -> None:
    assert Near.to(VECTORS[1]).vectors.tolist() == [[0, 1]]
