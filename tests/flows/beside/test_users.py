"""Users as a release of other categories reads them, and tasks that mean the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.schema import CATEGORY_STATS, UserFeatures
from features.tasks import TaskSpec
from flows.beside.users import meaning, recoded


def codes(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.fixture
def user() -> UserFeatures:
    """Bought of the categories 0, 1 and 3; each one's statistics are its code."""
    own = codes(0, 1, 3)
    stats = np.repeat(own[:, None], len(CATEGORY_STATS), axis=1).astype(np.float32)
    return replace(UserFeatures.unknown("u"), known=True, categories=own, category_stats=stats)


def test_the_same_codes_leave_users_as_they_are(user: UserFeatures) -> None:
    users = [user]
    # The last two items came since.
    assert recoded(users, codes(0, 1, -1, 2, 3), codes(0, 1, -1)) is users


def test_a_new_category_moves_those_behind_it_back(user: UserFeatures) -> None:
    """Now bread, cheese, milk, soap; the release knew bread, milk and soap. Nothing is said of cheese to it."""
    (own,) = recoded([user], codes(0, 2, 3, 3, 1), codes(0, 1, 2, 2))
    assert own.categories.tolist() == [0, 2]
    assert own.category_stats[:, 0].tolist() == [0, 3]


def test_an_item_that_changed_its_category_does_not_speak_for_the_others(user: UserFeatures) -> None:
    # Of category 3 two items were 2 in the release and one was 0; two items of category 0 still are.
    (own,) = recoded([user], codes(0, 0, 1, 3, 3, 3, 2), codes(0, 0, 1, 2, 0, 2))
    assert own.categories.tolist() == [0, 1, 2]


def _task(**changes: Any) -> TaskSpec:
    lines = {"name": "buy", "kind": "binary", "on": "pair", "label": {"type": "event", "event": "purchase"}}
    return TaskSpec.model_validate({**lines, **changes})


def test_a_task_means_the_same_whatever_it_is_trained_beside() -> None:
    assert meaning(_task()) == meaning(_task(parent="click"))
    assert meaning(_task()) != meaning(_task(items='kind == "product"'))
