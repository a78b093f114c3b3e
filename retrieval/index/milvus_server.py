"""The Milvus that the settings name, and whose collections are whose there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from infra.errors import PolyrankError, UnavailableError
from infra.settings import Settings

if TYPE_CHECKING:
    from pymilvus import MilvusClient  # type: ignore[import-untyped]

_PREFIX: Final = "polyrank_"
DIGITS: Final = 16  # of the hash that ends a collection's name


class MilvusNotInstalledError(PolyrankError):
    """The workspace's index lies in Milvus, and its client isn't installed."""

    title: ClassVar[str] = "Milvus client not installed"


class IndexUnavailableError(UnavailableError):
    """Milvus can't be reached, or refuses."""


def connect(settings: Settings) -> MilvusClient:
    """Return a client of the Milvus that the settings name.

    Raises:
        MilvusNotInstalledError: the client isn't installed, or no address is set.
        IndexUnavailableError: it can't be reached.
    """
    if settings.milvus_uri is None:
        raise MilvusNotInstalledError("index: expected POLYRANK_MILVUS_URI, where Milvus is, found none")
    try:
        from pymilvus import MilvusClient  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MilvusNotInstalledError("index: expected `pip install 'polyrank[milvus]'`, found no pymilvus") from error
    token = "" if settings.milvus_token is None else settings.milvus_token.get_secret_value()
    with reported(settings.milvus_uri):
        return MilvusClient(settings.milvus_uri, token=token, timeout=settings.timeout_s)


def drop_unused(owner: str, used: Sequence[str], settings: Settings) -> Sequence[str]:
    """Drop a workspace's collections but for those in use, and return their names.

    Raises:
        IndexUnavailableError: Milvus can't be reached.
    """
    client = connect(settings)
    with reported(prefix(owner)):
        # Whole names: another workspace's may begin like this one's.
        own = re.compile(f"{prefix(owner)}[0-9a-f]{{{DIGITS}}}")
        names = [name for name in client.list_collections() if own.fullmatch(name) and name not in used]
        for name in names:
            client.drop_collection(name)
    return names


def prefix(owner: str) -> str:
    """Return how the names of a workspace's collections begin; Milvus knows letters, digits and underscores."""
    return f"{_PREFIX}{re.sub(r'[^0-9A-Za-z]', '_', owner)}_{hashlib.sha256(owner.encode()).hexdigest()[:6]}_"


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn whatever Milvus' client raises into an error that says what was asked."""
    from pymilvus import MilvusException  # noqa: PLC0415 - an extra

    try:
        yield
    except MilvusException as error:
        raise IndexUnavailableError(f"milvus, {what}: {error}") from error
