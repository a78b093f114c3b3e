from __future__ import annotations

import pytest

from infra.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PolyrankError,
    TooLargeError,
    UnauthorisedError,
    UnavailableError,
    unknown_name,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PolyrankError, 500),
        (InvalidInputError, 422),
        (UnauthorisedError, 401),
        (NotFoundError, 404),
        (ConflictError, 409),
        (TooLargeError, 413),
        (UnavailableError, 503),
    ],
)
def test_each_error_carries_its_status(error: type[PolyrankError], status: int) -> None:
    assert error.status == status
    assert error.title
    assert isinstance(error("expected a, found b"), PolyrankError)


def test_a_callers_mistake_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="expected a"):
        raise InvalidInputError("expected a, found b")


def test_only_a_passing_failure_asks_to_try_again() -> None:
    assert UnavailableError.retry_after_s == 1
    assert NotFoundError.retry_after_s is None


def test_unknown_name_offers_the_nearest() -> None:
    message = unknown_name("column", "timestmap", ["value", "timestamp"])
    assert message == "unknown column 'timestmap'; did you mean 'timestamp'? (known: timestamp, value)"


def test_unknown_name_without_a_near_one() -> None:
    assert unknown_name("column", "zzz", []) == "unknown column 'zzz' (known: none)"
