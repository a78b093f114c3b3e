"""The retrieval service: `POST /v1/candidates` and `GET /v1/similar/{item_id}`.

`router` mounts beside other routers in one process; `create_app` is the service on its own. Neither a user we don't
know nor an online store that can't be reached is an error: the answer falls back, says so in `degraded`, and the
fallback is counted. A user asked about where the release has none, as its workspace has no events, is one (409).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Annotated, Protocol

import orjson
import structlog
from fastapi import APIRouter, FastAPI, Query, Response

from features.schema import UserFeatures
from infra.errors import UnavailableError
from infra.problems import problem_responses
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.watcher import Loaded, ReleaseWatcher
from infra.web import ReadyState, entering
from infra.web import create_app as create_web_app
from retrieval.contract import MAX_CANDIDATES, CandidatesRequest, CandidatesResponse, Degraded, RequestTooWideError
from retrieval.engine import Retriever
from retrieval.live.follow import ItemFollower
from retrieval.live.routes import router as items_router
from retrieval.parts import MissingPartError, check_sources, missing_part
from retrieval.warmup import answer

log = structlog.get_logger(__name__)


class OnlineFeatures(Protocol):
    """Where a user's features come from: `features.store.FeatureStore`, or a test's own."""

    def online_user(self, user_id: str) -> UserFeatures:
        """Return the user's row, an unknown one for a user without it; raises `UnavailableError` when unreachable."""
        ...


def candidates_json(
    loaded: Loaded[Retriever],
    features: OnlineFeatures | None,
    request: CandidatesRequest,
    settings: Settings,
    metrics: Metrics,
) -> bytes:
    """Answer one request from one release: a `CandidatesResponse` as JSON.

    Five hundred candidates take half a millisecond so; as pydantic models, made and written, they took more than five.

    Raises:
        MissingPartError: a user, or a source that reads events, of a release without them.
        RequestTooWideError: k or a list of items is above `settings.max_batch`.
        FilterError: the filter is none, or doesn't fit the items.
        UnknownItemError: the release does not hold `item_id`.
    """
    widest = max(request.k, request.widest)
    if widest > settings.max_batch:
        raise RequestTooWideError(f"expected k, allow and exclude of at most {settings.max_batch}, found {widest}")
    _check_parts(loaded, request)
    degraded: list[Degraded] = []
    user = None
    if request.user_id is not None:
        if features is None:
            raise MissingPartError("user_id: expected online features, found a service of a workspace without events")
        with metrics.timed("user_features"):
            user = read_user(features, request.user_id, degraded)
    with metrics.timed("candidates"):
        found, fallbacks = answer(loaded.value, request, user, now=datetime.now(UTC))
    degraded += fallbacks
    metrics.count_degraded(degraded)
    return orjson.dumps({"release": loaded.release_id, "candidates": found, "degraded": degraded})


def _check_parts(loaded: Loaded[Retriever], request: CandidatesRequest) -> None:
    retriever = loaded.value
    asked = request.sources or ()
    if "users" not in retriever.parts and (request.user_id is not None or set(asked) - set(retriever.sources)):
        raise missing_part(loaded.release_id, "users", retriever.parts)
    check_sources(loaded.release_id, asked, retriever.sources)


def read_user(features: OnlineFeatures, user_id: str, degraded: list[Degraded]) -> UserFeatures:
    """Return the user's features, an unknown user's when the store can't be reached, which `degraded` then says."""
    try:
        return features.online_user(user_id)
    except UnavailableError as error:
        log.warning("features_unavailable", error=str(error))
        degraded.append("features_unavailable")
        return UserFeatures.unknown(user_id)


def router(
    current: Callable[[], Loaded[Retriever]], features: OnlineFeatures | None, settings: Settings, metrics: Metrics
) -> APIRouter:
    """Return the routes of retrieval.

    Args:
        current: the release in service, asked once a request so that one answer comes from one release.
        features: users' online features; None where a workspace has no events.
        settings: limits.
        metrics: counts fallbacks and times parts.
    """
    routes = APIRouter(tags=["retrieval"])

    # Plain functions run in worker threads: FAISS and numpy let go of the interpreter, and health stays responsive.
    @routes.post("/v1/candidates", response_model=CandidatesResponse, responses=problem_responses(409))
    def post_candidates(request: CandidatesRequest) -> Response:
        """Return candidates for a user, a text or an item, best first."""
        return _json(candidates_json(current(), features, request, settings, metrics))

    # ":path", since an item id may hold a slash.
    @routes.get("/v1/similar/{item_id:path}", response_model=CandidatesResponse, responses=problem_responses(404, 409))
    def get_similar(item_id: str, k: Annotated[int, Query(ge=1, le=MAX_CANDIDATES)] = 100) -> Response:
        """Return items like one item, itself left out."""
        request = CandidatesRequest(item_id=item_id, k=k)
        return _json(candidates_json(current(), features, request, settings, metrics))

    return routes


def create_app(
    watcher: ReleaseWatcher[Retriever],
    features: OnlineFeatures | None,
    settings: Settings,
    metrics: Metrics,
    items: ItemFollower[Retriever] | None = None,
) -> FastAPI:
    """Return the service on its own; it follows the release pointer as long as it runs.

    Args:
        watcher: loads releases, best by `retrieval.warmup.load_ready`.
        features: users' online features; None where a workspace has no events.
        settings: keys and limits.
        metrics: what `/metrics` renders.
        items: takes changes of the catalogue, follows `watcher`; None takes none.
    """
    routers = [router(lambda: watcher.loaded, features, settings, metrics)]
    if items is not None:
        routers.append(items_router(lambda: watcher.loaded, items, settings))
    metrics.watch_release(lambda: watcher.release_id, lambda: watcher.failures)
    metrics.watch_age("items", lambda: items_age_s(watcher.value) if watcher.release_id else math.nan)
    return create_web_app(
        title="Polyrank retrieval",
        version=version("polyrank"),
        settings=settings,
        metrics=metrics,
        routers=routers,
        ready=lambda: ready_state(watcher),
        lifespan=entering(watcher, *(() if items is None else (items,))),
        description="Candidates for a user, a text or an item.",
    )


def ready_state(watcher: ReleaseWatcher[Retriever]) -> ReadyState:
    """Return ready once a release has passed its warm-up; a newer one that fails to load doesn't change that."""
    return ReadyState(
        ready=watcher.release_id is not None,
        release=watcher.release_id,
        checks={"release": watcher.last_error or ("ok" if watcher.release_id else "none loaded yet")},
    )


def items_age_s(retriever: Retriever) -> float:
    """Return the seconds since the time that the item snapshot's statistics count back from; NaN where it has none."""
    if "users" not in retriever.parts:
        return math.nan
    return (datetime.now(UTC) - retriever.snapshot.as_of).total_seconds()


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
