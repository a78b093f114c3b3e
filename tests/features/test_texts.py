"""Texts by hand: missing parts leave no trace, and the order of a user's titles is fixed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from features.schema import UTC as UTC_DTYPE
from features.texts import TextConfig, item_texts, item_titles, shorten, user_texts
from features.transforms import FeatureConfig, as_of, user_history
from infra.errors import InvalidInputError

CUT = datetime(2020, 4, 10, tzinfo=UTC)
CONFIG = TextConfig(
    item="{type} | {brand} brand | size {size}", title="{type}", user="{age} years | {home}", frequent=1, recent=2
)
ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d", "e"],
        "type": ["WHOLE  MILK", "牛奶（全脂）", None, " ", "RYE BREAD"],
        "brand": ["Acme", None, "Bolt", None, "Acme"],
        "size": ["1 L", "{brand}", None, None, ""],
    }
)
USERS = pl.DataFrame({"user_id": ["u", "v"], "age": [41, None], "home": [None, None]}, schema_overrides={"home": str})


def history(*rows: tuple[int, int, float]) -> pl.DataFrame:
    """History of (user, item, age in days) purchases."""
    table = pl.DataFrame(
        {
            "user": [row[0] for row in rows],
            "item": [row[1] for row in rows],
            "event": ["purchase"] * len(rows),
            "timestamp": [CUT - timedelta(days=row[2]) for row in rows],
            "value": [1.0] * len(rows),
            "quantity": [1.0] * len(rows),
        },
        schema_overrides={"user": pl.Int32, "item": pl.Int32, "timestamp": UTC_DTYPE, "event": pl.String},
    )
    return user_history(as_of(table, CUT, FeatureConfig()), USERS.height)


def test_missing_parts_are_left_out_whole() -> None:
    assert item_texts(ITEMS, CONFIG).to_list() == [
        "WHOLE MILK, Acme brand, size 1 L",
        "牛奶（全脂）, size {brand}",  # braces in the data are text, not a placeholder
        "Bolt brand",
        "d",  # nothing at all: the id stands in
        "RYE BREAD, Acme brand",
    ]
    assert item_titles(ITEMS, CONFIG).to_list() == ["WHOLE MILK", "牛奶（全脂）", "c", "d", "RYE BREAD"]


def test_a_constant_template_fills_every_row() -> None:
    assert item_texts(ITEMS, TextConfig(item="thing")).to_list() == ["thing"] * 5


def test_user_text_names_most_bought_then_latest_of_the_rest() -> None:
    titles = item_titles(ITEMS, CONFIG)
    # Item 4 on three days: exp(-20/90) + exp(-30/90) + exp(-40/90) = 2.16, above one purchase of yesterday, 0.99.
    rows = history((0, 4, 20), (0, 4, 30), (0, 4, 40), (0, 0, 1), (0, 1, 2), (0, 2, 3))
    assert user_texts(USERS, rows, titles, CONFIG).to_list() == [
        "41 years, often RYE BREAD, lately WHOLE MILK, 牛奶（全脂）",
        "new customer",
    ]


def test_equal_titles_count_as_one() -> None:
    items = ITEMS.with_columns(type=pl.Series(["MILK", "MILK", "JAM", "JAM", "JAM"]))
    rows = history((0, 0, 10), (0, 1, 12), (0, 2, 9))
    # MILK: exp(-10/90) + exp(-12/90) = 1.77 > JAM: exp(-9/90) = .90.
    texts = user_texts(USERS, rows, item_titles(items, CONFIG), CONFIG)
    assert texts[0] == "41 years, often MILK, lately JAM"


@given(st.text(max_size=60), st.integers(4, 30))
def test_shortened_titles_hold_their_length_and_start(title: str, characters: int) -> None:
    clean = " ".join(title.split())
    found = shorten(pl.Series([clean], dtype=pl.String), characters)[0]
    assert len(found) <= characters
    assert found in clean[:characters]


def test_shorten_cuts_at_a_space_and_inside_scripts_without_one() -> None:
    titles = pl.Series(["SALAD BAR FRESH FRUIT", "全脂牛奶全脂牛奶全脂牛奶", "VARIETY BEANS - KIDNEY"])
    assert shorten(titles, 15).to_list() == ["SALAD BAR FRESH", "全脂牛奶全脂牛奶全脂牛奶", "VARIETY BEANS"]
    assert shorten(titles, 6).to_list() == ["SALAD", "全脂牛奶全脂", "VARIET"]


def test_bad_templates() -> None:
    with pytest.raises(InvalidInputError, match="table items: unknown column 'typ'; did you mean 'type'"):
        item_texts(ITEMS, TextConfig(item="{typ}"))
    for template in ("{}", "{0}", "{a!r}", "{a:>3}", "{a.b}", "{a"):
        with pytest.raises(ValidationError):
            TextConfig(item=template)
