from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.objective import ObjectiveConfig, ObjectiveError, order, score


def test_score_by_hand() -> None:
    """purchase + 2 * coupon: .3 + 2 * missing = .3; .1 + 2 * .2 = .5."""
    found = score(
        {"purchase": np.array([0.3, 0.1]), "coupon_response": np.array([np.nan, 0.2])},
        {"purchase": 1.0, "coupon_response": 2.0},
        2,
    )
    assert found.tolist() == pytest.approx([0.3, 0.5])


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5]), st.integers(0, 10_000)), unique_by=lambda pair: pair[1]))
def test_order_does_not_depend_on_the_input_order(pairs: list[tuple[float, int]]) -> None:
    def ordered(these: list[tuple[float, int]]) -> list[int]:
        scores, items = np.array([s for s, _ in these]), np.array([i for _, i in these], np.int32)
        return items[order(scores, items)].tolist()

    assert ordered(pairs) == ordered(pairs[::-1]) == [i for _, i in sorted(pairs, key=lambda p: (-p[0], p[1]))]


def test_unknown_names_get_the_nearest_one() -> None:
    config = ObjectiveConfig(objectives={"default": {"purchase": 1.0}, "profit": {"purchase": 2.0}})
    assert config.weights(None) == {"purchase": 1.0}
    with pytest.raises(ObjectiveError, match="did you mean 'profit'"):
        config.weights("proft")
    with pytest.raises(ObjectiveError, match=r"objective 'default': unknown task 'purchase'.*did you mean 'purchases'"):
        config.check(["purchases"])


def test_a_default_is_needed() -> None:
    with pytest.raises(ObjectiveError, match="an objective named 'default'"):
        ObjectiveConfig(objectives={"profit": {"purchase": 1.0}}).check(["purchase"])
    with pytest.raises(ObjectiveError, match="at least one task"):
        ObjectiveConfig(objectives={"default": {}}).check(["purchase"])
