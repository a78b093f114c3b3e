"""Immutable release directories under one root, and the pointer that says which is current.

A release is written under a partial name, sealed by a manifest with a checksum of every file, then renamed into place;
its files are read-only from then on. The pointer is one small file replaced atomically, which also carries the trail
for rollbacks. So a process killed at any moment leaves the current release loadable.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import structlog
from pydantic import JsonValue, ValidationError

from infra.errors import InvalidInputError
from infra.files import atomic_directory, clean_partial, remove_directory, sha256_file, write_atomic
from infra.manifest import (
    MANIFEST,
    POINTER,
    FileEntry,
    Manifest,
    NoCurrentReleaseError,
    NoPreviousReleaseError,
    Pointer,
    PointerMovedError,
    ReleaseCorruptError,
    ReleaseNotFoundError,
    check_release_id,
    missing_release,
    new_release_id,
    relative_files,
)

_log = structlog.get_logger(__name__)
# Rollbacks walk back at most this far; the pointer stays a small file.
_TRAIL: Final = 50
_NO_LINK: Final = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


@dataclass(frozen=True, kw_only=True)
class ReleaseInfo:
    """One line of a list of releases.

    Attributes:
        release_id: its name.
        created_at: when it was finished.
        parent: the release it was made from.
        as_of: it has seen nothing later than this.
        total_bytes: sum of its files' sizes, shared ones included.
        current: whether the pointer names it.
        previous: whether one rollback leads to it.
    """

    release_id: str
    created_at: datetime
    parent: str | None
    as_of: datetime | None
    total_bytes: int
    current: bool
    previous: bool


@dataclass(frozen=True)
class ReleaseWriter:
    """A release in the making: fill `path`, or share what another release holds.

    Attributes:
        release_id: the name it will have.
        path: the directory to fill.
    """

    release_id: str
    path: Path
    _store: ReleaseStore
    _shared: dict[str, FileEntry] = field(default_factory=dict)

    def share(self, release_id: str, relative: str) -> None:
        """Take over a file or a whole folder of another release, by hard link where the file system can.

        Raises:
            ReleaseNotFoundError: no such release.
            InvalidInputError: it holds nothing under `relative`.
        """
        source = self._store.path(release_id)
        held = self._store.manifest(release_id).files
        prefix = relative.rstrip("/") + "/"
        chosen = {name: entry for name, entry in held.items() if name == relative or name.startswith(prefix)}
        if not chosen:
            raise InvalidInputError(f"expected a file or folder {relative!r} in release {release_id}, found neither")
        for name in chosen:
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(source / name, target)
        self._shared.update(chosen)

    def _seal(self, draft: Manifest) -> None:
        """Write the manifest of what the directory now holds and make every file read-only."""
        files = {}
        for name in relative_files(self.path):
            path = self.path / name
            path.chmod(0o444)
            files[name] = FileEntry(sha256=sha256_file(path), size=path.stat().st_size)
            expected = self._shared.get(name, files[name])
            if expected != files[name]:
                raise ReleaseCorruptError(
                    f"release {self.release_id}: shared file {name}: expected {expected!r}, found {files[name]!r}"
                )
        path = self.path / MANIFEST
        path.write_bytes(draft.model_copy(update={"files": files, "created_at": datetime.now(UTC)}).to_json())
        path.chmod(0o444)


class ReleaseStore:
    """The releases under one root folder; a process may hold several stores on the same root.

    Args:
        root: the folder, made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @contextlib.contextmanager
    def create(
        self,
        release_id: str | None = None,
        *,
        parent: str | None = None,
        as_of: datetime | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> Iterator[ReleaseWriter]:
        """Yield a writer; on a normal exit the release exists, sealed, and on an error nothing of it does.

        Args:
            release_id: its name; None makes one from the time.
            parent: the release it is made from.
            as_of: it has seen nothing later than this.
            metadata: JSON values to note in the manifest.

        Raises:
            InvalidInputError: the name can't stand for a directory, `as_of` has no zone, or `metadata` is not JSON.
            ReleaseNotFoundError: the parent does not exist.
            TargetExistsError: a release of that name exists.
        """
        name = check_release_id(release_id or new_release_id(datetime.now(UTC)))
        if parent is not None:
            self.path(parent)
        draft = _draft(name, parent, as_of, metadata or {})
        with atomic_directory(self.root / name) as partial:
            writer = ReleaseWriter(name, partial, self)
            yield writer
            writer._seal(draft)
        _log.info("release_created", release=name, parent=parent)

    def path(self, release_id: str) -> Path:
        """Return the directory of a release.

        Raises:
            ReleaseNotFoundError: no release of that name.
        """
        directory = self.root / check_release_id(release_id)
        if not directory.is_dir():
            raise missing_release(release_id, self._names())
        return directory

    def manifest(self, release_id: str) -> Manifest:
        """Return a release's manifest (its files unchecked)."""
        return Manifest.read(self.path(release_id))

    def verify(self, release_id: str) -> Manifest:
        """Return a release's manifest after comparing every file with it.

        Raises:
            ReleaseNotFoundError: no release of that name.
            ReleaseCorruptError: a file differs; names the file, what was expected and what was found.
        """
        manifest = self.manifest(release_id)
        manifest.verify(self.path(release_id))
        return manifest

    def pointer(self) -> Pointer | None:
        """Return the pointer, None when nothing was ever published."""
        path = self.root / POINTER
        try:
            return Pointer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise ReleaseCorruptError(f"{path} is not a pointer to a release: {error}") from error

    def current(self) -> str | None:
        """Return the name of the current release, None when nothing was ever published."""
        pointer = self.pointer()
        return pointer.release_id if pointer else None

    def publish(self, release_id: str, *, over: str | Literal[False] | None = False) -> None:
        """Make a verified release current; publishing the current one again changes nothing.

        Args:
            release_id: its name.
            over: the release that must still be current, None where none must; False asks nothing.

        Raises:
            ReleaseNotFoundError, ReleaseCorruptError: as for `verify`.
            PointerMovedError: another one is current than `over`.
        """
        with self._lock():
            self.verify(release_id)
            pointer = self.pointer()
            found = pointer.release_id if pointer else None
            if found == release_id:
                return
            if over is not False and found != over:
                raise PointerMovedError(
                    f"release {release_id}: expected {over or 'none'} to be current, found {found or 'none'}, which "
                    "was published meanwhile"
                )
            trail = (pointer.release_id, *pointer.trail)[:_TRAIL] if pointer else ()
            self._point(release_id, trail)
        _log.info("release_published", release=release_id, previous=trail[0] if trail else None)

    def rollback(self) -> str:
        """Make the release before the current one current again, and return its name.

        Repeated calls walk further back. A release that is gone or corrupt is passed over, with a warning.

        Raises:
            NoCurrentReleaseError: nothing is published.
            NoPreviousReleaseError: the trail holds no loadable release.
        """
        with self._lock():
            pointer = self.pointer()
            if pointer is None:
                raise NoCurrentReleaseError(f"expected a published release in {self.root}, found none")
            for position, release_id in enumerate(pointer.trail):
                if self._loadable(release_id):
                    self._point(release_id, pointer.trail[position + 1 :])
                    _log.info("release_rolled_back", release=release_id, previous=pointer.release_id)
                    return release_id
        raise NoPreviousReleaseError(
            f"expected a loadable release before {pointer.release_id}, found {list(pointer.trail) or 'none'}"
        )

    def list(self) -> tuple[ReleaseInfo, ...]:
        """Return every release with a readable manifest, newest first."""
        pointer = self.pointer()
        infos = []
        for name in self._names():
            try:
                manifest = self.manifest(name)
            except ReleaseCorruptError as error:
                _log.warning("release_unreadable", release=name, error=str(error))
                continue
            infos.append(
                ReleaseInfo(
                    release_id=name,
                    created_at=manifest.created_at,
                    parent=manifest.parent,
                    as_of=manifest.as_of,
                    total_bytes=manifest.total_bytes,
                    current=pointer is not None and pointer.release_id == name,
                    previous=pointer is not None and pointer.previous == name,
                )
            )
        return tuple(sorted(infos, key=lambda info: (info.created_at, info.release_id), reverse=True))

    def prune(self, keep: int, needed: Collection[str] = ()) -> tuple[str, ...]:
        """Remove all but the newest `keep` releases, and return their names; also clean what killed writers left.

        The current release and the one that a rollback leads to always stay. Shared files outlive the release that
        first held them, as hard links do.

        Args:
            keep: how many.
            needed: names of others that stay.
        """
        if keep < 0:
            raise InvalidInputError(f"expected keep >= 0, found {keep}")
        with self._lock():
            clean_partial(self.root)
            doomed = [
                info.release_id
                for info in self.list()[keep:]
                if not info.current and not info.previous and info.release_id not in needed
            ]
            for release_id in doomed:
                remove_directory(self.root / release_id)
        _log.info("releases_pruned", removed=doomed)
        return tuple(doomed)

    def _names(self) -> tuple[str, ...]:
        if not self.root.is_dir():
            return ()
        return tuple(sorted(entry.parent.name for entry in self.root.glob(f"[!.]*/{MANIFEST}")))

    def _loadable(self, release_id: str) -> bool:
        try:
            self.verify(release_id)
        except (ReleaseCorruptError, ReleaseNotFoundError) as error:
            _log.warning("release_passed_over", release=release_id, error=str(error))
            return False
        return True

    def _point(self, release_id: str, trail: tuple[str, ...]) -> None:
        pointer = Pointer(release_id=release_id, published_at=datetime.now(UTC), trail=trail)
        write_atomic(self.root / POINTER, pointer.model_dump_json(indent=2).encode())

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the root's lock, so that two processes move the pointer one after the other."""
        self.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _draft(release_id: str, parent: str | None, as_of: datetime | None, metadata: Mapping[str, JsonValue]) -> Manifest:
    """Return a manifest without files, so that a wrong argument fails before hours of work and not after."""
    now = datetime.now(UTC)
    try:
        return Manifest(
            release_id=release_id, created_at=now, parent=parent, as_of=as_of, metadata=dict(metadata), files={}
        )
    except ValidationError as error:
        raise InvalidInputError(f"release {release_id}: {error}") from error


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
