"""Whom campaigns address is told from the users' columns, and mistakes in their filters from the tables."""

from __future__ import annotations

import polars as pl
import pytest

from features.filters.items import NamedItemsError
from features.tables import Tables
from flows.stages.campaigns import audiences, check_campaigns
from retrieval.campaigns import Campaign

TABLES = Tables(
    items=pl.DataFrame({"item_id": ["a", "b"], "price": [1.0, 2.0]}),
    users=pl.DataFrame({"user_id": ["u0", "u1", "u2"], "age": [30, 70, None]}),
)


def test_an_audience_is_of_the_users_that_the_filter_holds_of() -> None:
    found = audiences(
        {"all": Campaign(items="price < 2"), "old": Campaign(items="price < 2", users="age > 65")}, TABLES.users
    )
    assert {name: members.tolist() for name, members in found.members.items()} == {"old": [False, True, False]}


@pytest.mark.parametrize(
    ("campaign", "said"),
    [
        (Campaign(items="prise < 2"), r"candidates: campaigns: spring: items: .*unknown attribute 'prise'"),
        (Campaign(items='price == "cheap"'), r"candidates: campaigns: spring: items: "),
        (Campaign(items="price < 2", users="wage > 9"), r"campaigns: spring: users: .*unknown attribute 'wage'"),
    ],
)  # fmt: skip
def test_a_filter_that_does_not_fit_is_named(campaign: Campaign, said: str) -> None:
    with pytest.raises(NamedItemsError, match=said):
        check_campaigns({"spring": campaign}, TABLES)


def test_an_item_statistic_may_be_asked_of() -> None:
    check_campaigns({"spring": Campaign(items="mean_price < 2 and buyers_28d > 3")}, TABLES)
