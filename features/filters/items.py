"""How a workspace names items: a filter in its file, and the items of a table that it holds of."""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import AfterValidator

from features.filters.errors import FilterError
from features.filters.evaluate import Mask, mask
from features.filters.parse import parse
from infra.errors import InvalidInputError


class NamedItemsError(InvalidInputError):
    """A filter of the workspace that doesn't fit the items' columns."""


def _is_filter(text: str) -> str:
    parse(text)
    return text


# What is no filter is refused where the workspace is read; what columns there are is not known yet.
FilterText = Annotated[str, AfterValidator(_is_filter)]


def named_items(text: str | None, items: pl.DataFrame, where: str) -> Mask | None:
    """Return bool `[n_items]`, the items that a filter holds of; None for all, where there is no filter.

    Args:
        text: the filter.
        items: the items table.
        where: place of the filter in the workspace, for the error.

    Raises:
        NamedItemsError: it doesn't fit the items' columns.
    """
    if text is None:
        return None
    try:
        return mask(parse(text), items.to_dict())
    except FilterError as error:
        raise NamedItemsError(f"{where}: {error}") from None
