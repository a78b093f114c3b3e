"""Files and directories that appear whole or not at all, on a POSIX file system.

Work happens beside the target under a `.tmp-` name and one rename makes it visible, so that a process killed at any
moment leaves the old state and at most one partial entry. The writer holds a lock (flock, which the kernel drops with
the process) on its partial entry; `clean_partial` removes those that nobody holds and leaves a living writer's alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.errors import ConflictError

PARTIAL_PREFIX: Final = ".tmp-"
# renameat2(2): "atomically exchange oldpath and newpath"; the paths are absolute, so the directory handle is unused.
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100
_NO_EXCHANGE: Final = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


class TargetExistsError(ConflictError):
    """The path to be created is taken."""

    title = "Already exists"


@contextlib.contextmanager
def atomic_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty directory to fill; on a normal exit it becomes `target`, on an error it vanishes.

    Every file and folder inside is flushed to disk before the rename, and the parent's entry after it.

    Args:
        target: the directory to appear; its parent is created when missing.
        replace: take the place of an existing target, in one exchange where the kernel can (Linux). Elsewhere two
            renames do it, and a crash between them leaves the old content under its `.tmp-` name.

    Raises:
        TargetExistsError: the target exists and `replace` is off.
    """
    target = target.absolute()
    if not replace and target.exists():
        raise TargetExistsError(f"expected no entry at {target}, found one")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, handle = _new_partial(target, directory=True)
    try:
        yield partial
        _sync_tree(partial)
        _move_into_place(partial, target, replace=replace)
        _sync(target.parent)
    finally:
        os.close(handle)
        shutil.rmtree(partial, ignore_errors=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`: a reader sees the old bytes or all of the new ones."""
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, handle = _new_partial(path, directory=False)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def clean_partial(directory: Path) -> list[Path]:
    """Remove what killed writers left in `directory` and return those paths; a living writer's work stays."""
    removed = []
    for entry in sorted(directory.glob(f"{PARTIAL_PREFIX}*")):
        try:
            handle = os.open(entry, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)
            removed.append(entry)
        finally:
            os.close(handle)
    return removed


def remove_directory(directory: Path) -> None:
    """Remove a directory so that no reader finds half of it: one rename to a partial name, then the removal."""
    doomed = directory.absolute().with_name(f"{PARTIAL_PREFIX}{directory.name}-{uuid.uuid4().hex}")
    directory.rename(doomed)
    shutil.rmtree(doomed)


def _new_partial(target: Path, *, directory: bool) -> tuple[Path, int]:
    """Create the partial entry of `target` and return it with a descriptor that holds its lock."""
    while True:
        partial = target.with_name(f"{PARTIAL_PREFIX}{target.name}-{uuid.uuid4().hex}")
        try:
            if directory:
                partial.mkdir()
                handle = os.open(partial, os.O_RDONLY)
            else:
                handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            if target.parent.is_dir():
                continue  # a cleaner came between the two calls
            raise
        fcntl.flock(handle, fcntl.LOCK_EX)
        # A cleaner may have taken the lock first and removed the entry: then start again.
        if partial.exists():
            return partial, handle
        os.close(handle)


def _move_into_place(partial: Path, target: Path, *, replace: bool) -> None:
    if not target.exists():
        try:
            partial.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
            raise TargetExistsError(f"expected no entry at {target}, found one made meanwhile") from error
        return
    if not replace:
        raise TargetExistsError(f"expected no entry at {target}, found one made meanwhile")
    if _exchange(partial, target):
        return  # the partial name now holds the old content; the caller removes it
    old = target.with_name(f"{PARTIAL_PREFIX}{target.name}-{uuid.uuid4().hex}")
    target.rename(old)
    partial.rename(target)
    shutil.rmtree(old)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directory entries in one step; return False where the kernel or the file system has no such call."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            _sync(Path(folder, name))
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
