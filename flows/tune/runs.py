"""Finished runs as lines of a file: each is there whole or not at all, and none is done twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.tune.sides import diverged, unmeasured
from infra.errors import ConflictError, InvalidInputError
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.trial import Trial

log = structlog.get_logger(__name__)

_LOCK: Final = "lock"
# What a configuration can do to a run: contradict itself, the tasks or the balance (ValueError, as are all of ours and
# pydantic's), leave the range of numbers, or need more memory than there is, for which torch has RuntimeError alone. An
# assertion is a fault of ours and ends the study.
FAILURES: Final = (ValueError, ArithmeticError, MemoryError, RuntimeError)


class StudyBusyError(ConflictError):
    """Another process works on the same study."""

    title = "Study busy"


class RunFailedError(InvalidInputError):
    """A run whose configuration can't be trained."""

    title = "Run failed"


class Run(BaseModel):
    """One finished run.

    Attributes:
        side: model of the comparison, or the tasks that were trained.
        config: digest of the configuration, the seed aside.
        seed: of the run.
        trial: what it gave; None where it failed.
        reason: why it failed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: str
    config: str
    seed: int
    trial: Trial | None = None
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from others."""
        return self.side, self.config, self.seed


class Runs:
    """The runs of a study.

    Args:
        path: of the file; it appears with the first run.
    """

    def __init__(self, path: Path) -> None:
        drop_half_line(path)
        self._path = path
        lines = path.read_bytes().splitlines() if path.exists() else []
        self._done = {run.key: run for run in map(Run.model_validate_json, lines)}

    def __len__(self) -> int:
        return len(self._done)

    def get(self, side: str, config: EncoderConfig) -> Run | None:
        """Return a run that was done, or None."""
        return self._done.get((side, config_digest(config), config.seed))

    def do(self, side: str, config: EncoderConfig, make: Callable[[], Trial | str]) -> Run:
        """Return a run that was done, or do it: `make` gives the trial, or the reason why there is none."""
        found = self.get(side, config)
        if found is not None:
            return found
        result = make()
        trial, reason = (None, result) if isinstance(result, str) else (result, "")
        run = Run(side=side, config=config_digest(config), seed=config.seed, trial=trial, reason=reason)
        append_line(self._path, run.model_dump_json())
        self._done[run.key] = run
        return run


def attempt(make: Callable[[], Trial], tasks: tuple[str, ...]) -> Trial | str:
    """Return a trial, or why it failed: an error of its configuration, a loss that is no number, a task unmeasured."""
    try:
        trial = make()
    except FAILURES as error:
        # A contradiction says all in its message; of another error one wants to know where it arose.
        surprising = not isinstance(error, InvalidInputError | ValidationError)
        log.warning("run_failed", reason=reason_of(error), exc_info=surprising)
        return reason_of(error)
    lost, missing = diverged(trial), unmeasured(trial.validation, tasks)
    if lost:
        return f"diverged: expected finite losses, found none of {', '.join(lost)}"
    if missing:
        return f"expected validation labels of every task, found none of {', '.join(missing)}"
    return trial


def reason_of(error: BaseException) -> str:
    """Return an error in one line."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False)
        return "; ".join(detail["msg"].removeprefix("Value error, ") for detail in details)
    words = (str(error).strip() or "no message").splitlines()[0]
    return words if isinstance(error, InvalidInputError) else f"{type(error).__name__}: {words}"


def config_digest(config: EncoderConfig) -> str:
    """Return what tells a configuration from others, whatever its seed."""
    return hashlib.sha256(config.model_dump_json(exclude={"seed"}).encode()).hexdigest()[:12]


def drop_half_line(path: Path) -> None:
    """Cut off a last line that a killed writer left without its end."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("half_line_dropped", path=str(path), size=len(content) - whole)
        os.truncate(path, whole)


def append_line(path: Path, line: str) -> None:
    """Append a line and flush it to disk; only the file's owner may write (see `exclusive`)."""
    assert "\n" not in line
    with path.open("ab") as file:
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a study's folder, which is made when missing; the kernel lets go of it with the process.

    Raises:
        StudyBusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudyBusyError(f"expected no other process on the study in {folder}, found one") from None
        yield
