"""Keeps a service's release up to date with the log of changes, whichever process took them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import structlog

from features.item_changes import check_changes
from features.item_log import ItemChange, ItemLog
from infra.errors import ConflictError, PolyrankError
from infra.watcher import ReleaseWatcher
from retrieval.engine import Retriever
from retrieval.live.changes import Changed, apply_changes

log = structlog.get_logger(__name__)

# Changes taken in at once: the first of many are searchable while the others' texts are still being encoded.
BATCH: Final = 512

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of changes that are durable.

    Attributes:
        sequence: the log's number of the last.
        known: whether answers know them already.
    """

    sequence: int
    known: bool


class UnchangeableError(ConflictError):
    """A release that was built before items could change while it serves, or that has no text encoder."""


class ItemFollower(Generic[T]):
    """Lays logged changes over what a watcher serves: at once when this process takes them, else within the interval.

    Args:
        log: shared by all services of a workspace.
        retriever: returns that of a loaded release; None where it has no items.
        grows: returns a loaded release with another retriever in place of its own.
        interval_s: between two looks at the log.
        patience_s: how long whoever sends changes waits to hear that answers know them; they are durable in any case.
    """

    def __init__(
        self,
        log: ItemLog,
        retriever: Callable[[T], Retriever | None],
        grows: Callable[[T, Changed], T],
        interval_s: float,
        patience_s: float = 1.0,
    ) -> None:
        self._log, self._retriever, self._grows = log, retriever, grows
        self._interval_s, self._patience_s = interval_s, patience_s
        self._watcher: ReleaseWatcher[T] | None = None
        self._wake = threading.Event()
        self._caught_up = threading.Condition()
        self._stop = False
        self._thread: threading.Thread | None = None

    def loader(self, load: Callable[[Path], T]) -> Callable[[Path], T]:
        """Return a loader of releases that know all changes before they serve: a swap must not lose what was added."""

        def loaded(release: Path) -> T:
            value = load(release)
            try:
                while (later := self._later(value)) is not None:
                    value = later
            except PolyrankError as error:
                # The release itself is sound; the thread tries its changes again.
                log.error("item_changes_failed", error=str(error))
            return value

        return loaded

    def take(self, retriever: Retriever, changes: Sequence[ItemChange], now: datetime) -> Taken:
        """Log changes durably, and give the thread a moment to take them in, so that the next request knows them.

        Args:
            retriever: in service, whose columns the changes must fit.
            changes: all are taken, or none.
            now: aware, when they came.

        Raises:
            ItemChangeError: one doesn't fit; names item, column, what was expected and found.
            UnchangeableError: the release can't take any.
        """
        if not _changeable(retriever):
            raise UnchangeableError("expected a release with a text encoder and catalogue.json, found one without")
        check_changes(retriever.snapshot.frame.schema, changes)
        sequence = self._log.append(changes, now)
        self._wake.set()
        with self._caught_up:
            known = self._caught_up.wait_for(lambda: self._known() >= sequence, self._patience_s)
        return Taken(sequence=sequence, known=known)

    def follow(self, watcher: ReleaseWatcher[T]) -> Self:
        """Return itself, to be entered as a context: from then on it follows what `watcher` serves."""
        self._watcher = watcher
        return self

    def catch_up(self) -> None:
        """Take in what was logged since, batch by batch; requests are answered meanwhile."""
        assert self._watcher is not None, "follow() comes first"
        while self._watcher.update(self._later):
            with self._caught_up:
                self._caught_up.notify_all()

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

    def _known(self) -> int:
        """Return the newest change that answers know."""
        assert self._watcher is not None, "follow() comes first"
        retriever = None if self._watcher.release_id is None else self._retriever(self._watcher.value)
        return 0 if retriever is None else retriever.item_sequence

    def _later(self, value: T) -> T | None:
        """Return a release that knows one more batch of changes; None where it knows all."""
        retriever = self._retriever(value)
        if retriever is None or not _changeable(retriever):
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


def _changeable(retriever: Retriever) -> bool:
    return retriever.catalogue is not None and retriever.texts.held
