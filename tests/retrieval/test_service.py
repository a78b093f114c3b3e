"""The service over in-process ASGI, through its own clients, on real releases."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from features.schema import UserFeatures
from infra.errors import ConflictError, InvalidInputError, NotFoundError, UnauthorisedError, UnavailableError
from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.watcher import ReleaseWatcher
from retrieval.client import AsyncRetrievalClient, BadAnswerError, RetrievalClient
from retrieval.engine import Retriever
from retrieval.service import create_app
from retrieval.warmup import load_ready

Features = Callable[..., UserFeatures]


class Store:
    """Online features that can be cut off."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.reachable = True

    def online_user(self, user_id: str) -> UserFeatures:
        if not self.reachable:
            raise UnavailableError("online store: connection refused")
        if user_id == "newcomer":
            return self.features(3, user_id=user_id)
        name, _, number = user_id.partition("-")
        known = name == "user" and number.isdigit() and int(number) < 40
        return self.features(int(number)) if known else UserFeatures.unknown(user_id)


class InProcess(httpx.BaseTransport):
    """Carries a blocking client's requests to an app in this process."""

    def __init__(self, http: TestClient) -> None:
        self.http = http

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.raw_path.decode()
        found = self.http.request(request.method, url, content=request.read(), headers=dict(request.headers))
        kind = {"content-type": found.headers["content-type"]}
        return httpx.Response(found.status_code, headers=kind, content=found.content)


@pytest.fixture(scope="module")
def store(features: Features) -> Store:
    return Store(features)


@pytest.fixture(scope="module")
def releases(release: Path, tmp_path_factory: pytest.TempPathFactory) -> ReleaseStore:
    releases = ReleaseStore(tmp_path_factory.mktemp("releases"))
    with releases.create("first") as writer:
        shutil.copytree(release, writer.path, dirs_exist_ok=True)
    releases.publish("first")
    return releases


@pytest.fixture(scope="module")
def app(releases: ReleaseStore, store: Store) -> FastAPI:
    watcher = ReleaseWatcher(releases, load_ready, 60.0)
    watcher.load_initial()
    return create_app(watcher, store, Settings(max_batch=1_000), Metrics())


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture(scope="module")
def client(http: TestClient) -> Iterator[RetrievalClient]:
    with RetrievalClient("http://testserver", transport=InProcess(http)) as client:
        yield client


def degraded_count(http: TestClient, reason: str) -> float:
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith("polyrank_degraded_total")]
    return sum(float(line.split()[-1]) for line in lines if f'"{reason}"' in line)


def test_candidates(client: RetrievalClient) -> None:
    answer = client.candidates(user_id="user-3", k=25, filter='department in ["GROCERY", "MEAT"]')
    assert answer.release == "first"
    assert answer.degraded == []
    assert len(answer.candidates) == 25
    assert len({c.item_id for c in answer.candidates}) == 25
    assert all(int(c.item_id.removeprefix("item-")) % 6 in (0, 2) for c in answer.candidates)
    assert all(c.sources for c in answer.candidates)


def test_exclude_and_sources(client: RetrievalClient) -> None:
    first = client.candidates(user_id="user-3", k=5, sources=["semantic"])
    gone = [c.item_id for c in first.candidates]
    second = client.candidates(user_id="user-3", k=5, sources=["semantic"], exclude=[*gone, "no such item"])
    assert not set(gone) & {c.item_id for c in second.candidates}
    assert all(c.sources == ["semantic"] for c in second.candidates)


def test_a_source_that_the_release_lacks_is_a_conflict(client: RetrievalClient) -> None:
    with pytest.raises(ConflictError, match="release first: expected source sequence, found a release with semantic"):
        client.candidates(user_id="user-3", sources=["sequence"])


def test_similar(client: RetrievalClient) -> None:
    answer = client.similar("item-12", k=8)
    assert len(answer.candidates) == 8
    assert "item-12" not in {c.item_id for c in answer.candidates}
    with pytest.raises(NotFoundError, match="'shelf/9'"):
        client.similar("shelf/9")


def test_nobody_is_no_error(client: RetrievalClient, http: TestClient) -> None:
    before = degraded_count(http, "unknown_user")
    answer = client.candidates(user_id="nobody", k=7)
    assert answer.degraded == ["unknown_user"]
    assert len(answer.candidates) == 7
    assert all(c.sources == ["trending"] for c in answer.candidates)
    assert degraded_count(http, "unknown_user") == before + 1
    assert client.candidates(user_id="newcomer", k=7).degraded == ["user_not_in_release"]


def test_an_unreachable_store_is_no_error(client: RetrievalClient, http: TestClient, store: Store) -> None:
    store.reachable = False
    try:
        known = client.candidates(user_id="user-3", k=30)
        unknown = client.candidates(user_id="nobody", k=30)
    finally:
        store.reachable = True
    assert known.degraded == ["features_unavailable"]
    assert {"semantic", "collaborative"} <= {name for c in known.candidates for name in c.sources}
    assert unknown.degraded == ["features_unavailable", "unknown_user"]
    assert len(unknown.candidates) == 30
    assert degraded_count(http, "features_unavailable") >= 2


def test_a_text_without_encoder_is_no_error(client: RetrievalClient) -> None:
    answer = client.candidates(text="rye bread", k=4)
    assert answer.degraded == ["encoder_unavailable"]
    assert len(answer.candidates) == 4


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"k": 5}, "expected one of user_id, text and item_id, found none"),
        ({"user_id": "a", "item_id": "b"}, "expected item_id alone"),
        ({"user_id": "a", "k": 0}, "greater than or equal to 1"),
        ({"user_id": "a", "k": 5_000}, "at most 1000, found 5000"),
        ({"user_id": "a", "limit": 5}, "Extra inputs are not permitted"),
        (
            {"user_id": "a", "sources": ["psychic"]},
            "'semantic', 'collaborative', 'repeat', 'trending', 'sequence' or 'campaign'",
        ),
        ({"user_id": "a", "filter": {"department": "MEAT"}}, "body.filter: Input should be a valid string"),
        ({"user_id": ""}, "at least 1 character"),
    ],
)
def test_mistakes_are_problems(http: TestClient, body: dict[str, object], message: str) -> None:
    response = http.post("/v1/candidates", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert message in response.json()["detail"]


def test_a_bad_filter_is_a_problem_that_points_at_the_character(http: TestClient) -> None:
    response = http.post("/v1/candidates", json={"user_id": "a", "filter": 'organic and departmnt == "MEAT"'})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == "urn:polyrank:filter"
    first, text, caret = problem["detail"].split("\n")
    # "organic and " has 12 characters; the text and its caret stand 4 to the right.
    assert first.startswith("filter, character 13: unknown attribute 'departmnt'; did you mean 'department'?")
    assert text == '    organic and departmnt == "MEAT"'
    assert caret == " " * 16 + "^"


def test_wild_bodies_are_never_server_errors(http: TestClient) -> None:
    deep = json.dumps({"user_id": "a", "filter": "not (" * 4_000 + "organic" + ")" * 4_000})
    half = '{"user_id": "a", "filter": "brand == \'\\ud800\'"}'
    bodies = ("", "[]", "null", '{"user_id": "\\ud800"}', '{"user_id": 5}', deep, half, '{"user_id": "a", "k": 1e999}')
    for text in bodies:
        response = http.post("/v1/candidates", content=text, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422), text[:60]


def test_the_client_refuses_before_it_asks(client: RetrievalClient) -> None:
    with pytest.raises(InvalidInputError, match="found none"):
        client.candidates(k=5)
    with pytest.raises(InvalidInputError, match="did you mean 'brand'"):
        client.candidates(user_id="user-1", filter='brnad == "x"')


def test_async_client(app: FastAPI) -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with AsyncRetrievalClient("http://testserver", transport=transport) as client:
            answer = await client.candidates(user_id="user-3", k=5)
            assert len(answer.candidates) == 5
            assert len((await client.similar("item-3", k=2)).candidates) == 2
            with pytest.raises(NotFoundError):
                await client.similar("item-999")

    asyncio.run(ask())


def test_keys(releases: ReleaseStore, store: Store) -> None:
    watcher = ReleaseWatcher(releases, load_ready, 60.0)
    app = create_app(watcher, store, Settings(api_keys=("one", "two")), Metrics())
    with TestClient(app) as http:
        transport = InProcess(http)
        with pytest.raises(UnauthorisedError, match="X-API-Key"):
            RetrievalClient("http://testserver", transport=transport).similar("item-1")
        while http.get("/health/ready").status_code != 200:  # the watcher loads beside
            pass
        keyed = RetrievalClient("http://testserver", api_key="two", transport=transport)
        assert len(keyed.similar("item-1", k=3).candidates) == 3


def test_before_a_release_the_service_is_unavailable(tmp_path: Path, store: Store) -> None:
    watcher: ReleaseWatcher[Retriever] = ReleaseWatcher(ReleaseStore(tmp_path), load_ready, 60.0)
    with TestClient(create_app(watcher, store, Settings(), Metrics())) as http:
        assert http.get("/health/live").status_code == 200
        assert http.get("/health/ready").status_code == 503
        assert http.get("/metrics").status_code == 200
        with pytest.raises(UnavailableError, match="found none"):
            RetrievalClient("http://testserver", transport=InProcess(http)).candidates(user_id="user-3")


def test_a_release_is_swapped_without_a_failed_request(releases: ReleaseStore, release: Path, store: Store) -> None:
    watcher = ReleaseWatcher(releases, load_ready, 0.05)
    watcher.load_initial()
    with releases.create("second", parent="first") as writer:
        shutil.copytree(release, writer.path, dirs_exist_ok=True)
    seen = set()
    with TestClient(create_app(watcher, store, Settings(), Metrics())) as http:
        try:
            for number in range(2_000):
                if number == 5:
                    releases.publish("second")
                response = http.post("/v1/candidates", json={"user_id": "user-3", "k": 5})
                assert response.status_code == 200
                seen.add(response.json()["release"])
                if "second" in seen:
                    break
        finally:
            releases.publish("first")
    assert seen == {"first", "second"}


def test_a_dead_service_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with pytest.raises(UnavailableError, match="ConnectError: connection refused"):
        RetrievalClient("http://nowhere", transport=httpx.MockTransport(refuse)).candidates(user_id="a")


def test_a_strange_answer_is_named() -> None:
    strange = httpx.MockTransport(lambda _: httpx.Response(200, text='{"items": []}'))
    with pytest.raises(BadAnswerError, match="release"):
        RetrievalClient("http://other", transport=strange).candidates(user_id="a")
    proxy = httpx.MockTransport(lambda _: httpx.Response(503, text="<html>busy</html>"))
    with pytest.raises(UnavailableError, match="<html>busy"):
        RetrievalClient("http://other", transport=proxy).candidates(user_id="a")


def test_limits_that_contradict_the_query_are_refused(client: RetrievalClient) -> None:
    with pytest.raises(InvalidInputError, match="exclude_bought: expected a user_id"):
        client.candidates(text="rye bread", exclude_bought=True)
    with pytest.raises(InvalidInputError, match=r"allow\n.*at least 1 item"):
        client.candidates(text="rye bread", allow=[])


def test_the_contract_is_published(http: TestClient) -> None:
    document = http.get("/openapi.json").json()
    assert {"/v1/candidates", "/v1/similar/{item_id}"} <= set(document["paths"])
    fields = document["components"]["schemas"]["CandidatesRequest"]["properties"]
    assert set(fields) == {"user_id", "text", "item_id", "k", "filter", "sources", "allow", "exclude", "exclude_bought"}
    answer = document["components"]["schemas"]["CandidatesResponse"]["properties"]
    assert set(answer) == {"release", "candidates", "degraded"}
    assert "NaN" not in json.dumps(document)


def test_serving_imports_no_training_library() -> None:
    heavy = ["torch", "transformers", "sklearn", "implicit", "prefect", "feast"]
    program = f"import sys, retrieval.service, retrieval.client; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
