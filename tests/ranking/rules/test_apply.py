"""All rules in their sequence, on a list of six items of which three attributes are known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.filters.items import NamedItemsError
from features.schema import ITEM_STATS
from ranking.rules.apply import Listed, Ordered, apply
from ranking.rules.catalogue import Catalogue, RuleError
from ranking.rules.config import NO_RULES, Rules
from retrieval.filters import ItemFilters
from retrieval.snapshot import ItemSnapshot

N = 6
# a to f, best first.
IDS = list("abcdef")
ATTRIBUTES = pl.DataFrame(
    {
        "brand": ["x", "x", "x", "y", "y", None],
        "title": ["milk", "bread", "milk", "milk", None, None],
        "price": [1.0, 2.0, 3.0, 4.0, float("nan"), float("nan")],
        "tags": [["t"]] * N,
    }
)


def catalogue() -> Catalogue:
    snapshot = ItemSnapshot(
        item_ids=IDS,
        stats=np.full((N, len(ITEM_STATS)), np.nan, np.float32),
        attributes=ATTRIBUTES,
        category_codes=np.zeros(N, np.int32),
        eligible=np.ones(N, bool),
        titles=IDS,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
    )
    vectors = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1], [0, 0], [0.6, 0.8]], np.float32)
    return Catalogue(snapshot=snapshot, matching=ItemFilters(snapshot).mask, vectors=vectors)


CATALOGUE = catalogue()


def listed(shown: dict[str, int] | None = None, bought: str = "") -> Listed:
    return Listed(
        items=np.arange(N, dtype=np.int32),
        scores=np.linspace(0.9, 0.1, N),
        order=np.arange(N),
        bought=np.isin(IDS, list(bought)),
        shown=shown or {},
    )


def ruled(rules: dict[str, Any], k: int | None = None, **of: Any) -> Ordered:
    return apply(Rules.model_validate(rules), listed(**of), CATALOGUE, k)


def order(rules: dict[str, Any], k: int | None = None, **of: Any) -> str:
    return "".join(IDS[row] for row in ruled(rules, k, **of).rows)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"block": {"items": 'brand == "y"', "ids": ["a", "unknown"]}}, "bcf"),
        ({"deduplicate": [{"by": ["title"]}]}, "abef"),  # e and f lack a title
        ({"deduplicate": [{"by": ["title", "brand"]}]}, "abdef"),
        ({"deduplicate": [{"by": ["brand"]}, {"by": ["title"]}]}, "af"),  # a d f of the first, then d is a's twin
        ({"deduplicate": [{"by": ["price"]}]}, "abcdef"),  # NaN is no value
        ({"boost": [{"items": "price >= 4", "places": 2}]}, "adbcef"),
        ({"boost": [{"ids": ["d"], "places": 2}, {"items": 'brand == "y"', "places": 1}]}, "dabecf"),
        ({"boost": [{"ids": ["a"], "places": -2}]}, "bcadef"),
        ({"bury": {"ids": ["a", "c"]}}, "bdefac"),
        ({"caps": [{"attribute": "brand", "most": 1, "first": 3}]}, "adfbce"),
        ({"exposure": [{"ids": ["f"], "share": 0.29, "first": 3}]}, "afbcde"),  # .631 of 2.131 are 29.6%
        ({"pin": [{"ids": ["e"], "places": [2]}]}, "aebcdf"),
        ({"discovery": {"every": 2, "first_page": 0}}, "adbecf"),
    ],
)
def test_each_rule_alone(rules: dict[str, Any], expected: str) -> None:
    assert order(rules, bought="abc") == expected


def test_frequency() -> None:
    rule = {"frequency": {"times": 2}}
    shown = {"a": 2, "b": 1, "c": 5, "unknown": 9}
    assert order(rule) == "abcdef"
    assert order(rule, shown=shown) == "bdefac"
    assert order({"frequency": {"times": 2, "then": "drop"}}, shown=shown) == "bdef"
    # Shown too often stands before what is buried; what is both is buried.
    assert order(rule | {"bury": {"ids": ["b", "c"]}}, shown=shown) == "defabc"
    assert order({"frequency": {"times": 2, "then": "drop"}, "bury": {"ids": ["b", "c"]}}, shown=shown) == "defb"


def test_later_rules_go_before_earlier_ones() -> None:
    pin_a = {"pin": [{"ids": ["a"], "places": [3]}]}
    assert order({"block": {"ids": ["a"]}} | pin_a) == "bcdef"
    assert order({"bury": {"ids": ["a"]}} | pin_a) == "bcadef"
    # c is a twin of a by title and gone before it could be pinned.
    assert order({"deduplicate": [{"by": ["title"]}], "pin": [{"ids": ["c"], "places": [1]}]}) == "abef"
    # Boosts come first: of two twins the better by score stays, and it is the one boosted.
    assert order({"deduplicate": [{"by": ["title"]}], "boost": [{"ids": ["c", "e"], "places": 2}]}) == "eabf"


def test_what_is_buried_stays_behind_whatever_else_holds() -> None:
    """d is buried: no cap, no limit on exposure, no discovery, no diversity brings it forward."""
    rules = {
        "bury": {"ids": ["d"]},
        "caps": [{"attribute": "brand", "most": 1, "within": 2}],
        "exposure": [{"ids": ["d"], "share": 0.9}],
        "discovery": {"every": 1, "first_page": 0},
        "diversity": {"relevance": 0},
    }
    assert order(rules, bought="abcef")[-1] == "d"


def test_rules_say_what_they_moved() -> None:
    found = ruled(
        {
            "boost": [{"ids": ["c"], "places": 1}],
            "bury": {"ids": ["b"]},
            "caps": [{"attribute": "brand", "most": 1, "first": 3}],
            "pin": [{"ids": ["e"], "places": [1]}],
        }
    )
    # a c d e f | b, then the cap holds back c and e: a d f c e | b, and e is pinned.
    assert dict(zip([IDS[row] for row in found.rows], found.moved, strict=True)) == {
        "e": ["caps", "pin"],
        "a": [],
        "d": [],
        "f": [],
        "c": ["boost", "caps"],
        "b": ["bury"],
    }


@pytest.mark.parametrize(
    ("rules", "error", "said"),
    [
        ({"bury": {"items": "prise < 2"}}, NamedItemsError, r"rules\.bury\.items: .*unknown attribute 'prise'"),
        ({"boost": [{"items": "brand > 2", "places": 1}]}, NamedItemsError, r"rules\.boost\.0\.items: filter, char"),
        ({"caps": [{"attribute": "brant", "most": 1, "first": 2}]}, RuleError, r"rules\.caps\.0: unknown attribute 'b"),
        ({"deduplicate": [{"by": ["tags"]}]}, RuleError, r"rules\.deduplicate\.0: expected an attribute of single v"),
    ],
)  # fmt: skip
def test_what_the_items_lack_is_named(rules: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        ruled(rules)
    with pytest.raises(error, match=said):
        CATALOGUE.check(Rules.model_validate(rules))


def test_no_items() -> None:
    nothing = Listed(
        items=np.empty(0, np.int32), scores=np.empty(0), order=np.empty(0, np.intp), bought=np.empty(0, bool), shown={}
    )
    rules = EVERY.model_copy(update={"frequency": None})
    assert len(apply(rules, nothing, CATALOGUE).rows) == 0


EVERY = Rules.model_validate(
    {
        "block": {"ids": ["f"]},
        "deduplicate": [{"by": ["title"]}],
        "boost": [{"ids": ["d"], "places": 1}],
        "frequency": {"times": 2},
        "bury": {"ids": ["b"]},
        "diversity": {"method": "dpp"},
        "caps": [{"attribute": "brand", "most": 1, "within": 2}],
        "exposure": [{"ids": ["e"], "share": 0.2}],
        "discovery": {"every": 2},
        "pin": [{"items": "price > 1", "places": [1, 4]}],
    }
)

RULES = st.fixed_dictionaries(
    {},
    optional={
        "boost": st.just([{"items": 'brand == "y"', "places": 2}]),
        "frequency": st.just({"times": 1}),
        "bury": st.just({"items": "price < 3"}),
        "diversity": st.sampled_from([{"method": "mmr", "relevance": 0.4}, {"method": "dpp", "relevance": 0.4}]),
        "caps": st.just([{"attribute": "brand", "most": 1, "within": 2}]),
        "exposure": st.just([{"items": 'brand == "y"', "share": 0.5, "first": 4}]),
        "discovery": st.just({"every": 2, "first_page": 1}),
        "pin": st.just([{"items": 'title == "milk"', "places": [2, 5]}]),
    },
)


@given(rules=RULES, scale=st.sampled_from([1.0, 1e6]), bought=st.sets(st.sampled_from("abcdef")))
def test_no_item_is_lost_or_doubled_and_a_page_is_the_start_of_all(
    rules: dict[str, Any], scale: float, bought: set[str]
) -> None:
    given_ = listed({"c": 1, "f": 2}, "".join(bought))
    other = Listed(
        items=given_.items,
        scores=scale * given_.scores - 5,
        order=given_.order,
        bought=given_.bought,
        shown=given_.shown,
    )
    checked = Rules.model_validate(rules)
    found = apply(checked, other, CATALOGUE).rows.tolist()
    assert sorted(found) == list(range(N))
    for k in range(N + 2):
        assert apply(checked, other, CATALOGUE, k).rows.tolist() == found[:k]
    assert checked.are_set == bool(rules)


def test_no_rule_is_none() -> None:
    assert not NO_RULES.are_set
    assert EVERY.are_set
