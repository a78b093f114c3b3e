"""What the clients of our services share, blocking and asyncio: typed answers, and errors that carry their HTTP status.

A refusal raises the `PolyrankError` of its status with the service's own message. Nothing is retried: a caller that has
a fallback wants the answer, or the failure, within its timeout.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PolyrankError,
    TooLargeError,
    UnauthorisedError,
    UnavailableError,
)

KEY_HEADER: Final = "X-API-Key"
TIMEOUT_S: Final = 2.0
_JSON: Final = {"Content-Type": "application/json"}
_Parameters = Mapping[str, str | int]
_Model = TypeVar("_Model", bound=BaseModel)

_ERRORS: Final[Mapping[int, type[PolyrankError]]] = {
    error.status: error
    for error in (
        InvalidInputError,
        NotFoundError,
        ConflictError,
        TooLargeError,
        UnauthorisedError,
        UnavailableError,
    )
}


class BadAnswerError(PolyrankError):
    """The service answered something that the contract doesn't know."""

    status = 502
    title = "Bad answer"


class _Problem(BaseModel):
    """The fields of a problem+json body that a client shows."""

    model_config = ConfigDict(extra="ignore")

    title: str = ""
    detail: str = ""


class ServiceClient:
    """Blocking client; safe to use from many threads.

    Args:
        base_url: of the service, without a path.
        api_key: sent as X-API-Key.
        timeout_s: for connecting, for each read and write, and for a free connection.
        transport: replaces the network, for instance by an application in this process.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=base_url, headers=_headers(api_key), timeout=httpx.Timeout(timeout_s), transport=transport
        )

    def _get(self, path: str, answer: type[_Model], parameters: _Parameters | None = None) -> _Model:
        """Ask for `path`.

        Raises:
            UnavailableError: no answer in time, no connection, or a 503.
            BadAnswerError: an answer that isn't of the contract.
            PolyrankError: the subclass of the answer's status.
        """
        try:
            return _parse(self._http.get(path, params=parameters), answer)
        except httpx.TransportError as error:
            _unreachable(error, self._http.base_url)

    def _post(self, path: str, answer: type[_Model], body: BaseModel | None = None) -> _Model:
        """Send `body` to `path`; raises as `_get` does."""
        try:
            return _parse(self._http.post(path, content=_content(body), headers=_JSON), answer)
        except httpx.TransportError as error:
            _unreachable(error, self._http.base_url)

    def _delete(self, path: str, answer: type[_Model]) -> _Model:
        """Ask to delete what `path` names; raises as `_get` does."""
        try:
            return _parse(self._http.delete(path), answer)
        except httpx.TransportError as error:
            _unreachable(error, self._http.base_url)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncServiceClient:
    """Asyncio client; arguments as `ServiceClient`."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=_headers(api_key), timeout=httpx.Timeout(timeout_s), transport=transport
        )

    async def _get(self, path: str, answer: type[_Model], parameters: _Parameters | None = None) -> _Model:
        """Ask for `path`; raises as `ServiceClient._get` does."""
        try:
            return _parse(await self._http.get(path, params=parameters), answer)
        except httpx.TransportError as error:
            _unreachable(error, self._http.base_url)

    async def _post(self, path: str, answer: type[_Model], body: BaseModel | None = None) -> _Model:
        """Send `body` to `path`; raises as `ServiceClient._get` does."""
        try:
            return _parse(await self._http.post(path, content=_content(body), headers=_JSON), answer)
        except httpx.TransportError as error:
            _unreachable(error, self._http.base_url)

    async def _delete(self, path: str, answer: type[_Model]) -> _Model:
        """Ask to delete what `path` names; raises as `ServiceClient._get` does."""
        try:
            return _parse(await self._http.delete(path), answer)
        except httpx.TransportError as error:
            _unreachable(error, self._http.base_url)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def checked(request: type[_Model], values: Mapping[str, object]) -> _Model:
    """Return a request, checked here so that a mistake costs no round trip.

    Raises:
        InvalidInputError: the values are not of the contract.
    """
    try:
        return request.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidInputError(str(error)) from error


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {KEY_HEADER: api_key}


def _content(body: BaseModel | None) -> bytes:
    return b"" if body is None else body.model_dump_json(exclude_none=True).encode()


def _parse(response: httpx.Response, answer: type[_Model]) -> _Model:
    """Return the typed answer, or raise the error of its status."""
    if response.is_success:
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise BadAnswerError(f"{response.url}: expected an answer of the contract, found {error}") from error
    try:
        problem = _Problem.model_validate_json(response.content)
    except ValidationError:
        problem = _Problem(detail=response.text[:200])
    kind = _ERRORS.get(response.status_code, PolyrankError)
    raise kind(f"{response.url}: HTTP {response.status_code} {problem.title}: {problem.detail}")


def _unreachable(error: httpx.TransportError, base_url: httpx.URL) -> NoReturn:
    raise UnavailableError(f"{base_url}: expected an answer, found {type(error).__name__}: {error}") from error
