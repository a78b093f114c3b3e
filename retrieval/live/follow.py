"""Keeps a service's release up to date with the log of changes, whichever process took them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

import structlog

from features.item_changes import check_changes
from features.item_log import ItemChange, ItemLog
from features.schema import ITEM_ID
from infra.errors import PolyrankError
from infra.watcher import ReleaseWatcher
from retrieval.engine import Retriever
from retrieval.live.changes import Changed, apply_changes

log = structlog.get_logger(__name__)

# Changes taken in at once: the first of many are searchable while the others' texts are still being encoded.
BATCH: Final = 512

T = TypeVar("T")


class Grows(Protocol[T]):
    """How a loaded release holds its retriever, and becomes one with another that knows more."""

    def __call__(self, value: T, changed: Changed) -> T:
        """Return the release with `changed.retriever` in place of its own."""
        ...


class ItemFollower(Generic[T]):
    """Lays logged changes over what a watcher serves: at once when this process takes them, else within the interval.

    Args:
        log: shared by all services of a workspace.
        retriever: of a loaded release; None where it has no items.
        grows: see there.
        interval_s: between two looks at the log.
    """

    def __init__(
        self, log: ItemLog, retriever: Callable[[T], Retriever | None], grows: Grows[T], interval_s: float
    ) -> None:
        self._log, self._retriever, self._grows, self._interval_s = log, retriever, grows, interval_s
        self._watcher: ReleaseWatcher[T] | None = None
        self._wake = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None

    def loader(self, load: Callable[[Path], T]) -> Callable[[Path], T]:
        """Return a loader of releases that know all changes before they serve: a swap must not lose what was added."""

        def loaded(release: Path) -> T:
            value = load(release)
            while (later := self._later(value)) is not None:
                value = later
            return value

        return loaded

    def take(self, retriever: Retriever, changes: Sequence[ItemChange], now: datetime) -> int:
        """Log changes durably and return the newest one's sequence; they are searchable soon after.

        Args:
            retriever: in service, whose columns the changes must fit.
            changes: all are taken, or none.
            now: aware, when they came.

        Raises:
            ItemChangeError: one doesn't fit; names item, column, what was expected and found.
        """
        check_changes(retriever.snapshot.frame.schema, changes)
        sequence = self._log.append(changes, now)
        self._wake.set()
        return sequence

    def behind(self, retriever: Retriever) -> int:
        """Return how many logged changes a retriever doesn't know yet."""
        return self._log.last_sequence() - retriever.item_sequence

    def follow(self, watcher: ReleaseWatcher[T]) -> Self:
        """Return itself, to be entered as a context: from then on it follows what `watcher` serves."""
        self._watcher = watcher
        return self

    def catch_up(self) -> None:
        """Take in what was logged since, batch by batch; requests are answered meanwhile."""
        assert self._watcher is not None, "follow() comes first"
        while self._watcher.update(self._later):
            pass

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="item-follower", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._log.close()

    def _run(self) -> None:
        while not self._stop:
            try:
                self.catch_up()
            except Exception as error:  # the boundary of a thread that must outlive any change
                # A public error says all in its message; anything else is a fault whose place we need.
                log.error("item_changes_failed", error=str(error), exc_info=not isinstance(error, PolyrankError))
            self._wake.wait(self._interval_s)
            self._wake.clear()

    def _later(self, value: T) -> T | None:
        """Return a release that knows one more batch of changes; None where it knows all."""
        retriever = self._retriever(value)
        if retriever is None:
            return None
        changes = self._log.read(retriever.item_sequence, limit=BATCH)
        if not changes:
            return None
        changed = apply_changes(retriever, changes)
        for line in changed.refused:
            log.warning("item_value_refused", reason=line)
        log.info(
            "items_changed", changes=len(changes), encoded=len(changed.encoded), items=len(changed.retriever.snapshot)
        )
        return self._grows(value, changed)
