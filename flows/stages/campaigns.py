"""Whom a release's campaigns address, and whether their filters fit the tables."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from features.filters.items import named_items
from features.tables import Tables
from flows.stages.item_filters import check_item_filter
from retrieval.campaigns import Audiences, Campaign


def audiences(campaigns: Mapping[str, Campaign], users: pl.DataFrame) -> Audiences:
    """Return whom those campaigns address that do not address everybody.

    Args:
        campaigns: by name.
        users: the users table; a release has them in its order.

    Raises:
        NamedItemsError: a filter doesn't fit the users' columns.
    """
    found = {
        name: named_items(campaign.users, users, f"candidates: campaigns: {name}: users")
        for name, campaign in campaigns.items()
    }
    return Audiences(members={name: members for name, members in found.items() if members is not None})


def check_campaigns(campaigns: Mapping[str, Campaign], tables: Tables) -> None:
    """Check every campaign's filters against the columns of the tables, before a release is built for hours.

    Raises:
        NamedItemsError: one doesn't fit.
    """
    audiences(campaigns, tables.users)
    for name, campaign in campaigns.items():
        check_item_filter(campaign.items, tables.items, f"candidates: campaigns: {name}: items")
