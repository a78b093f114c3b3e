"""Errors as answers: the `application/problem+json` body of RFC 9457, its model and its handlers."""

from __future__ import annotations

import http
import re
import reprlib
from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from infra.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PolyrankError,
    TooLargeError,
    UnauthorisedError,
    UnavailableError,
)

REQUEST_ID_HEADER: Final = "X-Request-ID"
MEDIA_TYPE: Final = "application/problem+json"
_log = structlog.get_logger(__name__)
# A body of 100,000 wrong entries is as well explained by the first twenty.
_MAX_ERRORS: Final = 20
# What the framework raises by status alone is told in the words of our class of that status.
_BY_STATUS: Final = {
    error.status: error
    for error in (InvalidInputError, UnauthorisedError, NotFoundError, ConflictError, TooLargeError, UnavailableError)
}


class FieldProblem(BaseModel):
    """One value of the request that was not accepted."""

    model_config = ConfigDict(frozen=True)

    where: str = Field(description="path to the value, such as body.filter.0")
    message: str = Field(description="what was expected")
    found: str


class Problem(BaseModel):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="a name for the kind of problem, for programs to compare")
    title: str = Field(description="the kind of problem, for people")
    status: int
    detail: str = Field(description="what was expected, what was found, and where")
    instance: str = Field(description="path of the request")
    request_id: str
    errors: list[FieldProblem] | None = Field(
        default=None, description=f"for a request that does not fit its schema: the first {_MAX_ERRORS} values"
    )


def request_id(request: Request) -> str:
    """Return the id of the request: the caller's own, or the one made for it."""
    return scope_request_id(request.scope)


def scope_request_id(scope: Scope) -> str:
    """Return the id that the outermost middleware gave the request, "-" where it did not run."""
    found = scope.get("state", {}).get("request_id", "-")
    assert isinstance(found, str)
    return found


def problem_response(scope: Scope, error: PolyrankError) -> Response:
    """Return the answer for a public error."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "ApiKey"  # RFC 9110 wants a challenge in every 401
    return _answer(
        scope,
        kind=_kind(type(error)),
        title=error.title,
        status=error.status,
        detail=str(error),
        headers=headers,
    )


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries, for a route's `responses`, that say these statuses carry a problem body."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": http.HTTPStatus(status).phrase, "content": content} for status in statuses}


def add_problem_schema(document: dict[str, Any]) -> None:
    """Put the model that `problem_responses` refers to into an OpenAPI document."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(schema.pop("$defs"))
    schemas["Problem"] = schema


def install_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem body: ours, the framework's, a schema mismatch and the unforeseen."""
    app.add_exception_handler(PolyrankError, _on_public_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unforeseen)


async def _on_public_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PolyrankError)
    if error.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request_failed", error=type(error).__name__, detail=str(error))
    return problem_response(request.scope, error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    problems = [_field_problem(entry) for entry in found[:_MAX_ERRORS]]
    first = problems[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return _answer(
        request.scope,
        kind="invalid-request",
        title="Invalid request",
        status=InvalidInputError.status,
        detail=f"{first.where}: {first.message}, found {first.found}{more}",
        errors=problems,
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = http.HTTPStatus(error.status_code)
    public = _BY_STATUS.get(status)
    unrouted = "endpoint" not in request.scope
    return _answer(
        request.scope,
        kind=_kind(public) if public else status.phrase.lower().replace(" ", "-"),
        title=public.title if public else status.phrase,
        status=int(status),
        detail=f"no route for {request.method} {request.url.path}" if unrouted else error.detail,
        headers=error.headers or {},
    )


async def _on_unforeseen(request: Request, error: Exception) -> Response:
    # The framework raises the error again after the answer, so the server logs its trace; here its id and kind.
    request_name = scope_request_id(request.scope)
    _log.error("request_broke", request_id=request_name, error=repr(error))
    return _answer(
        request.scope,
        kind="internal-error",
        title=PolyrankError.title,
        status=PolyrankError.status,
        detail=f"the service failed in a way it did not foresee; its log names request {request_name}",
        # This answer is sent outside the middleware that names the request in every other one.
        headers={REQUEST_ID_HEADER: request_name},
    )


def _answer(
    scope: Scope,
    *,
    kind: str,
    title: str,
    status: int,
    detail: str,
    errors: list[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    problem = Problem(
        type=f"urn:polyrank:{kind}",
        title=title,
        status=status,
        detail=_encodable(detail),
        instance=scope["path"],
        request_id=scope_request_id(scope),
        errors=errors,
    )
    return JSONResponse(
        problem.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def _kind(error: type[PolyrankError]) -> str:
    """ReleaseCorruptError -> release-corrupt."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__.removesuffix("Error")).lower()


def _field_problem(entry: Mapping[str, Any]) -> FieldProblem:
    cause = entry.get("ctx", {}).get("error")
    return FieldProblem(
        where=_encodable(".".join(str(part) for part in entry["loc"])),
        message=_encodable(f"{entry['msg']}: {cause}" if isinstance(cause, str) else entry["msg"]),
        found="nothing" if entry["type"] == "missing" else reprlib.repr(entry["input"]),
    )


def _encodable(text: str) -> str:
    """Escape the lone surrogates that a JSON body may hold and UTF-8 may not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
