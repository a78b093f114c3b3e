"""The small release of `tests/retrieval/conftest.py`, whose items' texts are their departments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from features.item_log import ItemChange, LoggedChange
from features.item_values import ItemValue
from features.texts import TextConfig
from retrieval.catalogue import CatalogueConfig
from retrieval.engine import Retriever

# A day after the release's time.
NOW = datetime(2017, 12, 5, tzinfo=UTC)
CATALOGUE = CatalogueConfig(
    texts=TextConfig(item="{department}", title="{department} {brand} | of {department}"),
    category_column="department",
    eligible_items='department != "DRUG"',
    new_days=28,
)


@pytest.fixture
def changeable(retriever: Retriever) -> Retriever:
    return dataclasses.replace(retriever, catalogue=CATALOGUE)


def logged(*changes: tuple[str, Mapping[str, ItemValue]], first: int = 1) -> list[LoggedChange]:
    return [
        LoggedChange(
            sequence=first + n,
            received=NOW + timedelta(seconds=n),
            change=ItemChange(item_id=item_id, values=dict(values)),
        )
        for n, (item_id, values) in enumerate(changes)
    ]
