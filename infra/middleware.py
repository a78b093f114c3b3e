"""What stands before every route, as plain ASGI: the request's name, its figures, the key and the body's limit.

Both are written against ASGI itself. Starlette's BaseHTTPMiddleware would be shorter, but it runs each request in a
task group of its own and copies the body through a stream, several times the cost of all that is done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Sequence
from typing import Final

import structlog
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.errors import TooLargeError, UnauthorisedError
from infra.problems import REQUEST_ID_HEADER, problem_response
from infra.telemetry import Metrics

KEY_HEADER: Final = "X-API-Key"
LIVE_PATH: Final = "/health/live"
READY_PATH: Final = "/health/ready"
METRICS_PATH: Final = "/metrics"
# What orchestrators and scrapers ask for, without a key.
OPEN_PATHS: Final = frozenset({LIVE_PATH, READY_PATH, METRICS_PATH})

# A refused body is still read up to this many times the limit and for this long.
_DRAINED_LIMITS: Final = 8
_DRAIN_S: Final = 5.0

_log = structlog.get_logger(__name__)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_ID_NAME: Final = REQUEST_ID_HEADER.lower().encode()
_KEY_NAME: Final = KEY_HEADER.lower().encode()


class ObserveMiddleware:
    """Names each request, and counts, times and logs it once it is answered.

    A caller's X-Request-ID is kept when it is plain; the answer repeats it, and every log line in between carries it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500  # stands when the app raises: the framework then answers outside of here
        name = _header(scope, _ID_NAME) or b""
        if not _REQUEST_ID.fullmatch(name):
            name = uuid.uuid4().hex.encode()
        request_id = name.decode()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (_ID_NAME, name)]}
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_named)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_template(scope)
        self._metrics.observe_request(route, scope["method"], status, seconds)
        write = _log.debug if route in OPEN_PATHS and status == 200 else _log.info
        write("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1e3, 2))


class GateMiddleware:
    """Lets a request in that brings a known key and a body of bearable length.

    Args:
        app: what stands behind.
        api_keys: accepted keys; none leaves every path open.
        max_body_bytes: longest body, declared or found while reading.
    """

    def __init__(self, app: ASGIApp, api_keys: Sequence[SecretStr], max_body_bytes: int) -> None:
        self._app = app
        self._digests = [_digest(key.get_secret_value().encode()) for key in api_keys]
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # none is served, and no key was asked for
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._drain(receive)
            await problem_response(scope, refusal)(scope, receive, send)
            return
        await self._app(scope, self._limited(receive), send)

    def _refusal(self, scope: Scope) -> UnauthorisedError | TooLargeError | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._digests and path not in OPEN_PATHS:
            key = _header(scope, _KEY_NAME)
            if key is None:
                return UnauthorisedError(f"expected an API key in the header {KEY_HEADER}, found none")
            if not self._knows(key):
                return UnauthorisedError(f"expected a known API key in the header {KEY_HEADER}, found another value")
        declared = _header(scope, b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > self._max_body_bytes:
            return TooLargeError(_too_long(self._max_body_bytes, f"{declared.decode()} declared"))
        return None

    def _knows(self, key: bytes) -> bool:
        # Digests have one length and every key is compared, so the time tells nothing of which came close.
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)

    async def _drain(self, receive: Receive) -> None:
        """Read and drop what the caller still sends, within bounds.

        Closing on unread bytes resets the connection, and the caller would see that in place of the answer.
        """
        left = _DRAINED_LIMITS * self._max_body_bytes
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        return

    def _limited(self, receive: Receive) -> Receive:
        total = 0

        async def receive_limited() -> Message:
            nonlocal total
            message = await receive()
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                if total > self._max_body_bytes:
                    if message.get("more_body"):
                        await self._drain(receive)
                    # While a body is read the framework lets this kind alone through and hides any other.
                    raise HTTPException(TooLargeError.status, _too_long(self._max_body_bytes, "a longer one"))
            return message

        return receive_limited


def _header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first value of a header; ASGI gives names in lower case."""
    for found, value in scope["headers"]:
        if found == name:
            assert isinstance(value, bytes)
            return value
    return None


def _route_template(scope: Scope) -> str:
    """Return the matched route's path with its parameters unfilled, so that labels stay few."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    return "documentation" if "endpoint" in scope else "unmatched"


def _too_long(limit: int, found: str) -> str:
    return f"expected a body of at most {limit} bytes, found {found}"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
