"""Clients of the retrieval service, one blocking and one asyncio, with typed answers.

    with RetrievalClient("http://127.0.0.1:8080") as client:
        answer = client.candidates(user_id="1364", k=100, filter='department == "GROCERY"')

Errors and timeouts are those of `infra.client`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypedDict, Unpack
from urllib.parse import quote

from features.item_log import ItemChange
from infra.client import KEY_HEADER, TIMEOUT_S, AsyncServiceClient, BadAnswerError, ServiceClient, checked
from retrieval.contract import CandidatesRequest, CandidatesResponse, SourceName
from retrieval.live.contract import ItemResponse, ItemsRequest, ItemsResponse

__all__ = ["KEY_HEADER", "TIMEOUT_S", "AsyncRetrievalClient", "BadAnswerError", "RetrievalClient"]

_CANDIDATES: Final = "/v1/candidates"
_ITEMS: Final = "/v1/items"


class AskedLimits(TypedDict, total=False):
    """Fields of `Limits`."""

    filter: str | None
    allow: Sequence[str] | None
    exclude: Sequence[str]
    exclude_bought: bool


class AskedCandidates(AskedLimits, total=False):
    """Fields of `CandidatesRequest`."""

    user_id: str | None
    text: str | None
    item_id: str | None
    k: int
    sources: Sequence[SourceName] | None


class RetrievalClient(ServiceClient):
    """Blocking client; arguments as `ServiceClient`."""

    def candidates(self, **request: Unpack[AskedCandidates]) -> CandidatesResponse:
        """Ask for candidates; see `CandidatesRequest`.

        Raises:
            UnavailableError: no answer in time, no connection, or a 503.
            PolyrankError: the subclass of the answer's status.
        """
        return self._post(_CANDIDATES, CandidatesResponse, checked(CandidatesRequest, request))

    def similar(self, item_id: str, *, k: int = 100) -> CandidatesResponse:
        """Ask for items like `item_id`; raises as `candidates` does."""
        return self._get(_similar(item_id), CandidatesResponse, {"k": k})

    def send_items(self, items: Sequence[ItemChange]) -> ItemsResponse:
        """Add or change items; returns once that is durable; raises as `candidates` does."""
        return self._post(_ITEMS, ItemsResponse, checked(ItemsRequest, {"items": items}))

    def remove_item(self, item_id: str) -> ItemsResponse:
        """Take an item out of all answers, durably; raises as `candidates` does."""
        return self._delete(_item(item_id), ItemsResponse)

    def item(self, item_id: str) -> ItemResponse:
        """Ask what is known of an item; raises as `candidates` does."""
        return self._get(_item(item_id), ItemResponse)


class AsyncRetrievalClient(AsyncServiceClient):
    """Asyncio client; arguments as `ServiceClient`."""

    async def candidates(self, **request: Unpack[AskedCandidates]) -> CandidatesResponse:
        """Ask for candidates; raises as `RetrievalClient.candidates` does."""
        return await self._post(_CANDIDATES, CandidatesResponse, checked(CandidatesRequest, request))

    async def similar(self, item_id: str, *, k: int = 100) -> CandidatesResponse:
        """Ask for items like `item_id`; raises as `RetrievalClient.candidates` does."""
        return await self._get(_similar(item_id), CandidatesResponse, {"k": k})

    async def send_items(self, items: Sequence[ItemChange]) -> ItemsResponse:
        """Add or change items; returns once that is durable; raises as `RetrievalClient.candidates` does."""
        return await self._post(_ITEMS, ItemsResponse, checked(ItemsRequest, {"items": items}))

    async def remove_item(self, item_id: str) -> ItemsResponse:
        """Take an item out of all answers, durably; raises as `RetrievalClient.candidates` does."""
        return await self._delete(_item(item_id), ItemsResponse)

    async def item(self, item_id: str) -> ItemResponse:
        """Ask what is known of an item; raises as `RetrievalClient.candidates` does."""
        return await self._get(_item(item_id), ItemResponse)


def _item(item_id: str) -> str:
    return f"{_ITEMS}/{quote(item_id, safe='')}"


def _similar(item_id: str) -> str:
    return f"/v1/similar/{quote(item_id, safe='')}"
