"""Item and user texts for the encoder, from templates over table columns.

A template is parts separated by `|`; a part names columns as `{column}` and is left out whole when one of them is
null or blank, so `"{product_type} | {brand} brand"` never yields a bare "brand". Parts are joined by ", ".
"""

from __future__ import annotations

import string
from typing import Annotated, Final

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from features.rows import HISTORY_COLUMNS, HISTORY_ITEMS_COLUMN
from features.schema import HISTORY_STATS, ITEM, ITEM_ID, USER, USER_ID
from infra.errors import InvalidInputError, unknown_name

_SEPARATOR: Final = ", "
_TITLE: Final = "title"


def _parse(part: str) -> list[tuple[str, str | None]]:
    """Return (literal, column or None) pieces of one template part."""
    pieces: list[tuple[str, str | None]] = []
    for literal, field, spec, conversion in string.Formatter().parse(part.strip()):
        if field is not None and (spec or conversion or not field.isidentifier()):
            raise ValueError(f"template part {part.strip()!r}: expected plain {{column}} placeholders, found {field!r}")
        pieces.append((literal, field))
    return pieces


def _checked(template: str) -> str:
    for part in template.split("|"):
        _parse(part)
    return template


Template = Annotated[str, AfterValidator(_checked)]


class TextConfig(BaseModel):
    """Templates and lengths.

    Attributes:
        item: what the encoder reads of an item; where every part is missing the item's id stands in.
        title: short name of an item, in reports and answers.
        mention: how a user text names an item; None takes the title.
        user: profile of a user; an empty template leaves the profile out.
        frequent: distinct titles of the items bought most (by decayed_90), at most.
        recent: further distinct titles of the items bought last, at most.
        title_chars: characters of a title in a user text, cut at a space where there is one.
        frequent_prefix: stands before the frequent titles.
        recent_prefix: stands before the recent titles.
        unknown_user: text of a user without profile and without purchases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    item: Template = "{title}"
    title: Template = "{title}"
    mention: Template | None = None
    user: Template = ""
    # Token cost dominates training: 5 + 3 titles of the demo and its profile make 41 tokens at the median.
    frequent: int = Field(default=5, ge=0)
    recent: int = Field(default=3, ge=0)
    title_chars: int = Field(default=20, ge=4)
    frequent_prefix: str = "often "
    recent_prefix: str = "lately "
    unknown_user: str = "new customer"


def item_texts(items: pl.DataFrame, config: TextConfig) -> pl.Series:
    """Return the text of each item: String `[n_items]`, never null or blank.

    Raises:
        InvalidInputError: the template names a column that the items don't have.
    """
    return _render(items, config.item, "items", pl.col(ITEM_ID))


def item_titles(items: pl.DataFrame, config: TextConfig) -> pl.Series:
    """Return the short name of each item: String `[n_items]`, never null or blank.

    Raises:
        InvalidInputError: the template names a column that the items don't have.
    """
    return _render(items, config.title, "items", pl.col(ITEM_ID))


def item_mentions(items: pl.DataFrame, config: TextConfig) -> pl.Series:
    """Return how user texts name each item: String `[n_items]`, never null or blank.

    Raises:
        InvalidInputError: the template names a column that the items don't have.
    """
    return _render(items, config.mention or config.title, "items", pl.col(ITEM_ID))


def user_texts(users: pl.DataFrame, history: pl.DataFrame, titles: pl.Series, config: TextConfig) -> pl.Series:
    """Return the text of each user as of the cut of `history`.

    Args:
        users: the users table (or some rows of it, in the order of `history`).
        history: `features.transforms.user_history` of the same users, one row each in order.
        titles: `item_titles`, by item position; shortened here.
        config: templates and lengths.

    Returns:
        String `[n_users]`, never null or blank: profile, most bought titles, latest further titles.

    Raises:
        InvalidInputError: the template names a column that the users don't have.
    """
    age, weight = (HISTORY_COLUMNS[HISTORY_STATS.index(name)] for name in ("last_age_days", "decayed_90"))
    pairs = history.select(USER, pl.col(HISTORY_ITEMS_COLUMN).alias(ITEM), age, weight).explode(
        ITEM, age, weight, empty_as_null=False, keep_nulls=False
    )
    # Only titles in use are shortened: all 92,000 of the demo take 60 ms, too long for one user's event.
    used = pairs[ITEM].unique()
    short = pl.DataFrame({ITEM: used, _TITLE: shorten(titles.gather(used), config.title_chars)})
    bought = (
        pairs.lazy()
        .join(short.lazy(), on=ITEM)
        .group_by(USER, _TITLE)
        # Rounded before sorting: float sums may differ in their last bits, an order by text must not.
        .agg(pl.col(age).min(), pl.col(weight).cast(pl.Float64).sum().round(6))
        .sort([USER, weight, age, _TITLE], descending=[False, True, False, False])
        .with_columns(pl.int_range(pl.len()).over(USER).alias("rank"))
    )
    often = bought.filter(pl.col("rank") < config.frequent)
    lately = (
        bought.filter(pl.col("rank") >= config.frequent)
        .sort([USER, age, weight, _TITLE], descending=[False, False, True, False])
        .filter(pl.int_range(pl.len()).over(USER) < config.recent)
    )
    joined = pl.col(_TITLE).str.join(_SEPARATOR)
    parts = (
        history.lazy()
        .select(USER)
        .join(often.group_by(USER, maintain_order=True).agg(joined.alias("often")), on=USER, how="left")
        .join(lately.group_by(USER, maintain_order=True).agg(joined.alias("lately")), on=USER, how="left")
        .sort(USER)
        .collect()
    )
    profile = _render(users, config.user, "users", pl.lit(None, pl.String)) if config.user else None
    texts = parts.select(
        pl.concat_str(
            pl.lit(profile) if profile is not None else pl.lit(None, pl.String),
            pl.lit(config.frequent_prefix) + pl.col("often"),
            pl.lit(config.recent_prefix) + pl.col("lately"),
            separator=_SEPARATOR,
            ignore_nulls=True,
        ).alias("text")
    )["text"]
    return _clean(texts).fill_null(config.unknown_user).alias(USER_ID)


def shorten(titles: pl.Series, characters: int) -> pl.Series:
    """Return titles of at most that many characters, cut at the last space in reach where there is one."""
    at_space = titles.str.extract(rf"^(.{{1,{characters}}})(?:\s|$)")
    return pl.select(
        pl.coalesce(pl.lit(at_space), pl.lit(titles).str.slice(0, characters)).str.strip_chars(" ,;:-/")
    ).to_series()


def _render(table: pl.DataFrame, template: str, name: str, fallback: pl.Expr) -> pl.Series:
    parts: list[pl.Expr] = []
    for part in template.split("|"):
        pieces: list[pl.Expr] = []
        for literal, column in _parse(part):
            if literal:
                pieces.append(pl.lit(literal))
            if column is not None:
                if column not in table.columns:
                    raise InvalidInputError(
                        f"text template {template!r}: table {name}: {unknown_name('column', column, table.columns)}"
                    )
                pieces.append(_blank_to_null(pl.col(column).cast(pl.String)))
        if pieces:
            parts.append(pl.concat_str(pieces, ignore_nulls=False))
    text = pl.concat_str(parts, separator=_SEPARATOR, ignore_nulls=True) if parts else pl.lit("")
    rendered = table.select(_blank_to_null(text).fill_null(fallback).alias("text"))["text"]
    return rendered.new_from_index(0, table.height) if len(rendered) != table.height else rendered


def _blank_to_null(text: pl.Expr) -> pl.Expr:
    """Normalise to NFC, collapse white space, and turn a blank into null."""
    clean = text.str.normalize("NFC").str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(clean.str.len_bytes() > 0).then(clean)


def _clean(text: pl.Series) -> pl.Series:
    return text.to_frame("text").select(_blank_to_null(pl.col("text")))["text"]
