"""The errors every room raises: each class carries the HTTP status and title of its problem+json body (RFC 9457).

Rooms subclass these. A message says what was expected, what was found and where; one handler in `infra.web` turns any
of them into the answer, so no route catches them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class PolyrankError(Exception):
    """Base of every public error; itself a failure of ours (500).

    Attributes:
        status: HTTP status of the answer.
        title: short, constant summary of the kind of problem.
        retry_after_s: seconds for the Retry-After header; None leaves the header out.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retry_after_s: ClassVar[int | None] = None


class InvalidInputError(PolyrankError, ValueError):
    """The caller's value is not one we accept."""

    status: ClassVar[int] = 422
    title: ClassVar[str] = "Invalid input"


class UnauthorisedError(PolyrankError):
    """No key, or a key we don't know."""

    status: ClassVar[int] = 401
    title: ClassVar[str] = "Unauthorised"


class NotFoundError(PolyrankError):
    """The thing named does not exist."""

    status: ClassVar[int] = 404
    title: ClassVar[str] = "Not found"


class ConflictError(PolyrankError):
    """The request contradicts the present state."""

    status: ClassVar[int] = 409
    title: ClassVar[str] = "Conflict"


class TooLargeError(PolyrankError):
    """The request's body is longer than the service reads."""

    status: ClassVar[int] = 413
    title: ClassVar[str] = "Content too large"


class UnavailableError(PolyrankError):
    """A part that the answer needs cannot be reached or is not ready; trying again may help."""

    status: ClassVar[int] = 503
    title: ClassVar[str] = "Unavailable"
    retry_after_s: ClassVar[int | None] = 1


def unknown_name(kind: str, found: str, known: Iterable[str]) -> str:
    """Return the message for a name outside a known set, with the nearest known one first.

    Args:
        kind: what the name stands for, such as "column".
        found: the name given.
        known: the names that exist.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(found, names, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {kind} {found!r}{hint} (known: {', '.join(names) or 'none'})"
