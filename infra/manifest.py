"""What a release says of itself: its manifest, the pointer to the current one, and the errors about both."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from infra.errors import ConflictError, InvalidInputError, NotFoundError, PolyrankError, UnavailableError, unknown_name
from infra.files import sha256_file

MANIFEST: Final = "manifest.json"
POINTER: Final = "CURRENT.json"
# First character a letter or digit: neither a hidden entry nor a way out of the folder can be named.
_RELEASE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class ReleaseNotFoundError(NotFoundError):
    """No release of that name."""

    title = "No such release"


class ReleaseCorruptError(PolyrankError):
    """A release's files are not what its manifest says."""

    title = "Corrupt release"


class NoCurrentReleaseError(UnavailableError):
    """Nothing is published, or nothing is loaded yet."""

    title = "No current release"
    retry_after_s = 5


class NoPreviousReleaseError(ConflictError):
    """There is nothing to roll back to."""

    title = "No previous release"


class PointerMovedError(ConflictError):
    """Another release became current than the one that a new one was held against."""

    title = "Pointer moved"


class FileEntry(BaseModel):
    """One file of a release: hexadecimal sha256 and size in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """The content of `manifest.json`; `digest` is the sha256 of all the other fields.

    Attributes:
        schema_version: version of this file's layout.
        release_id: name of the release, which is its directory's.
        created_at: when it was finished.
        parent: the release it was made from, None for a first one.
        as_of: it has seen nothing later than this; None where time plays no part.
        metadata: whatever the maker notes.
        files: every file but the manifest, by path relative to the release.
        digest: hexadecimal sha256 of the other fields' canonical JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    release_id: str
    created_at: AwareDatetime
    parent: str | None = None
    as_of: AwareDatetime | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    files: dict[str, FileEntry]
    digest: str = ""

    def content_digest(self) -> str:
        """Return the sha256 of every field but the digest."""
        return hashlib.sha256(self.model_dump_json(exclude={"digest"}).encode()).hexdigest()

    @model_validator(mode="after")
    def _digest_agrees(self) -> Self:
        if self.digest and self.digest != self.content_digest():
            raise ValueError(f"expected digest {self.digest}, found {self.content_digest()}")
        return self

    def to_json(self) -> bytes:
        """Return the file's bytes, digest included."""
        return self.model_copy(update={"digest": self.content_digest()}).model_dump_json(indent=2).encode()

    @property
    def total_bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(entry.size for entry in self.files.values())

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read the manifest of the release in `directory`.

        Raises:
            ReleaseCorruptError: it is missing, unreadable or altered.
        """
        path = directory / MANIFEST
        try:
            manifest = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ReleaseCorruptError(f"release {directory.name}: expected a manifest at {path}, found none") from error
        except ValidationError as error:
            raise ReleaseCorruptError(f"release {directory.name}: {path} is not a manifest: {error}") from error
        if not manifest.digest or manifest.release_id != directory.name:
            raise ReleaseCorruptError(
                f"release {directory.name}: expected its name and a digest in {path}, "
                f"found name {manifest.release_id!r} and digest {manifest.digest!r}"
            )
        return manifest

    def verify(self, directory: Path) -> None:
        """Compare every file of `directory` with the manifest.

        Raises:
            ReleaseCorruptError: a file is missing, altered or not in the manifest; names file, expected and found.
        """
        found = set(relative_files(directory)) - {MANIFEST}
        for relative, entry in self.files.items():
            where = f"release {self.release_id}: {relative}"
            if relative not in found:
                raise ReleaseCorruptError(f"{where}: expected sha256 {entry.sha256}, found no file")
            size = (directory / relative).stat().st_size
            if size != entry.size:
                raise ReleaseCorruptError(f"{where}: expected {entry.size} bytes, found {size}")
            sha256 = sha256_file(directory / relative)
            if sha256 != entry.sha256:
                raise ReleaseCorruptError(f"{where}: expected sha256 {entry.sha256}, found {sha256}")
        extra = sorted(found - self.files.keys())
        if extra:
            raise ReleaseCorruptError(f"release {self.release_id}: expected only the manifest's files, found {extra}")


class Pointer(BaseModel):
    """The content of `CURRENT.json`: what is current, and the trail that rollbacks walk back, newest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    release_id: str
    published_at: AwareDatetime
    trail: tuple[str, ...] = ()

    @property
    def previous(self) -> str | None:
        """The release that was current before this one."""
        return self.trail[0] if self.trail else None


def new_release_id(now: datetime) -> str:
    """Return a fresh name that sorts by time: UTC second, then 6 random hexadecimal digits."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def check_release_id(release_id: str) -> str:
    """Return the name if it can stand for a directory.

    Raises:
        InvalidInputError: it cannot.
    """
    if not _RELEASE_ID.fullmatch(release_id):
        raise InvalidInputError(f"expected a release name like {_RELEASE_ID.pattern}, found {release_id!r}")
    return release_id


def missing_release(release_id: str, known: Iterable[str]) -> ReleaseNotFoundError:
    """Return the error for a name that no release has."""
    return ReleaseNotFoundError(unknown_name("release", release_id, known))


def relative_files(directory: Path) -> Iterator[str]:
    """Yield the path of every file under `directory`, relative to it with forward slashes, in order.

    Raises:
        ReleaseCorruptError: an entry is neither a directory nor a plain file (a link leaves what it names unprotected).
    """
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names + [entry for entry in folders if Path(folder, entry).is_symlink()]):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                raise ReleaseCorruptError(f"expected plain files in a release, found {path}")
            yield path.relative_to(directory).as_posix()
