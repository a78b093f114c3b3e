from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.formula.parse import parse
from ranking.objective import Candidates, ObjectiveError, by_task, check_objectives, order, score

OBJECTIVES = {"default": "purchase", "margin": "purchase * (price - cost)"}
CANDIDATES = Candidates(
    tasks={"purchase": np.array([0.3, 0.1]), "coupon_response": np.array([np.nan, 0.2])},
    columns={
        "price": pl.Series([9.0, 5.0, None, 3.0]),
        "cost": pl.Series([1, 1, 1, 1]),
        "own": pl.Series([True, None, False, True]),
        "brand": pl.Series(["x", "y", "x", "y"]),
    },
    items=np.array([3, 1], np.int32),
    names=("history_count", "signal_cosine"),
    features=np.array([[2.0, 0.5], [0.0, np.nan]], np.float32),
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, [0.3, 0.1]),
        ("default", [0.3, 0.1]),
        # .3 * (3 - 1), .1 * (5 - 1)
        ("margin", [0.6, 0.4]),
        # A task that doesn't apply adds nothing: .3 + 0, .1 + 2 * .2.
        ("purchase + 2 * coupon_response", [0.3, 0.5]),
        ("purchase * coalesce(own, 0)", [0.3, 0.0]),
        ("own", [1.0, np.nan]),
        ("history_count + coalesce(signal_cosine, -1)", [2.5, -1.0]),
        ("-price", [-3.0, -5.0]),
    ],
)
def test_scores_by_hand(asked: str | None, expected: list[float]) -> None:
    assert score(OBJECTIVES, asked, CANDIDATES).tolist() == pytest.approx(expected, nan_ok=True)


def test_a_task_goes_before_an_attribute_of_its_name() -> None:
    named = replace(CANDIDATES, columns={"purchase": pl.Series([7.0, 7.0, 7.0, 7.0])})
    assert score(OBJECTIVES, None, named).tolist() == [0.3, 0.1]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5]), st.integers(0, 10_000)), unique_by=lambda pair: pair[1]))
def test_order_does_not_depend_on_the_input_order(pairs: list[tuple[float, int]]) -> None:
    def ordered(these: list[tuple[float, int]]) -> list[int]:
        scores, items = np.array([s for s, _ in these]), np.array([i for _, i in these], np.int32)
        return items[order(scores, items)].tolist()

    assert ordered(pairs) == ordered(pairs[::-1]) == [i for _, i in sorted(pairs, key=lambda p: (-p[0], p[1]))]


def test_what_has_no_score_comes_last() -> None:
    scores = np.array([np.nan, -5.0, np.nan, 2.0])
    assert order(scores, np.array([9, 8, 7, 6], np.int32)).tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "margn",
            "expected one of default, margin, or a formula; formula, character 1: unknown task, attribute or fea",
        ),
        ("purchase * prise", "character 12: unknown task, attribute or feature 'prise'; did you mean 'price'?"),
        ("signal_cosin", "did you mean 'signal_cosine'?"),
        ("purchase * brand", "expected numbers, or true or false, found 'brand': String"),
        ("purchase *", "found the end"),
    ],
)
def test_what_is_no_objective_is_named(asked: str, said: str) -> None:
    with pytest.raises(ObjectiveError) as caught:
        score(OBJECTIVES, asked, CANDIDATES)
    assert said in str(caught.value)


def test_declared_objectives_are_checked_without_candidates() -> None:
    check_objectives(OBJECTIVES, ["purchase"], CANDIDATES.columns, ["history_count"])
    with pytest.raises(ObjectiveError, match=r"objective 'margin': formula, character 21: .*'cost'"):
        check_objectives(OBJECTIVES, ["purchase"], {"price": pl.Series([1.0])}, ())


@pytest.mark.parametrize("task", ["buy", "buy now", "kauf`t", "log"])
def test_a_task_of_any_name_is_a_formula(task: str) -> None:
    assert [load.name for load in parse(by_task(task)).names] == [task]
