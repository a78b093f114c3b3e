"""Serving a workspace's current release: both services in one process, or one of them. No torch, no Prefect."""

from __future__ import annotations

from typing import Final, Literal

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.event_log import EventLog
from features.events import EventProcessor, UserBase
from features.item_log import ItemLog
from features.store import FeatureStore
from features.turn_log import TurnLog
from flows.workspace import Workspace
from infra import web
from infra.heap import settle
from infra.releases import ReleaseStore
from infra.settings import Settings, require_keys_if_public
from infra.telemetry import Metrics, configure_logging
from infra.watcher import ReleaseWatcher
from ranking.answers import LoadedRelease, load_release
from ranking.reply.phrasing import Phraser
from ranking.service import Parts, create_app, create_combined_app
from retrieval.engine import Retriever
from retrieval.live.follow import ItemFollower
from retrieval.service import create_app as create_retrieval_app
from retrieval.warmup import load_ready

# Between two looks at the changes that other services of the workspace have taken.
_ITEM_POLL_S: Final = 0.5

Service = Literal["all", "retrieval", "ranking"]


def serve(folder: str, host: str | None = None, port: int | None = None, service: Service = "all") -> None:
    """Serve until told to stop.

    Args:
        folder: of the workspace.
        host: in place of POLYRANK_HOST.
        port: in place of POLYRANK_PORT.
        service: both services, or one; ranking alone asks POLYRANK_RETRIEVAL_URL for candidates.

    Raises:
        KeysRequiredError: other machines could reach it and there are no keys.
        NoCurrentReleaseError: nothing is published.
        UserBaseNotFoundError: features were never refreshed.
    """
    settings = Settings.from_environment(host=host, port=port)
    require_keys_if_public(settings)
    configure_logging(settings.log_level, json=settings.log_json)
    # A request's products are too small to split: with BLAS threads candidates took 8.7 ms, without 4.3. Requests run
    # side by side in worker threads anyway.
    threadpool_limits(1, "blas")
    workspace = Workspace.load(folder)
    if service == "retrieval":
        items = ItemFollower[Retriever](
            ItemLog(workspace.item_log), lambda found: found, lambda _, changed: changed.retriever, _ITEM_POLL_S
        )
        store = ReleaseStore(workspace.releases)
        watcher = ReleaseWatcher(store, items.loader(load_ready), settings.release_poll_s, settle)
        features = feature_store(workspace, settings)
        app = create_retrieval_app(watcher, features, settings, Metrics(), items.follow(watcher))
        web.serve(app, settings)
        return
    parts = service_parts(workspace, settings)
    web.serve(create_app(parts) if service == "ranking" else create_combined_app(parts), settings)


def service_parts(workspace: Workspace, settings: Settings) -> Parts:
    """Return what the app of a workspace is made of; without events neither users' features nor a log of events.

    Raises:
        UserBaseNotFoundError: there are events, and features were never refreshed.
    """
    store, features = ReleaseStore(workspace.releases), feature_store(workspace, settings)
    items = ItemFollower[LoadedRelease](
        ItemLog(workspace.item_log), lambda found: found.retriever, LoadedRelease.over, _ITEM_POLL_S
    )
    watcher = ReleaseWatcher(store, items.loader(load_release), settings.release_poll_s, settle)
    return Parts(
        watcher=watcher,
        store=store,
        features=features,
        events=None if features is None else event_processor(workspace, features),
        settings=settings,
        metrics=Metrics(),
        turns=TurnLog(workspace.turn_log),
        phraser=Phraser.of(settings),
        items=items.follow(watcher),
    )


def feature_store(workspace: Workspace, settings: Settings) -> FeatureStore | None:
    """Return where users' features are read from; None for a workspace without events."""
    return FeatureStore(workspace.feast, settings) if workspace.config.parts.events else None


def event_processor(workspace: Workspace, features: FeatureStore) -> EventProcessor:
    """Return what takes events: the workspace's log, and the events of its last refresh."""
    base = UserBase.load(workspace.user_base)
    processor = EventProcessor(EventLog(workspace.event_log), features, base, workspace.config.features)
    processor.follow(workspace.user_base)
    return processor
