"""Resumable steps: each one's output is a folder named by a hash of everything it was made from.

A step is there whole or not at all, so a flow that was killed at any moment is resumed by running it again: steps that
finished are reused and the one that was under way is built anew. A changed input or config gives another name, never a
stale reuse. Two processes that build the same step both succeed; the first to finish is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict
from rich.console import Console

from flows.report import StageRecord
from flows.stage_lines import Stages
from flows.words import format_day, format_seconds
from infra.files import TargetExistsError, atomic_directory, clean_partial, remove_directory, sha256_file
from infra.telemetry import StageTimer

STEP_FILE: Final = "step.json"
_DATE: Final = "datetime:"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_log = structlog.get_logger(__name__)

KeyPart = str | int | float | bool | datetime | Path | None


class StepRecord(BaseModel):
    """What `step.json` holds: the step's key in full, and what it took.

    Attributes:
        name: the step's name.
        key: its key parts as JSON values.
        finished_at: when the build ended.
        seconds: wall time of the build.
        peak_rss_bytes: the process's highest resident memory during the build.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    key: tuple[str | int | float | bool | None, ...]
    finished_at: AwareDatetime
    seconds: float
    peak_rss_bytes: int

    @property
    def label(self) -> str:
        """The step's name in words, with its first date: one step is often built for several cuts."""
        return _label(self.name, self.key)


class StepStore:
    """The finished steps under one folder.

    Args:
        root: created by the first build.
        show: prints a line per step; None prints them to standard error.
    """

    def __init__(self, root: Path, show: Stages | None = None) -> None:
        self.root = root
        # No spinner: a step may draw a progress bar of its own.
        self._show = show or Stages(Console(stderr=True), spinner=False)
        self._stages: list[StageRecord] = []
        self._asked: set[Path] = set()

    @property
    def stages(self) -> tuple[StageRecord, ...]:
        """The steps this object has run or reused, in order, as a report shows them."""
        return tuple(self._stages)

    def path(self, name: str, key_parts: Sequence[KeyPart]) -> Path:
        """Return the folder of a step, whether or not it has been built.

        Args:
            name: lower case letters, digits and underscores.
            key_parts: everything the output depends on. A `Path` is an earlier step's folder, whose name carries that
                step's hash, so a change upstream reaches every later step; a datetime must have a zone.

        Raises:
            ValueError: a name with other characters, or a datetime without zone.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected a step name of lower case letters, digits and underscores, found {name!r}")
        digest = hashlib.sha256(json.dumps([_plain(part) for part in key_parts]).encode()).hexdigest()
        return self.root / f"{name}-{digest[:12]}"

    def run(self, name: str, key_parts: Sequence[KeyPart], build: Callable[[Path], None]) -> Path:
        """Return the step's folder, building it if it isn't there.

        Args:
            name: as in `path`.
            key_parts: as in `path`.
            build: fills the empty folder that it is given; an exception leaves no step.
        """
        target = self.path(name, key_parts)
        label = _label(name, [_plain(part) for part in key_parts])
        if not _complete(target):
            if target.exists():
                # Only a hand can have taken step.json out of a whole step.
                remove_directory(target)
            for partial in clean_partial(self.root):
                _log.info("partial_step_removed", path=str(partial))
            try:
                with self._show.stage(label):
                    self._build(target, name, key_parts, build)
            except TargetExistsError:
                # Another process finished the same step meanwhile; a clash inside `build` is not ours to swallow.
                if not _complete(target):
                    raise
        if target not in self._asked:
            self._reuse(target, label)
        return target

    def finished(self, name: str, first: KeyPart) -> list[Path]:
        """Return the finished steps of a name whose key begins with a part, the latest first.

        A prune may remove any of them at any time.
        """
        found = []
        for folder in self.root.glob(f"{name}-*"):
            # One that is being built or removed has another name, or no record any more.
            with contextlib.suppress(FileNotFoundError):
                record = read_step(folder)
                if record.key[:1] == (_plain(first),):
                    found.append((record.finished_at, folder))
        return [folder for _, folder in sorted(found, reverse=True)]

    def prune(self, unused_since: datetime, keep: Collection[Path] = ()) -> list[Path]:
        """Remove the steps that no run has built or reused since a time, and return their folders.

        Args:
            unused_since: aware.
            keep: steps that stay whatever their age.
        """
        clean_partial(self.root)
        removed = [
            folder
            for folder in sorted(self.root.glob("*-*"))
            if _complete(folder)
            and folder not in keep
            and (folder / STEP_FILE).stat().st_mtime < unused_since.timestamp()
        ]
        for folder in removed:
            remove_directory(folder)
        return removed

    def _build(self, target: Path, name: str, key_parts: Sequence[KeyPart], build: Callable[[Path], None]) -> None:
        _log.info("step_started", step=target.name)
        with atomic_directory(target) as folder:
            timer = StageTimer()
            with timer.stage(name):
                build(folder)
            took = timer.stages[0]
            record = StepRecord(
                name=name,
                key=tuple(_plain(part) for part in key_parts),
                finished_at=datetime.now(UTC),
                seconds=took.seconds,
                peak_rss_bytes=took.peak_rss_bytes,
            )
            (folder / STEP_FILE).write_text(record.model_dump_json(indent=2), encoding="utf-8")
        self._asked.add(target)
        self._stages.append(_stage(record, reused=False))
        _log.info(
            "step_finished", step=target.name, seconds=round(record.seconds, 1), peak_mb=record.peak_rss_bytes >> 20
        )

    def _reuse(self, target: Path, label: str) -> None:
        """Note the first use in this run of a step that was there; its time of use keeps it from being pruned."""
        os.utime(target / STEP_FILE)
        record = read_step(target)
        self._asked.add(target)
        self._stages.append(_stage(record, reused=True))
        self._show.done(label, f"reused, built in {format_seconds(record.seconds)}")
        _log.info("step_reused", step=target.name, built_in_s=round(record.seconds, 1))


def read_step(folder: Path) -> StepRecord:
    """Return what a finished step recorded of itself."""
    return StepRecord.model_validate_json((folder / STEP_FILE).read_bytes())


def identity(folder: Path) -> KeyPart:
    """Return what tells a folder from others: a step's name carries its hash, a release's part goes by the release."""
    return folder if _complete(folder) else f"{folder.parent.name}/{folder.name}"


def contents(folder: Path, *, skip: Collection[str] = ()) -> str:
    """Return a sha256 over the files of a folder and their names, but for its entries named in `skip`."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative.parts[0] not in skip:
            digest.update(f"{relative}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def source_hash(*packages: str) -> str:
    """Return a sha256 over the Python files of packages: a key part that makes a change of code a change of key."""
    digest = hashlib.sha256()
    for package in sorted(packages):
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _complete(folder: Path) -> bool:
    return (folder / STEP_FILE).is_file()


def _label(name: str, key: Sequence[str | int | float | bool | None]) -> str:
    dates = [part.removeprefix(_DATE) for part in key if isinstance(part, str) and part.startswith(_DATE)]
    return " ".join((name.replace("_", " "), *(format_day(datetime.fromisoformat(day)) for day in dates[:1])))


def _stage(record: StepRecord, *, reused: bool) -> StageRecord:
    return StageRecord(
        name=record.name.replace("_", " "),
        seconds=record.seconds,
        peak_rss_bytes=record.peak_rss_bytes,
        reused=reused,
    )


def _plain(part: KeyPart) -> str | int | float | bool | None:
    """Return a key part as a JSON value; the same moment in two zones is one key."""
    if isinstance(part, datetime):
        if part.tzinfo is None:
            raise ValueError(f"expected a datetime with a zone as a step's key, found {part.isoformat()}")
        return f"{_DATE}{part.astimezone(UTC).isoformat()}"
    if isinstance(part, Path):
        return f"step:{part.name}"
    return part
