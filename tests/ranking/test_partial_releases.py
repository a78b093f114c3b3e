"""One app whatever a release holds: what it lacks is said with what it has, and everything else is answered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.watcher import ReleaseWatcher
from ranking.answers import LoadedRelease, load_release
from ranking.service import Parts, create_combined_app
from retrieval import layout
from retrieval.lazy_encoder import TextEncoderLike
from retrieval.parts import MissingPartError
from retrieval.warmup import load_ready

RANK = ("/v1/rank", {"user_id": "user-1", "items": [{"item_id": "item-1"}]})
RECOMMEND = ("/v1/recommend", {"user_id": "user-1"})
EVENT = {"event_id": "e", "user_id": "u", "item_id": "i", "event": "view", "timestamp": "2020-01-01T00:00:00Z"}
ENCODER = (layout.ENCODER_DIR, layout.TASKS)
ITEMS = (*ENCODER, layout.ITEM_VECTORS, layout.INDEX_DIR, layout.SNAPSHOT)
Serve = Callable[[tuple[str, ...]], TestClient]


@pytest.fixture
def serve(release: Path, text_encoder: TextEncoderLike, tmp_path: Path) -> Serve:
    """Return a function that serves some files of the whole release, by a workspace without events."""

    def load(folder: Path) -> LoadedRelease:
        loaded = load_release(folder)
        loaded.predictor.texts.load = lambda: text_encoder
        return loaded

    def served(held: tuple[str, ...]) -> TestClient:
        store = ReleaseStore(tmp_path / "releases")
        with store.create("some", as_of=datetime(2020, 1, 1, tzinfo=UTC)) as writer:
            for name in held:
                (writer.path / name).parent.mkdir(parents=True, exist_ok=True)
                copy: Any = shutil.copytree if (release / name).is_dir() else shutil.copy
                copy(release / name, writer.path / name)
        store.publish("some")
        watcher = ReleaseWatcher(store, load, 60)
        watcher.load_initial()
        parts = Parts(watcher=watcher, store=store, features=None, events=None, settings=Settings(), metrics=Metrics())
        return TestClient(create_combined_app(parts))

    return served


def lacks(http: TestClient, path: str, body: dict[str, Any] | None = None) -> str:
    answer = http.get(path) if body is None else http.post(path, json=body)
    assert answer.status_code == 409, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["title"]) == ("urn:polyrank:missing-part", "Not in this release")
    detail: str = problem["detail"]
    return detail


def test_an_encoder_alone_predicts_texts_and_names_what_it_lacks(serve: Serve) -> None:
    with serve(ENCODER) as http:
        assert http.get("/health/ready").status_code == 200
        (row,) = http.post("/v1/predict", json={"texts": ["hello"]}).raise_for_status().json()["predictions"]
        assert set(row["tasks"]) == {"topic", "urgent"}
        without_items = "release some: expected items, found a release with encoder alone"
        for path, body in (("/v1/candidates", {"text": "hello"}), ("/v1/similar/item-1", None)):
            assert lacks(http, path, body) == without_items
        for path, body in (RANK, RECOMMEND):
            assert lacks(http, path, body) == "release some: expected ranking, found a release with encoder alone"
        assert lacks(http, "/v1/events", EVENT) == "release some: expected users, found a release with encoder alone"
        unknown = http.post("/v1/predict", json={"user_ids": ["user-1"]})
        assert unknown.status_code == 422
        assert "found none on users (user_ids); none on items (item_ids)" in unknown.json()["detail"]
        assert http.get("/v1/releases").json()["releases"][0]["serving"]
        assert http.post("/v1/releases/some/activate").status_code == 200
        assert 'polyrank_feature_age_seconds{feature="items"} NaN' in http.get("/metrics").text


def test_items_without_users_are_found_by_text_and_by_likeness(serve: Serve) -> None:
    with serve(ITEMS) as http:
        found = http.post("/v1/candidates", json={"text": "hello", "k": 5}).raise_for_status().json()
        assert (len(found["candidates"]), found["degraded"]) == (5, [])
        assert {source for one in found["candidates"] for source in one["sources"]} == {"semantic"}
        assert http.get("/v1/similar/item-1?k=3").json()["candidates"]
        lacking = "release some: expected users, found a release with encoder, items alone"
        assert lacks(http, "/v1/candidates", {"user_id": "user-1"}) == lacking
        assert lacks(http, "/v1/candidates", {"text": "hello", "sources": ["trending"]}) == lacking
        assert "expected ranking, found a release with encoder, items alone" in lacks(http, *RANK)


def test_a_whole_release_in_a_service_without_events_says_that_it_reads_no_users(serve: Serve, release: Path) -> None:
    with serve(tuple(path.name for path in release.iterdir())) as http:
        for path, body in (RANK, RECOMMEND, ("/v1/candidates", {"user_id": "user-1"})):
            assert "found a service of a workspace without events" in lacks(http, path, body)


def test_retrieval_alone_refuses_a_release_without_items(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release / layout.ENCODER_DIR, tmp_path / layout.ENCODER_DIR)
    with pytest.raises(MissingPartError, match="expected items, found a release with encoder alone"):
        load_ready(tmp_path)
