"""What keeps a service on the current release: a thread that follows the pointer, loads, and only then swaps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog

from infra.errors import PolyrankError
from infra.manifest import NoCurrentReleaseError
from infra.releases import ReleaseStore

T = TypeVar("T")

_log = structlog.get_logger(__name__)
# A release that fails to load is tried again after 1, 2, 4 ... at most 64 intervals: the cause may pass (a full memory,
# a folder unmounted for a moment), yet each try reads the whole release.
_LONGEST_WAIT: Final = 6


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A value and the release it was loaded from; read as one so that the two agree."""

    release_id: str
    value: T


def _nothing() -> None:
    """Leave things as they are."""


class ReleaseWatcher(Generic[T]):
    """Holds the value loaded from the current release and follows the pointer.

    The pointer is compared by equality, so moving it back is a rollback. A release is verified against its manifest,
    loaded beside the old value, and swapped in only if both succeed: one assignment, so a request in flight keeps the
    value it started with. A failure is logged, counted and held in `last_error`; the old value stays.

    Args:
        store: the releases.
        load: turns a release's directory into a value; it may replay warm-up requests, and raise to refuse.
        interval_s: seconds between two looks at the pointer.
        swapped: called after a release came into service, before requests of a first one are taken.

    Attributes:
        failures: loads that failed since the start.
        last_error: why the release that the pointer names is not in service; None while it is.
    """

    def __init__(
        self, store: ReleaseStore, load: Callable[[Path], T], interval_s: float, swapped: Callable[[], None] = _nothing
    ) -> None:
        self._store = store
        self._load = load
        self._interval_s = interval_s
        self._swapped = swapped
        self._loaded: Loaded[T] | None = None
        self._failed: str | None = None
        self._failures_in_row = 0
        self._retry_at = 0.0
        self._loading = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failures = 0
        self.last_error: str | None = None

    @property
    def loaded(self) -> Loaded[T]:
        """The value in service with its release.

        Raises:
            NoCurrentReleaseError: nothing is loaded yet; the message holds the last failure.
        """
        loaded = self._loaded
        if loaded is None:
            cause = f": {self.last_error}" if self.last_error else ""
            raise NoCurrentReleaseError(f"expected a loaded release from {self._store.root}, found none yet{cause}")
        return loaded

    @property
    def value(self) -> T:
        """The value in service; raises as `loaded` does."""
        return self.loaded.value

    @property
    def release_id(self) -> str | None:
        """The release in service, None before the first."""
        return self._loaded.release_id if self._loaded else None

    def load_initial(self) -> T:
        """Verify and load the current release now, in this thread, and return its value.

        Raises:
            NoCurrentReleaseError: nothing is published.
            ReleaseCorruptError: the current release is not what its manifest says.
        """
        with self._loading:
            current = self._store.current()
            if current is None:
                raise NoCurrentReleaseError(f"expected a published release in {self._store.root}, found none")
            return self._swap(current).value

    def start(self) -> Self:
        """Follow the pointer in a background thread, whether or not something is loaded yet."""
        assert self._thread is None, "start() was called twice"  # our mistake, not the caller's input
        self._thread = threading.Thread(target=self._follow, name="release-watcher", daemon=True)
        self._thread.start()
        return self

    def poll(self) -> bool:
        """Look at the pointer once, load if it moved, and return whether a new release is in service.

        Never raises: the loader is the caller's code, and whatever it meets, the old value keeps serving.
        """
        with self._loading:
            target = None
            try:
                target = self._store.current()
                if target == self.release_id:
                    self._forget_failures()
                    return False
                if target is None or self._is_waiting(target):
                    return False
                self._swap(target)
            except Exception as error:  # the boundary of a thread that must outlive any loader
                self._note_failure(target, error)
                return False
            return True

    def update(self, change: Callable[[T], T | None]) -> bool:
        """Put what `change` makes of the value in service in its place, and return whether it made anything.

        No release is loaded meanwhile, so a change never lands on another value than the one it was made from.

        Args:
            change: returns the new value, or None to leave the old one; what it raises is passed on.
        """
        with self._loading:
            loaded = self._loaded
            value = None if loaded is None else change(loaded.value)
            if loaded is None or value is None:
                return False
            self._loaded = Loaded(loaded.release_id, value)
            return True

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop following; a load in progress is given `timeout_s` seconds and then left to the daemon thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            self.poll()
            self._stop.wait(self._interval_s)

    def _swap(self, release_id: str) -> Loaded[T]:
        started = time.perf_counter()
        self._store.verify(release_id)
        loaded = Loaded(release_id, self._load(self._store.path(release_id)))
        previous, self._loaded = self.release_id, loaded
        self._forget_failures()
        self._swapped()
        seconds = round(time.perf_counter() - started, 3)
        _log.info("release_loaded", release=release_id, previous=previous, seconds=seconds)
        return loaded

    def _forget_failures(self) -> None:
        self._failed, self._failures_in_row, self.last_error = None, 0, None

    def _is_waiting(self, target: str) -> bool:
        return target == self._failed and time.monotonic() < self._retry_at

    def _note_failure(self, target: str | None, error: Exception) -> None:
        self._failures_in_row = self._failures_in_row + 1 if target == self._failed else 1
        self._failed = target
        self._retry_at = time.monotonic() + self._interval_s * 2 ** min(self._failures_in_row - 1, _LONGEST_WAIT)
        self.failures += 1
        self.last_error = f"release {target}: {type(error).__name__}: {error}"
        # A public error says all in its message; anything else is a fault whose place we need.
        trace = not isinstance(error, PolyrankError)
        _log.error("release_load_failed", release=target, serving=self.release_id, error=str(error), exc_info=trace)
