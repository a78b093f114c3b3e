from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ranking.rules.config import Rules


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"block": {}}, r"expected items \(a filter\) or ids, found neither"),
        ({"block": {"items": "price <"}}, r"filter, character 8: expected a value or an attribute"),
        ({"caps": [{"attribute": "brand", "most": 1}]}, "expected one of within and first, found neither"),
        ({"caps": [{"attribute": "brand", "most": 1, "within": 3, "first": 3}]}, "of within and first, found both"),
        ({"pin": [{"ids": ["a"], "places": [1]}, {"ids": ["b"], "places": [2, 1]}]}, "found place 1 2 times"),
        ({"diversity": {"relevance": 1.1}}, "less than or equal to 1"),
        ({"discovery_every": 10}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rules.model_validate(given)


def test_rules_survive_json() -> None:
    rules = Rules.model_validate(
        {"pin": [{"ids": ["a"], "places": [1]}], "boost": [{"items": "price < 5", "places": -3}]}
    )
    assert Rules.model_validate_json(rules.model_dump_json()) == rules
    assert rules.pinned == ["a"]
