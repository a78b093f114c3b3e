"""The parts that every HTTP service shares: one factory that puts routers behind auth, limits, errors and health."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel

from infra.errors import UnavailableError
from infra.middleware import (
    KEY_HEADER,
    LIVE_PATH,
    METRICS_PATH,
    OPEN_PATHS,
    READY_PATH,
    GateMiddleware,
    ObserveMiddleware,
)
from infra.problems import add_problem_schema, install_handlers, problem_responses
from infra.settings import Settings, require_keys_if_public
from infra.telemetry import Metrics

AppLifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_log = structlog.get_logger(__name__)


class NotReadyError(UnavailableError):
    """The service lives but cannot answer yet."""

    title = "Not ready"


@dataclass(frozen=True, kw_only=True)
class ReadyState:
    """Whether a service can answer.

    Attributes:
        ready: it can.
        release: the release in service.
        checks: per part, "ok" or what is wrong with it; a part may be wrong and the service still be ready.
    """

    ready: bool
    release: str | None = None
    checks: Mapping[str, str] = field(default_factory=dict)


class Live(BaseModel):
    """The process runs."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """The service answers, from this release."""

    status: Literal["ready"] = "ready"
    release: str | None
    checks: dict[str, str]


class _Service(FastAPI):
    """An app whose OpenAPI document knows the problem body and the key."""

    keyed = False

    def openapi(self) -> dict[str, Any]:
        """Return the document, completed once."""
        document = super().openapi()
        if "Problem" not in document.get("components", {}).get("schemas", {}):
            add_problem_schema(document)
            if self.keyed:
                scheme = {"type": "apiKey", "in": "header", "name": KEY_HEADER}
                document["components"]["securitySchemes"] = {"ApiKey": scheme}
                document["security"] = [{"ApiKey": []}]
                for path in OPEN_PATHS & document["paths"].keys():
                    document["paths"][path]["get"]["security"] = []
        return document


def create_app(
    *,
    title: str,
    version: str,
    settings: Settings,
    metrics: Metrics,
    routers: Sequence[APIRouter],
    ready: Callable[[], ReadyState],
    lifespan: AppLifespan | None = None,
    description: str = "",
) -> FastAPI:
    """Return an app that serves the routers.

    Every answer carries X-Request-ID, every error is a problem body (RFC 9457), every request is counted and logged
    under its route template, and `/health/live`, `/health/ready` and `/metrics` stand beside the routers' paths.

    Args:
        title: name in the OpenAPI document.
        version: version in the OpenAPI document.
        settings: keys and limits.
        metrics: where requests are counted and what `/metrics` renders.
        routers: the service's routes with their full paths.
        ready: asked, in a worker thread, at each readiness probe.
        lifespan: what lives as long as the app; see `entering`.
        description: text in the OpenAPI document.
    """
    app = _Service(
        title=title,
        version=version,
        description=description,
        lifespan=_logged(title, lifespan),
        redirect_slashes=False,
        responses=problem_responses(413, 422, 500, 503) | (problem_responses(401) if settings.api_keys else {}),
    )
    app.keyed = bool(settings.api_keys)
    # The last one added is the outermost: a refused request is named, counted and logged as well.
    app.add_middleware(GateMiddleware, api_keys=settings.api_keys, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(ObserveMiddleware, metrics=metrics)
    install_handlers(app)
    # Routes are tried in order: the busy ones first.
    for router in (*routers, _operations(metrics, ready)):
        app.include_router(router)
    return app


def entering(*resources: AbstractContextManager[object]) -> AppLifespan:
    """Return a lifespan that enters the resources in order, and leaves them in reverse after the last request.

    Both happen in a worker thread, so a slow one holds up no other app of the process.
    """

    @contextlib.asynccontextmanager
    async def enter(_app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for resource in resources:
                await asyncio.to_thread(resource.__enter__)
                stack.push_async_callback(asyncio.to_thread, resource.__exit__, None, None, None)
            yield

    return enter


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve the app until the process is told to stop, then let requests in flight finish.

    Raises:
        KeysRequiredError: other machines could reach it and there are no keys.
    """
    require_keys_if_public(settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,  # its records go where telemetry.configure_logging sends all others
        access_log=False,  # ObserveMiddleware writes the one line of a request
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )


def _operations(metrics: Metrics, ready: Callable[[], ReadyState]) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get(LIVE_PATH)
    async def live() -> Live:
        """Tell that the process runs."""
        return Live()

    @router.get(READY_PATH)
    def readiness() -> Ready:
        """Tell whether the service can answer, and from which release."""
        state = ready()
        if not state.ready:
            wrong = "; ".join(f"{part}: {fault}" for part, fault in state.checks.items() if fault != "ok")
            raise NotReadyError(f"expected a service that can answer, found {wrong or 'no release in service'}")
        return Ready(release=state.release, checks=dict(state.checks))

    @router.get(METRICS_PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def scrape() -> Response:
        """Return the metrics in Prometheus' text form."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


def _logged(title: str, lifespan: AppLifespan | None) -> AppLifespan:
    @contextlib.asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        started = time.perf_counter()
        async with lifespan(app) if lifespan else contextlib.nullcontext():
            _log.info("service_started", service=title, seconds=round(time.perf_counter() - started, 3))
            yield
            _log.info("service_stopping", service=title)
        _log.info("service_stopped", service=title)

    return run
