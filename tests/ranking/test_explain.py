from __future__ import annotations

import numpy as np
import pytest

from ranking.assemble import FEATURES
from ranking.explain import explanations, reason, strongest_features
from ranking.terms import Terms

PLACE = {name: column for column, name in enumerate(FEATURES)}
PARTS = {"encoder": 0.2, "collaborative": -0.1, "category": 1.5, "item": 0.3, "base": -3.0}


def row(**values: float) -> np.ndarray:
    found = np.full(len(FEATURES), np.nan, np.float32)
    for name, value in values.items():
        found[PLACE[name]] = value
    return found


@pytest.mark.parametrize(
    ("values", "sources", "expected"),
    [
        (
            {"history_count": 12, "history_last_age_days": 6.2, "history_mean_gap_days": 7},
            ["repeat"],
            "bought 12 times, last 6 days ago, usually every 7 days: due now",
        ),
        (
            {"history_count": 3, "history_last_age_days": 1.4, "history_mean_gap_days": 30},
            [],
            "bought 3 times, last 1 day ago, usually every 30 days",
        ),
        ({"history_count": 1, "history_last_age_days": 0.2}, ["repeat"], "bought 1 time, last less than a day ago"),
        ({"item_trend": 1.0}, ["collaborative", "semantic"], "others who buy what you buy"),
        ({"category_count": 5, "category_last_age_days": 3}, ["semantic"],
         "you bought from this category 5 times, last 3 days ago"),
        ({}, ["semantic"], "similar to your recent purchases"),
        ({}, ["trending"], "popular now"),
        ({"item_trend": 2.0}, [], "popular now"),
        ({"item_trend": 1.0}, [], "fits your shopping habits"),
    ],
)  # fmt: skip
def test_reasons(values: dict[str, float], sources: list[str], expected: str) -> None:
    assert reason(PLACE, row(**values), PARTS, sources) == expected


def test_nothing_speaks_for_it() -> None:
    assert reason(PLACE, row(), {"encoder": -1.0, "item": -0.5, "base": 9.0}, []) == "popular with all customers"


def test_strongest_features_by_size_without_zeros() -> None:
    found = strongest_features(("a", "b", "c", "d"), np.array([0.1, -0.5, 0.0, 0.3]), 3)
    assert list(found.items()) == [("b", -0.5), ("d", 0.3), ("a", 0.1)]


def test_one_explanation_per_row() -> None:
    values = np.zeros((2, len(FEATURES)))
    values[1, PLACE["history_count"]], values[1, PLACE["item_buyers"]] = 0.5, -0.75
    terms = Terms(names=FEATURES, values=values, base=np.array([-3.0, -2.0]))
    found = explanations(terms, np.stack([row(), row(history_count=2, history_last_age_days=3)]), None)
    assert [one.features for one in found] == [{}, {"item_buyers": -0.75, "history_count": 0.5}]
    assert found[1].contributions == {
        "history": 0.5, "category": 0.0, "item": -0.75, "cross": 0.0, "user": 0.0, "base": -2.0,
    }  # fmt: skip
    assert found[1].reason == "bought 2 times, last 3 days ago"
