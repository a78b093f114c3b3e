"""The ranking service: routes that call one plain function each, and the app around them.

Every route is a plain `def`, run in Starlette's thread pool. An answer is milliseconds of numpy and LightGBM, much of
it outside the GIL; on the event loop it would hold up every other request, health probes included. Measured over
loopback on two busy cores, /v1/rank of 100 items: the hop to the pool is lost in the noise for one client (p50 12.6 to
15.9 ms in three runs, `async def` 10.6 to 14.3), and four clients got 112 and 91 answers a second, against 96 and 89.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel

from features.event_log import Event
from infra.problems import problem_responses, request_id
from infra.releases import ReleaseStore
from infra.watcher import Loaded
from infra.web import ReadyState, entering
from infra.web import create_app as create_web_app
from ranking.answers import Answerer, LoadedRelease, retriever_of
from ranking.candidates import CandidateSource, LocalCandidates, RemoteCandidates
from ranking.contract import (
    ActivateResponse,
    EventsRequest,
    EventsResponse,
    PredictRequest,
    PredictResponse,
    RankDegraded,
    RankRequest,
    RankResponse,
    RecommendRequest,
    Release,
    ReleasesResponse,
)
from ranking.reply.phrasing import Phraser
from ranking.reply.replier import Replier
from ranking.reply.routes import router as reply_router
from ranking.users import UserFeatureSource, UserReader
from retrieval.client import RetrievalClient
from retrieval.live.follow import ItemFollower
from retrieval.live.routes import router as items_router
from retrieval.parts import missing_part
from retrieval.service import items_age_s
from retrieval.service import router as retrieval_router

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fastapi import FastAPI

    from features.events import EventProcessor
    from features.turn_log import TurnLog
    from infra.settings import Settings
    from infra.telemetry import Metrics
    from infra.watcher import ReleaseWatcher
    from retrieval.engine import Retriever


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingService:
    """What the routes call.

    Attributes:
        answerer: ranks, recommends, predicts.
        current: the release in service, asked once a request so that one answer comes from one release.
        store: all releases.
        events: where events go; None in a service of a workspace without them.
    """

    answerer: Answerer
    current: Callable[[], Loaded[LoadedRelease]]
    store: ReleaseStore
    events: EventProcessor | None

    def take_events(self, events: Sequence[Event]) -> EventsResponse:
        """Write events durably, then bring their users' online features up to date.

        A feature store that can't be written costs freshness, not the events: they are in the log.

        Raises:
            MissingPartError: the workspace has no events.
            FutureEventError: one has not happened yet; none is written.
        """
        if self.events is None:
            loaded = self.current()
            raise missing_part(loaded.release_id, "users", loaded.value.parts)
        taken = self.events.apply(events, datetime.now(UTC))
        degraded: list[RankDegraded] = [] if taken.error is None else ["features_unavailable"]
        self.answerer.metrics.count_degraded(degraded)
        return EventsResponse(
            accepted=taken.stored,
            duplicates=taken.duplicates,
            unknown_items=taken.unknown_items,
            users_updated=taken.updated_users,
            degraded=degraded,
        )

    def releases(self) -> ReleasesResponse:
        """Return every release, newest first, and which is current and which is in service here."""
        serving = self.current().release_id
        return ReleasesResponse(
            releases=[
                Release(
                    release_id=info.release_id,
                    created_at=info.created_at,
                    parent=info.parent,
                    as_of=info.as_of,
                    total_bytes=info.total_bytes,
                    current=info.current,
                    serving=info.release_id == serving,
                )
                for info in self.store.list()
            ]
        )

    def activate(self, release_id: str) -> ActivateResponse:
        """Verify a release and make it current; services load and check it, then swap.

        Raises:
            ReleaseNotFoundError: no such release.
            ReleaseCorruptError: a file differs from its manifest.
        """
        previous = self.store.current()
        self.store.publish(release_id)
        return ActivateResponse(release=release_id, previous=previous)


def router(service: RankingService) -> APIRouter:
    """Return the routes of ranking."""
    routes = APIRouter(prefix="/v1", tags=["ranking"])

    @routes.post("/rank", response_model=RankResponse, responses=problem_responses(409))
    def rank(body: RankRequest, request: Request) -> Response:
        """Order a user's items by an objective."""
        return _json(service.answerer.rank(service.current(), body, request_id(request)))

    @routes.post("/recommend", response_model=RankResponse, responses=problem_responses(409))
    def recommend(body: RecommendRequest, request: Request) -> Response:
        """Find candidates for a user and order them."""
        return _json(service.answerer.recommend(service.current(), body, request_id(request)))

    @routes.post("/predict", response_model=PredictResponse, responses=problem_responses(409))
    def predict(body: PredictRequest) -> Response:
        """Predict what tasks say of users, items or texts: probabilities, numbers, classes, or tags and their slots."""
        # A unit without a tag says so: null is an answer here, and no other field of it is ever empty.
        return _json(service.answerer.predict(service.current(), body), exclude_none=False)

    @routes.post("/events", response_model=EventsResponse, status_code=202, responses=problem_responses(409))
    def events(body: Annotated[EventsRequest | Event, Body()]) -> Response:
        """Take one event or many; answered once they are durable."""
        return _json(service.take_events(body.events if isinstance(body, EventsRequest) else [body]), 202)

    @routes.get("/releases")
    def releases() -> ReleasesResponse:
        """List the releases."""
        return service.releases()

    @routes.post("/releases/{release_id}/activate", responses=problem_responses(404, 409))
    def activate(release_id: str) -> ActivateResponse:
        """Make a release current."""
        return service.activate(release_id)

    return routes


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What an app is made of.

    Attributes:
        watcher: follows the release pointer, best with `ranking.answers.load_release`.
        store: all releases.
        features: users' online features; None, as `events`, for a workspace without events.
        events: where events go.
        settings: keys and limits; `retrieval_url` names a retrieval service elsewhere.
        metrics: what `/metrics` renders.
        turns: where turns of conversations go; None logs none.
        items: takes changes of the catalogue, follows `watcher`; None takes none.
        phraser: the generative model that phrases replies; None leaves them as they are composed.
    """

    watcher: ReleaseWatcher[LoadedRelease]
    store: ReleaseStore
    features: UserFeatureSource | None
    events: EventProcessor | None
    settings: Settings
    metrics: Metrics
    turns: TurnLog | None = None
    phraser: Phraser | None = None
    items: ItemFollower[LoadedRelease] | None = None

    def service(self, candidates: CandidateSource) -> RankingService:
        """Return what the routes call."""
        answerer = Answerer(
            users=None if self.features is None else UserReader(self.features),
            candidates=candidates,
            metrics=self.metrics,
            max_batch=self.settings.max_batch,
            shown=self.events,
        )
        return RankingService(
            answerer=answerer, current=lambda: self.watcher.loaded, store=self.store, events=self.events
        )

    def replies(self) -> APIRouter:
        """Return the routes of replies, which candidates from elsewhere don't concern: their passages are at hand."""
        replier = Replier(turns=self.turns, phraser=self.phraser, metrics=self.metrics)
        return reply_router(replier, lambda: self.watcher.loaded)


def create_app(parts: Parts) -> FastAPI:
    """Return the ranking service on its own; candidates come over HTTP where the settings name a retrieval service."""
    url = parts.settings.retrieval_url
    if url is None:
        return _app(parts, "Polyrank ranking", [router(parts.service(LocalCandidates()))])
    keys = parts.settings.api_keys
    client = RetrievalClient(
        str(url), api_key=keys[0].get_secret_value() if keys else None, timeout_s=parts.settings.timeout_s
    )
    return _app(parts, "Polyrank ranking", [router(parts.service(RemoteCandidates(client)))], client)


def create_combined_app(parts: Parts) -> FastAPI:
    """Return both services in one process, from one loaded release: the embedded default."""

    def current() -> Loaded[Retriever]:
        return retriever_of(parts.watcher.loaded)

    routers = [
        retrieval_router(current, parts.features, parts.settings, parts.metrics),
        router(parts.service(LocalCandidates())),
    ]
    if parts.items is not None:
        routers.append(items_router(current, parts.items, parts.settings))
    return _app(parts, "Polyrank", routers)


def _app(parts: Parts, title: str, routers: Sequence[APIRouter], *resources: AbstractContextManager[object]) -> FastAPI:
    watcher = parts.watcher
    own = [resource for resource in (parts.items, parts.phraser) if resource is not None]
    parts.metrics.watch_release(lambda: watcher.release_id, lambda: watcher.failures)
    parts.metrics.watch_age("items", lambda: _items_age_s(watcher.value))

    def ready() -> ReadyState:
        fault = watcher.last_error or ("ok" if watcher.release_id else "none loaded yet")
        return ReadyState(ready=watcher.release_id is not None, release=watcher.release_id, checks={"release": fault})

    return create_web_app(
        title=title,
        version=version("polyrank"),
        settings=parts.settings,
        metrics=parts.metrics,
        routers=[*routers, parts.replies()],
        ready=ready,
        lifespan=entering(watcher, *resources, *own),
        description="Candidates for a user and their order by calibrated task probabilities.",
    )


def _items_age_s(release: LoadedRelease) -> float:
    return math.nan if release.retriever is None else items_age_s(release.retriever)


def _json(answer: BaseModel, status: int = 200, *, exclude_none: bool = True) -> Response:
    """Return the body as pydantic writes it: FastAPI would validate our own items once more."""
    return Response(answer.model_dump_json(exclude_none=exclude_none), status, media_type="application/json")
