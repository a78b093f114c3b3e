"""What a release holds, and the answer to a request for what it doesn't.

The parts follow from the workspace: without items there is nothing to find, without events nobody to find it for. A
service may go from one kind of release to another, so a request for a part that the present one lacks is a conflict
with its state (409), not a mistake in the request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

from infra.errors import ConflictError
from retrieval.contract import SourceName

Part = Literal["encoder", "items", "users", "ranking"]


class MissingPartError(ConflictError):
    """The release in service lacks the part that a request needs."""

    title: ClassVar[str] = "Not in this release"


def missing_part(release: str, needed: Part, held: Iterable[Part]) -> MissingPartError:
    """Return the error for a part that a release lacks, naming those it has."""
    return MissingPartError(f"release {release}: expected {needed}, found a release with {', '.join(held)} alone")


def check_sources(release: str, asked: Sequence[SourceName], held: Sequence[SourceName]) -> None:
    """Check that a release has the sources that a request names.

    Raises:
        MissingPartError: it lacks one.
    """
    lacked = [name for name in asked if name not in held]
    if lacked:
        raise MissingPartError(
            f"release {release}: expected source {lacked[0]}, found a release with {', '.join(held)} alone"
        )
