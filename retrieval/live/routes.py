"""`/v1/items`: what changes in the catalogue, and what is known of an item."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from features.item_log import ItemChange
from features.schema import AVAILABLE_TO
from infra.problems import problem_responses
from infra.settings import Settings
from infra.watcher import Loaded
from retrieval.contract import RequestTooWideError
from retrieval.engine import Retriever
from retrieval.live.contract import ItemResponse, ItemsRequest, ItemsResponse
from retrieval.live.follow import ItemFollower


def router(current: Callable[[], Loaded[Retriever]], follower: ItemFollower[Any], settings: Settings) -> APIRouter:
    """Return the routes of the catalogue.

    Args:
        current: the release in service, asked once a request.
        follower: takes changes.
        settings: limits.
    """
    routes = APIRouter(tags=["items"])

    def take(changes: list[ItemChange], now: datetime) -> ItemsResponse:
        taken = follower.take(current().value, changes, now)
        return ItemsResponse(accepted=len(changes), sequence=taken.sequence, searchable=taken.known)

    @routes.post("/v1/items", status_code=202, responses=problem_responses(409))
    def post_items(request: ItemsRequest) -> ItemsResponse:
        """Add items or change some of their columns; answered once that is durable."""
        if len(request.items) > settings.max_batch:
            raise RequestTooWideError(f"expected at most {settings.max_batch} items, found {len(request.items)}")
        return take(request.items, datetime.now(UTC))

    # ":path", since an item id may hold a slash.
    @routes.delete("/v1/items/{item_id:path}", status_code=202, responses=problem_responses(404, 409))
    def delete_item(item_id: str) -> ItemsResponse:
        """Take an item out of all answers from now on: its `available_to` becomes this moment."""
        current().value.position(item_id)
        now = datetime.now(UTC)
        return take([ItemChange(item_id=item_id, values={AVAILABLE_TO: now.isoformat()})], now)

    @routes.get("/v1/items/{item_id:path}", responses=problem_responses(404, 409))
    def get_item(item_id: str) -> ItemResponse:
        """Say what is known of an item."""
        loaded = current()
        retriever, snapshot = loaded.value, loaded.value.snapshot
        position = retriever.position(item_id)
        return ItemResponse(
            release=loaded.release_id,
            item_id=item_id,
            title=snapshot.titles[position],
            attributes={
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in snapshot.attributes.row(position, named=True).items()
            },
            eligible=bool(snapshot.eligible[position]),
            available=retriever.available(position, datetime.now(UTC)),
        )

    return routes
