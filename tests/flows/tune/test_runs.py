"""Finished runs are lines: whole, kept, and never done twice."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.tune.runs import Runs, StudyBusyError, attempt, config_digest, drop_half_line, exclusive
from infra.errors import InvalidInputError
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.trial import Quality, Trial


def trial(loss: float = 1.0) -> Trial:
    found = {"buy": Quality(metric="auc", value=0.9, error=0.1, loss=loss)}
    return Trial(tasks=("buy",), validation=found, test=found, steps=1, seconds=0.1)


class Counted:
    """Makes a trial, or fails, and counts how often it was asked."""

    def __init__(self, result: Trial | str) -> None:
        self.result, self.asked = result, 0

    def __call__(self) -> Trial | str:
        self.asked += 1
        return self.result


def test_a_run_is_done_once_also_by_the_next_process(tmp_path: Path) -> None:
    path, make = tmp_path / "runs.jsonl", Counted(trial())
    first = Runs(path).do("buy", EncoderConfig(), make)
    again = Runs(path).do("buy", EncoderConfig(), make)
    assert first == again
    assert first.trial == trial()
    assert make.asked == 1
    # Another seed, configuration or side is another run.
    runs = Runs(path)
    for side, config in (("buy", EncoderConfig(seed=1)), ("buy", EncoderConfig(steps=7)), ("churn", EncoderConfig())):
        runs.do(side, config, make)
    assert make.asked == 4
    assert len(Runs(path)) == 4


def test_a_failed_run_is_kept_with_its_reason(tmp_path: Path) -> None:
    make = Counted("diverged")
    Runs(tmp_path / "runs.jsonl").do("buy", EncoderConfig(), make)
    kept = Runs(tmp_path / "runs.jsonl").do("buy", EncoderConfig(), make)
    assert (kept.trial, kept.reason, make.asked) == (None, "diverged", 1)


def test_a_half_written_line_is_done_again(tmp_path: Path) -> None:
    path, make = tmp_path / "runs.jsonl", Counted(trial())
    runs = Runs(path)
    runs.do("buy", EncoderConfig(), make)
    whole = path.read_bytes()
    runs.do("buy", EncoderConfig(seed=1), make)
    path.write_bytes(path.read_bytes()[:-40])
    again = Runs(path)
    assert path.read_bytes() == whole
    assert len(again) == 1
    again.do("buy", EncoderConfig(seed=1), make)
    assert make.asked == 3
    assert len(Runs(path)) == 2


def test_nothing_but_the_half_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    drop_half_line(path)
    assert not path.exists()
    for content, kept in ((b"one\ntwo\n", b"one\ntwo\n"), (b"one\ntw", b"one\n"), (b"on", b""), (b"", b"")):
        path.write_bytes(content)
        drop_half_line(path)
        assert path.read_bytes() == kept


def test_a_line_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text("{}\n")
    with pytest.raises(ValidationError):
        Runs(tmp_path / "runs.jsonl")


def test_a_study_has_one_owner(tmp_path: Path) -> None:
    with exclusive(tmp_path / "study"), pytest.raises(StudyBusyError, match="expected no other process"):
        exclusive(tmp_path / "study").__enter__()
    with exclusive(tmp_path / "study"):
        pass


def test_a_digest_tells_configurations_apart_but_not_seeds() -> None:
    assert config_digest(EncoderConfig(seed=1)) == config_digest(EncoderConfig(seed=2))
    assert config_digest(EncoderConfig(steps=1)) != config_digest(EncoderConfig(steps=2))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidInputError("balance.weights: expected one"), "balance.weights: expected one"),
        (RuntimeError("CUDA out of memory. Tried to\nallocate"), "RuntimeError: CUDA out of memory. Tried to"),
        (MemoryError(), "MemoryError: no message"),
    ],
)
def test_a_failure_is_told_in_a_line(error: Exception, reason: str) -> None:
    def fail() -> Trial:
        raise error

    assert attempt(fail, ("buy",)) == reason


def test_contradictions_are_failures_and_faults_of_ours_are_not() -> None:
    found = attempt(lambda: EncoderConfig(rdrop=1.0) and trial(), ("buy",))
    assert found == "rdrop: expected dropout above 0, without which both passes are one, found 0"

    def wrong() -> Trial:
        raise AssertionError

    with pytest.raises(AssertionError):
        attempt(wrong, ("buy",))


def test_a_loss_that_is_no_number_and_a_task_unmeasured_are_failures() -> None:
    assert attempt(trial, ("buy",)) == trial()
    assert attempt(lambda: trial(math.nan), ("buy",)) == "diverged: expected finite losses, found none of buy"
    assert attempt(trial, ("buy", "churn")) == "expected validation labels of every task, found none of churn"
