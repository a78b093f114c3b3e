"""Clients of the ranking service, one blocking and one asyncio, with typed answers.

    with RankingClient("http://127.0.0.1:8080") as client:
        for item in client.recommend("1364", k=20).items:
            print(item.item_id, item.score, item.tasks)

They know retrieval's calls as well: `polyrank serve` answers both. Errors and timeouts are those of `infra.client`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Unpack
from urllib.parse import quote

from features.event_log import Event
from infra.client import checked
from ranking.contract import (
    ActivateResponse,
    EventsRequest,
    EventsResponse,
    PredictRequest,
    PredictResponse,
    RankRequest,
    RankResponse,
    RecommendRequest,
    ReleasesResponse,
)
from ranking.reply.contract import FeedbackRequest, FeedbackResponse, ReplyRequest, ReplyResponse
from ranking.rules.config import Rules
from retrieval.client import AskedLimits, AsyncRetrievalClient, RetrievalClient
from retrieval.contract import SourceName

_RANK: Final = "/v1/rank"
_RECOMMEND: Final = "/v1/recommend"
_PREDICT: Final = "/v1/predict"
_EVENTS: Final = "/v1/events"
_RELEASES: Final = "/v1/releases"
_REPLY: Final = "/v1/reply"
_FEEDBACK: Final = "/v1/feedback"


class AskedRecommendation(AskedLimits, total=False):
    """Fields of `RecommendRequest` beside the user's id, and `request_id` and `shown` of its context."""

    k: int
    candidates: int
    sources: Sequence[SourceName] | None
    objective: str | None
    rules: Rules | None
    explain: bool
    request_id: str | None
    shown: Mapping[str, int] | None


class RankingClient(RetrievalClient):
    """Blocking client; arguments as `infra.client.ServiceClient`."""

    def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        k: int | None = None,
        objective: str | None = None,
        rules: Rules | None = None,
        explain: bool = False,
        request_id: str | None = None,
        shown: Mapping[str, int] | None = None,
    ) -> RankResponse:
        """Order a user's items; see `RankRequest`.

        Raises:
            UnavailableError: no answer in time, no connection, or a 503.
            PolyrankError: the subclass of the answer's status.
        """
        return self._post(
            _RANK,
            RankResponse,
            _rank(user_id, item_ids, k, objective, rules, explain=explain, request_id=request_id, shown=shown),
        )

    def recommend(self, user_id: str, **request: Unpack[AskedRecommendation]) -> RankResponse:
        """Find and order candidates; see `RecommendRequest`; raises as `rank` does."""
        return self._post(_RECOMMEND, RankResponse, _recommend(user_id, request))

    def predict(
        self,
        user_ids: Sequence[str] | None = None,
        *,
        item_ids: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> PredictResponse:
        """Predict of users, items or texts (one of the three); see `PredictRequest`; raises as `rank` does."""
        return self._post(_PREDICT, PredictResponse, _predict(user_ids, item_ids, texts, tasks))

    def send_events(self, events: Sequence[Event]) -> EventsResponse:
        """Send events; returns once they are durable. An `event_id` counts once, so sending again is safe."""
        return self._post(_EVENTS, EventsResponse, checked(EventsRequest, {"events": events}))

    def reply(
        self,
        text: str,
        *,
        conversation_id: str | None = None,
        user_id: str | None = None,
        filter: str | None = None,  # noqa: A002 - the contract's name
        slots: Mapping[str, str] | None = None,
    ) -> ReplyResponse:
        """Reply to a text; see `ReplyRequest`; raises as `rank` does."""
        return self._post(_REPLY, ReplyResponse, _reply(text, conversation_id, user_id, filter, slots))

    def feedback(self, request_id: str, *, intent: str | None = None, item_id: str | None = None) -> FeedbackResponse:
        """Say what a text wanted or what answers it; returns once it is durable; raises as `rank` does."""
        request = checked(FeedbackRequest, {"request_id": request_id, "intent": intent, "item_id": item_id})
        return self._post(_FEEDBACK, FeedbackResponse, request)

    def releases(self) -> ReleasesResponse:
        """List the releases; raises as `rank` does."""
        return self._get(_RELEASES, ReleasesResponse)

    def activate(self, release_id: str) -> ActivateResponse:
        """Make a release current; raises as `rank` does."""
        return self._post(_activate(release_id), ActivateResponse)


class AsyncRankingClient(AsyncRetrievalClient):
    """Asyncio client; arguments as `infra.client.ServiceClient`."""

    async def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        *,
        k: int | None = None,
        objective: str | None = None,
        rules: Rules | None = None,
        explain: bool = False,
        request_id: str | None = None,
        shown: Mapping[str, int] | None = None,
    ) -> RankResponse:
        """Order a user's items; raises as `RankingClient.rank` does."""
        return await self._post(
            _RANK,
            RankResponse,
            _rank(user_id, item_ids, k, objective, rules, explain=explain, request_id=request_id, shown=shown),
        )

    async def recommend(self, user_id: str, **request: Unpack[AskedRecommendation]) -> RankResponse:
        """Find and order candidates; raises as `RankingClient.rank` does."""
        return await self._post(_RECOMMEND, RankResponse, _recommend(user_id, request))

    async def predict(
        self,
        user_ids: Sequence[str] | None = None,
        *,
        item_ids: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> PredictResponse:
        """Predict of users, items or texts (one of the three); raises as `RankingClient.rank` does."""
        return await self._post(_PREDICT, PredictResponse, _predict(user_ids, item_ids, texts, tasks))

    async def send_events(self, events: Sequence[Event]) -> EventsResponse:
        """Send events; returns once they are durable."""
        return await self._post(_EVENTS, EventsResponse, checked(EventsRequest, {"events": events}))

    async def reply(
        self,
        text: str,
        *,
        conversation_id: str | None = None,
        user_id: str | None = None,
        filter: str | None = None,  # noqa: A002 - the contract's name
        slots: Mapping[str, str] | None = None,
    ) -> ReplyResponse:
        """Reply to a text; raises as `RankingClient.rank` does."""
        return await self._post(_REPLY, ReplyResponse, _reply(text, conversation_id, user_id, filter, slots))

    async def feedback(
        self, request_id: str, *, intent: str | None = None, item_id: str | None = None
    ) -> FeedbackResponse:
        """Say what a text wanted or what answers it; raises as `RankingClient.rank` does."""
        request = checked(FeedbackRequest, {"request_id": request_id, "intent": intent, "item_id": item_id})
        return await self._post(_FEEDBACK, FeedbackResponse, request)

    async def releases(self) -> ReleasesResponse:
        """List the releases; raises as `RankingClient.rank` does."""
        return await self._get(_RELEASES, ReleasesResponse)

    async def activate(self, release_id: str) -> ActivateResponse:
        """Make a release current; raises as `RankingClient.rank` does."""
        return await self._post(_activate(release_id), ActivateResponse)


def _rank(
    user_id: str,
    item_ids: Sequence[str],
    k: int | None,
    objective: str | None,
    rules: Rules | None,
    *,
    explain: bool,
    request_id: str | None,
    shown: Mapping[str, int] | None,
) -> RankRequest:
    values = {
        "user_id": user_id,
        "items": [{"item_id": item_id} for item_id in item_ids],
        "k": k,
        "objective": objective,
        "rules": rules,
        "explain": explain,
        "context": {"request_id": request_id, "shown": shown},
    }
    return checked(RankRequest, values)


def _recommend(user_id: str, asked: AskedRecommendation) -> RecommendRequest:
    values: dict[str, object] = {"user_id": user_id, **asked}
    values["context"] = {name: values.pop(name, None) for name in ("request_id", "shown")}
    return checked(RecommendRequest, values)


def _predict(
    user_ids: Sequence[str] | None,
    item_ids: Sequence[str] | None,
    texts: Sequence[str] | None,
    tasks: Sequence[str] | None,
) -> PredictRequest:
    return checked(PredictRequest, {"user_ids": user_ids, "item_ids": item_ids, "texts": texts, "tasks": tasks})


def _reply(
    text: str,
    conversation_id: str | None,
    user_id: str | None,
    filter_: str | None,
    slots: Mapping[str, str] | None,
) -> ReplyRequest:
    values = {
        "text": text,
        "conversation_id": conversation_id,
        "user_id": user_id,
        "filter": filter_,
        "slots": slots or {},
    }
    return checked(ReplyRequest, values)


def _activate(release_id: str) -> str:
    return f"{_RELEASES}/{quote(release_id, safe='')}/activate"
