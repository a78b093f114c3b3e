"""What `/v1/items` takes and gives over HTTP; names are part of the published contract."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from features.item_log import ItemChange

MAX_CHANGES = 10_000


class ItemsRequest(BaseModel):
    """`POST /v1/items`: changes of the catalogue, in the order in which they apply.

    Attributes:
        items: each an id and the columns to set; an id that is not known yet is a new item.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: list[ItemChange] = Field(min_length=1, max_length=MAX_CHANGES)


class ItemsResponse(BaseModel):
    """The answer of `POST /v1/items` and `DELETE /v1/items/{item_id}`, once the changes are durable.

    Attributes:
        accepted: how many changes.
        sequence: the log's number of the last one.
        searchable: whether this service's answers know them already; where not, they will soon, as other services'.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accepted: int
    sequence: int
    searchable: bool


class ItemResponse(BaseModel):
    """The answer of `GET /v1/items/{item_id}`: an item as this service knows it.

    Attributes:
        release: id of the release that answered.
        item_id: the item.
        title: for people.
        attributes: what filters may name, statistics left out; null where there is no value, or none in JSON.
        eligible: whether the release may name it at all, as far as buyers and `eligible.items` say.
        available: whether now lies between its `available_from` and `available_to`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str
    item_id: str
    title: str
    attributes: dict[str, Any]
    eligible: bool
    available: bool
