from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import structlog
import uvicorn
from asgi_lifespan import LifespanManager
from fastapi import APIRouter, FastAPI, HTTPException, Request
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from structlog.testing import capture_logs

from infra.errors import ConflictError, InvalidInputError, NotFoundError, PolyrankError, UnavailableError
from infra.problems import MEDIA_TYPE, problem_responses, request_id
from infra.settings import KeysRequiredError, Settings
from infra.telemetry import Metrics
from infra.web import ReadyState, create_app, entering, serve

READY = ReadyState(ready=True, release="r1", checks={"online": "ok"})


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = Field(default=1, ge=1)


class BrokenModelError(UnavailableError):
    title = "Broken model"
    retry_after_s = 7


ERRORS: dict[str, Exception] = {
    "invalid": InvalidInputError("expected a, found b"),
    "missing": NotFoundError("no thing 'x'"),
    "conflict": ConflictError("already there"),
    "unavailable": BrokenModelError("the model is broken"),
    "internal": PolyrankError("a file is corrupt"),
    "surrogate": NotFoundError("no thing \ud800"),
    "http": HTTPException(418, "short and stout", headers={"X-Tea": "green"}),
    "unforeseen": ZeroDivisionError("secret detail"),
}


def router() -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/orders")
    async def order(body: Order, request: Request) -> dict[str, str | int]:
        structlog.get_logger("tests").info("ordered")
        return {"name": body.name, "count": body.count, "request_id": request_id(request)}

    @routes.get("/things/{name}", responses=problem_responses(404))
    def thing(name: str) -> dict[str, str]:
        if name in ERRORS:
            raise ERRORS[name]
        return {"name": name}

    @routes.get("/slow")
    async def slow() -> dict[str, str]:
        await asyncio.sleep(0.5)
        return {"slow": "done"}

    return routes


def app(settings: Settings | None = None, metrics: Metrics | None = None, ready: ReadyState = READY) -> FastAPI:
    return create_app(
        title="Test",
        version="1",
        settings=settings or Settings(),
        metrics=metrics or Metrics(),
        routers=[router()],
        ready=lambda: ready,
    )


def client(served: FastAPI) -> httpx.AsyncClient:
    # The framework answers 500 and then raises again for the server's log; a client sees the answer alone.
    transport = httpx.ASGITransport(app=served, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def call(
    method: str,
    path: str,
    *,
    served: FastAPI | None = None,
    headers: dict[str, str] | None = None,
    content: bytes | AsyncIterator[bytes] | None = None,
) -> httpx.Response:
    async def go() -> httpx.Response:
        async with client(served or app()) as session:
            return await session.request(method, path, headers=headers, content=content)

    return asyncio.run(go())


def assert_problem(response: httpx.Response, status: int, kind: str) -> dict[str, object]:
    assert response.status_code == status
    assert response.headers["content-type"] == MEDIA_TYPE
    body: dict[str, object] = response.json()
    assert body["status"] == status
    assert body["type"] == f"urn:polyrank:{kind}"
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    return body


JSON = {"content-type": "application/json"}


def test_a_route_answers_and_names_its_request() -> None:
    response = call("POST", "/v1/orders", headers=JSON | {"X-Request-ID": "abc-1"}, content=b'{"name": "n"}')
    assert response.json() == {"name": "n", "count": 1, "request_id": "abc-1"}
    assert response.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("given_id", ["", "a b", "x" * 129, 'a"b', "a;b"])
def test_a_request_id_that_is_not_plain_is_replaced(given_id: str) -> None:
    made = call("GET", "/v1/things/a", headers={"X-Request-ID": given_id}).headers["x-request-id"]
    assert made != given_id
    assert len(made) == 32


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("invalid", 422, "invalid-input"),
        ("missing", 404, "not-found"),
        ("conflict", 409, "conflict"),
        ("unavailable", 503, "broken-model"),
        ("internal", 500, "polyrank"),
        ("surrogate", 404, "not-found"),
        ("http", 418, "i'm-a-teapot"),
        ("unforeseen", 500, "internal-error"),
    ],
)
def test_every_error_is_a_problem_body(name: str, status: int, kind: str) -> None:
    body = assert_problem(call("GET", f"/v1/things/{name}"), status, kind)
    assert body["instance"] == f"/v1/things/{name}"
    assert "secret" not in json.dumps(body)


def test_headers_of_errors() -> None:
    assert call("GET", "/v1/things/unavailable").headers["retry-after"] == "7"
    assert call("GET", "/v1/things/http").headers["x-tea"] == "green"
    assert "retry-after" not in call("GET", "/v1/things/missing").headers


def test_paths_and_methods_that_are_not_served() -> None:
    assert assert_problem(call("GET", "/nowhere"), 404, "not-found")["detail"] == "no route for GET /nowhere"
    response = call("DELETE", "/v1/orders")
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"


def test_a_mismatch_names_each_value() -> None:
    content = b'{"count": 0, "nmae": "x"}'
    body = assert_problem(call("POST", "/v1/orders", headers=JSON, content=content), 422, "invalid-request")
    assert body["errors"] == [
        {"where": "body.name", "message": "Field required", "found": "nothing"},
        {"where": "body.count", "message": "Input should be greater than or equal to 1", "found": "0"},
        {"where": "body.nmae", "message": "Extra inputs are not permitted", "found": "'x'"},
    ]
    assert body["detail"] == "body.name: Field required, found nothing (and 2 more)"


def test_a_body_that_is_not_json() -> None:
    body = assert_problem(call("POST", "/v1/orders", headers=JSON, content=b'{"name": }'), 422, "invalid-request")
    assert "JSON decode error: Expecting value" in str(body["detail"])


def test_many_mismatches_are_told_in_short() -> None:
    content = json.dumps({f"k{number}": 1 for number in range(500)}).encode()
    body = assert_problem(call("POST", "/v1/orders", headers=JSON, content=content), 422, "invalid-request")
    assert isinstance(body["errors"], list)
    assert len(body["errors"]) == 20
    assert "(and 500 more)" in str(body["detail"])  # 500 unknown keys and the missing name, the first told in full


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=8,
)


def test_wild_bodies_are_answered() -> None:
    served = app()

    @hypothesis_settings(max_examples=60, deadline=None)
    @given(WILD.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=64))
    def check(content: bytes) -> None:
        response = call("POST", "/v1/orders", served=served, headers=JSON, content=content)
        assert response.status_code in {200, 400, 422}
        if response.status_code != 200:
            assert response.headers["content-type"] == MEDIA_TYPE
            assert response.json()["detail"]

    check()


KEYED = Settings(api_keys="first,second")


@pytest.mark.parametrize("key", ["first", "second"])
def test_a_known_key_opens(key: str) -> None:
    assert call("GET", "/v1/things/a", served=app(KEYED), headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "firs"}, {"X-API-Key": ""}, {"X-API-Key": "first,second"}])
@pytest.mark.parametrize("path", ["/v1/things/a", "/nowhere", "/openapi.json", "/docs", "/metrics/"])
def test_anything_else_does_not(headers: dict[str, str], path: str) -> None:
    response = call("GET", path, served=app(KEYED), headers=headers)
    body = assert_problem(response, 401, "unauthorised")
    assert "X-API-Key" in str(body["detail"])
    assert response.headers["www-authenticate"] == "ApiKey"


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics"])
def test_probes_need_no_key(path: str) -> None:
    assert call("GET", path, served=app(KEYED)).status_code == 200


def test_a_mounted_app_keeps_its_open_paths_and_its_gate() -> None:
    outer = FastAPI()
    outer.mount("/inner", app(KEYED))
    assert call("GET", "/inner/health/live", served=outer).status_code == 200
    assert call("GET", "/inner/v1/things/a", served=outer).status_code == 401


def test_a_websocket_is_closed() -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/things/a", "headers": [], "query_string": b""}
    asyncio.run(app()(scope, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_body_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    content = b'{"name": "0123456789"}'
    fits, short = (app(Settings(max_body_bytes=len(content) - less)) for less in (0, 1))
    assert call("POST", "/v1/orders", served=fits, headers=JSON, content=content).status_code == 200
    assert_problem(call("POST", "/v1/orders", served=short, headers=JSON, content=content), 413, "too-large")


def test_a_body_that_declares_no_length_is_counted() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"name": "'
        for _ in range(10):
            yield b"x" * 100
        yield b'"}'

    for limit, status in ((2000, 200), (500, 413)):
        response = call(
            "POST", "/v1/orders", served=app(Settings(max_body_bytes=limit)), headers=JSON, content=chunks()
        )
        assert response.status_code == status
    assert_problem(response, 413, "too-large")


def test_health() -> None:
    assert call("GET", "/health/live").json() == {"status": "live"}
    ready = call("GET", "/health/ready")
    assert ready.json() == {"status": "ready", "release": "r1", "checks": {"online": "ok"}}
    state = ReadyState(ready=False, checks={"model": "not loaded", "online": "ok"})
    response = call("GET", "/health/ready", served=app(ready=state))
    body = assert_problem(response, 503, "not-ready")
    assert body["detail"] == "expected a service that can answer, found model: not loaded"
    assert response.headers["retry-after"] == "1"
    assert call("GET", "/health/live", served=app(ready=state)).status_code == 200


def test_metrics_count_by_template_whatever_happens() -> None:
    metrics = Metrics()
    served = app(KEYED, metrics)
    key = {"X-API-Key": "first"}
    for path in ("/v1/things/a", "/v1/things/b", "/v1/things/unforeseen", "/nowhere", "/openapi.json"):
        call("GET", path, served=served, headers=key)
    call("GET", "/v1/things/a", served=served)

    def count(route: str, status: int) -> float | None:
        labels = {"route": route, "method": "GET", "status": str(status)}
        return metrics.registry.get_sample_value("polyrank_request_seconds_count", labels)

    assert count("/v1/things/{name}", 200) == 2
    assert count("/v1/things/{name}", 500) == 1
    assert count("unmatched", 404) == 1
    assert count("unmatched", 401) == 1
    assert count("documentation", 200) == 1
    text = call("GET", "/metrics", served=served)
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'polyrank_request_seconds_count{method="GET",route="/v1/things/{name}",status="200"} 2.0' in text.text


def test_one_log_line_a_request_and_its_id_in_every_line() -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        call("POST", "/v1/orders", headers=JSON | {"X-Request-ID": "r7"}, content=b'{"name": "n"}')
    assert [(log["event"], log["request_id"]) for log in logs] == [("ordered", "r7"), ("request", "r7")]
    line = logs[1]
    assert (line["method"], line["route"], line["status"], line["log_level"]) == ("POST", "/v1/orders", 200, "info")
    assert line["ms"] > 0
    with capture_logs() as logs:
        call("GET", "/health/live")
    assert [log["log_level"] for log in logs] == ["debug"]


def test_openapi_tells_of_problems_and_keys() -> None:
    document = call("GET", "/openapi.json", served=app(KEYED), headers={"X-API-Key": "first"}).json()
    responses = document["paths"]["/v1/things/{name}"]["get"]["responses"]
    for status in ("401", "404", "413", "422", "500", "503"):
        assert responses[status]["content"] == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    assert (
        schemas["Problem"]["properties"]["errors"]["anyOf"][0]["items"]["$ref"] == "#/components/schemas/FieldProblem"
    )
    assert "FieldProblem" in schemas
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert document["paths"]["/metrics"]["get"]["security"] == []
    assert "securitySchemes" not in call("GET", "/openapi.json").json()["components"]


def test_resources_live_as_long_as_the_app() -> None:
    events: list[str] = []

    @contextlib.contextmanager
    def resource(name: str) -> Iterator[None]:
        events.append(f"+{name}")
        yield
        events.append(f"-{name}")

    served = create_app(
        title="Test",
        version="1",
        settings=Settings(),
        metrics=Metrics(),
        routers=[],
        ready=lambda: READY,
        lifespan=entering(resource("a"), resource("b")),
    )

    async def go() -> None:
        async with LifespanManager(served):
            events.append("run")

    with capture_logs() as logs:
        asyncio.run(go())
    assert events == ["+a", "+b", "run", "-b", "-a"]
    assert [log["event"] for log in logs] == ["service_started", "service_stopping", "service_stopped"]


def test_serving_other_machines_without_keys_is_refused() -> None:
    with pytest.raises(KeysRequiredError):
        serve(app(), Settings(host="0.0.0.0"))  # noqa: S104


@contextlib.contextmanager
def running(served: FastAPI) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(served, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def test_over_a_socket_a_body_too_long_still_gets_its_answer() -> None:
    # 700 kB is more than a socket's buffer and less than the 8 x 100 kB that a refused body may still take.
    chunks = [b"x" * 1000] * 700
    with running(app(Settings(max_body_bytes=100_000))) as address, httpx.Client(base_url=address) as session:
        for content in (b"".join(chunks), iter(chunks)):  # declared, then chunked
            assert_problem(session.post("/v1/orders", content=content, headers=JSON), 413, "too-large")
        assert session.get("/health/live").status_code == 200
        # Last, as the server closes the connection on which a request broke.
        assert_problem(session.get("/v1/things/unforeseen"), 500, "internal-error")


SERVER = """
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.web import ReadyState, create_app, serve
from fastapi import APIRouter
import asyncio, sys
routes = APIRouter()
@routes.get("/slow")
async def slow() -> str:
    print("entered", flush=True)
    await asyncio.sleep(0.5)
    return "done"
settings = Settings.from_environment(port=int(sys.argv[1]))
serve(create_app(title="t", version="1", settings=settings, metrics=Metrics(), routers=[routes],
                 ready=lambda: ReadyState(ready=True)), settings)
"""


def test_a_request_in_flight_is_answered_when_the_process_is_told_to_stop() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers: list[httpx.Response] = []
    command = [sys.executable, "-c", SERVER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/health/live")
                break
            time.sleep(0.02)
        caller = threading.Thread(target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{port}/slow", timeout=10)))
        caller.start()
        assert any(b"entered" in line for line in process.stdout)
        process.terminate()
        caller.join()
        process.wait(timeout=10)
    assert answers[0].json() == "done"
