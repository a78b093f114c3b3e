from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
import wandb
from structlog.testing import capture_logs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from infra.settings import TrackerName
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.record import offsets
from retrieval.encoder.trackers import Parameter
from retrieval.encoder.tracking import (
    TrackerNotInstalledError,
    Tracking,
    flattened,
    open_trackers,
    require_installed,
)
from retrieval.encoder.train import train

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _away_from_any_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each library writes where its own variables say: below the test's folder, and to no network."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    # Offline needs no address; a test that goes online finds nobody.
    monkeypatch.setenv("WANDB_BASE_URL", NOBODY)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    yield
    wandb.teardown()  # which reads its variables once


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """MLflow on a store of files: its default, SQLite, sets off a deprecation of SQLAlchemy's."""
    found = pytest.importorskip("mlflow", reason="MLflow is no part of the dev extra (see pyproject.toml)")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "encoders")
    return found


def tracker_warnings(logs: list[Any]) -> list[str]:
    """Return the trackers that a warning names, in order."""
    return [log["tracker"] for log in logs if (log["event"], log["log_level"]) == ("tracker_failed", "warning")]


def record(names: tuple[TrackerName, ...], folder: Path) -> None:
    """Write a small run: one parameter, two validations and a summary."""
    with open_trackers(names, folder=folder, run="demo/encoder-1") as tracking:
        tracking.parameters({"balance.method": "static", "start": None})
        tracking.scalars({"validation/mean": 0.75, "balance/churn": 2.0}, step=0)
        tracking.scalars({"validation/mean": 0.5, "balance/churn": 4.0}, step=25)
        tracking.summary({"best/step": 25})


def wandb_records(folder: Path) -> Iterator[Any]:
    """Yield the records of the one offline run below a folder: a LevelDB log after a header of 7 bytes."""
    wandb.teardown()  # waits until the file is written
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    content, place, parts = path.read_bytes(), 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:  # too short for a part's header, and so filled with zeros
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield Record.FromString(parts)
            parts = b""


def mlflow_runs(mlflow: Any) -> list[Any]:
    """Return the experiment's runs."""
    return list(mlflow.search_runs(experiment_names=["encoders"], output_format="list"))


def values(entries: Any) -> dict[str, Any]:
    """Return keys and values of a W&B record."""
    return {entry.key or "/".join(entry.nested_key): json.loads(entry.value_json) for entry in entries}


def test_tensorboard_holds_curves_and_parameters(tmp_path: Path) -> None:
    record(("tensorboard",), tmp_path)
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(point.step, point.value) for point in log.Scalars("validation/mean")] == [(0, 0.75), (25, 0.5)]
    assert [point.value for point in log.Scalars("balance/churn")] == [2.0, 4.0]
    assert [point.value for point in log.Scalars("best/step")] == [25.0]
    (text,) = log.Tensors("parameters/text_summary")
    assert text.tensor_proto.string_val[0].decode() == "    balance.method: static\n    start: None"


def test_a_tracker_that_is_named_twice_writes_once(tmp_path: Path) -> None:
    record(("tensorboard", "tensorboard"), tmp_path)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_mlflow_holds_the_run(mlflow: Any, tmp_path: Path) -> None:
    record(("mlflow",), tmp_path / "run")
    (run,) = mlflow_runs(mlflow)
    assert (run.info.run_name, run.info.status) == ("demo/encoder-1", "FINISHED")
    assert run.data.params == {"balance.method": "static", "start": "None"}
    points = mlflow.MlflowClient().get_metric_history(run.info.run_id, "validation/mean")
    assert [(point.step, point.value) for point in points] == [(0, 0.75), (25, 0.5)]
    assert run.data.metrics == {"validation/mean": 0.5, "balance/churn": 4.0, "best/step": 25.0}
    assert mlflow.active_run() is None
    assert not (tmp_path / "run").exists()


def test_wandb_holds_the_run(tmp_path: Path) -> None:
    record(("wandb",), tmp_path / "run")
    entries = list(wandb_records(tmp_path))
    (run,) = [entry.run for entry in entries if entry.HasField("run")]
    assert run.display_name == "demo/encoder-1"
    (config,) = [values(entry.config.update) for entry in entries if entry.HasField("config")]
    assert config == {"balance.method": "static", "start": None}
    rows = [values(entry.history.item) for entry in entries if entry.HasField("history")]
    assert [(row["_step"], row["validation/mean"], row["balance/churn"]) for row in rows] == [
        (0, 0.75, 2),
        (25, 0.5, 4),
    ]
    assert any(values(entry.summary.update).get("best/step") == 25 for entry in entries if entry.HasField("summary"))
    assert [entry.exit.exit_code for entry in entries if entry.HasField("exit")] == [0]
    assert not (tmp_path / "run").exists()


def test_a_run_that_fails_is_marked_so(mlflow: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_trackers(("mlflow",), folder=tmp_path, run="demo"):
        raise RuntimeError
    assert [run.info.status for run in mlflow_runs(mlflow)] == ["FAILED"]


def test_a_run_that_fails_is_marked_so_offline(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_trackers(("wandb",), folder=tmp_path, run="demo"):
        raise RuntimeError
    assert [entry.exit.exit_code for entry in wandb_records(tmp_path) if entry.HasField("exit")] == [1]


class GoneError(Exception):
    """What the tracker below raises when it fails."""


class Notes:
    """A tracker in memory that fails from a step on."""

    name: ClassVar[TrackerName] = "tensorboard"

    def __init__(self, failing_from: int, error: type[Exception] = GoneError) -> None:
        self.failing_from, self.error = failing_from, error
        self.steps: list[int] = []
        self.calls = 0
        self.closed: list[bool] = []

    @classmethod
    def open(cls, folder: Path, run: str) -> Self:
        raise NotImplementedError

    @staticmethod
    def failures() -> tuple[type[Exception], ...]:
        return (GoneError,)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        self.calls += len(values)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.calls += len(values)
        if step >= self.failing_from:
            raise self.error
        self.steps.append(step)

    def summary(self, values: Mapping[str, float]) -> None:
        self.calls += len(values)

    def close(self, *, failed: bool) -> None:
        self.closed.append(failed)


def test_a_tracker_that_fails_is_left_out_with_one_warning() -> None:
    weak, sound = Notes(failing_from=1), Notes(failing_from=9)
    with capture_logs() as logs, Tracking([weak, sound]) as tracking:
        for step in range(4):
            tracking.scalars({"validation/mean": 1.0}, step)
        tracking.summary({"best/step": 0})
    assert tracker_warnings(logs) == ["tensorboard"]
    # weak: steps 0 and 1, then nothing more; sound: four steps and the summary.
    assert (weak.steps, weak.calls, weak.closed) == ([0], 2, [True])
    assert (sound.steps, sound.calls, sound.closed) == ([0, 1, 2, 3], 5, [False])


def test_a_fault_of_ours_is_not_taken_for_the_trackers() -> None:
    wrong = Notes(failing_from=0, error=KeyError)
    with pytest.raises(KeyError), Tracking([wrong]) as tracking:
        tracking.scalars({"validation/mean": 1.0}, 0)
    assert wrong.closed == [True]


def test_mlflow_may_go_in_the_middle(mlflow: Any, tmp_path: Path) -> None:
    with capture_logs() as logs, open_trackers(("mlflow", "tensorboard"), folder=tmp_path, run="demo") as tracking:
        tracking.scalars({"validation/mean": 1.0}, 0)
        (run,) = mlflow_runs(mlflow)
        shutil.rmtree(tmp_path / "mlruns" / run.info.experiment_id / run.info.run_id)
        tracking.scalars({"validation/mean": 0.5}, 1)
        tracking.scalars({"validation/mean": 0.25}, 2)
    assert tracker_warnings(logs) == ["mlflow"]
    assert mlflow.active_run() is None
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.value for point in log.Scalars("validation/mean")] == [1.0, 0.5, 0.25]


def test_mlflow_without_a_server_is_left_out(mlflow: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with capture_logs() as logs:
        record(("mlflow",), tmp_path)
    assert tracker_warnings(logs) == ["mlflow"]
    assert mlflow.active_run() is None


# In a process of its own: the library keeps one connection per process, broken from then on.
WANDB_DIES = """
import sys
from pathlib import Path
import psutil
from retrieval.encoder.tracking import open_trackers

with open_trackers(("wandb",), folder=Path("."), run="demo") as tracking:
    tracking.scalars({"validation/mean": 1.0}, 0)
    for child in psutil.Process().children():
        child.kill()
        child.wait()
    tracking.scalars({"validation/mean": 0.5}, 1)
    tracking.scalars({"validation/mean": 0.25}, 2)
with open_trackers(("wandb",), folder=Path("."), run="again") as tracking:
    tracking.scalars({"validation/mean": 1.0}, 0)
"""


def test_the_process_of_wandb_may_die_in_the_middle() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WANDB_DIES], capture_output=True, text=True, timeout=60, check=True
    )
    # One of the first run, when a call meets a lost connection; one of the second, which can't be opened any more.
    assert done.stdout.count("tracker_failed") == 2


def test_wandb_without_a_key_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with capture_logs() as logs:
        record(("wandb",), tmp_path)
    assert tracker_warnings(logs) == ["wandb"]
    assert "No API key configured" in logs[0]["error"]


def test_a_folder_that_is_a_file_costs_the_curves_alone(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("taken")
    with capture_logs() as logs:
        record(("tensorboard",), tmp_path)
    assert tracker_warnings(logs) == ["tensorboard"]


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    expected = (
        r"^tracker mlflow: expected the package mlflow, found it not installed; pip install 'polyrank\[mlflow\]'$"
    )
    with pytest.raises(TrackerNotInstalledError, match=expected):
        open_trackers(("tensorboard", "mlflow"), folder=tmp_path, run="demo")
    assert not (tmp_path / "tensorboard").exists()


def test_a_folder_of_runs_is_not_taken_for_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(TrackerNotInstalledError, match="tracker wandb"):
        require_installed(("wandb",))


def test_a_config_is_flattened_by_path() -> None:
    flat = flattened(EncoderConfig.model_validate({"balance": {"method": "dual"}, "threads": 2}))
    assert flat["balance.method"] == "dual"
    assert (flat["threads"], flat["lora"], flat["logq"]) == (2, None, True)
    assert flat["backbone.max_tokens.item"] == 24
    assert (flat["backbone.prefixes"], flat["limits"]) == ("{}", "[]")


def test_training_tells_its_trackers_and_learns_the_same(
    world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    alone = train(world, small_config, out=tmp_path / "alone", progress=False, trackers=())
    assert list((tmp_path / "alone").iterdir()) == []
    names: tuple[TrackerName, ...] = ("tensorboard", "wandb")
    result = train(world, small_config, out=tmp_path / "run", progress=False, trackers=names, run="demo")
    for own, other in zip(alone.model.parameters(), result.model.parameters(), strict=True):
        assert torch.equal(own, other)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["tensorboard"]

    entries = list(wandb_records(tmp_path))
    (config,) = [values(entry.config.update) for entry in entries if entry.HasField("config")]
    assert config["balance.method"] == "volume"
    rows = [values(entry.history.item) for entry in entries if entry.HasField("history")]
    # 20 warm-up steps with a validation every 10 and before the first; at most 20 of heads alone; then, counted on from
    # the 40 planned, 20 of fine-tuning, and heads alone again. A phase's last validation and the next one's first share
    # a step, and W&B keeps the later.
    before = offsets(20, 20)
    steps = [entry.step + before[entry.phase] for entry in result.history]
    assert steps[:4] == [0, 10, 20, 20]
    assert {50, 60} <= set(steps)
    assert steps == sorted(steps)
    losses = dict(zip(steps, (entry.losses["churn"] for entry in result.history), strict=True))
    assert {row["_step"]: row["validation/churn"] for row in rows} == losses
    assert rows[-1]["balance/churn"] == pytest.approx(result.weights["churn"])
    log = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    curve = [(point.step, point.value) for point in log.Scalars("validation/mean")]
    assert curve == [(step, pytest.approx(entry.mean)) for step, entry in zip(steps, result.history, strict=True)]
    assert log.Scalars("best/step")[0].value == result.best.step + before[result.best.phase]
    assert log.Scalars("seconds/warmup")[0].value == pytest.approx(result.seconds["warmup"])
