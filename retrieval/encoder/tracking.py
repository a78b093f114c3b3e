"""Where a run's figures go besides the log: TensorBoard by default, MLflow or Weights & Biases when named.

    with open_trackers(("tensorboard", "mlflow"), folder=out, run="demo/encoder-1a2b3c") as tracking:
        tracking.parameters(flattened(config))                   # balance.method: static
        tracking.scalars({"validation/mean": 0.83}, step=25)
        tracking.summary({"best/step": 25})

The names are environment (`POLYRANK_TRACKERS`), and so is where each one writes, by its own variables: MLflow's
MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME (default: `mlflow.db` in the working folder), and how long a call tries
to reach its server by MLFLOW_HTTP_REQUEST_MAX_RETRIES; Weights & Biases' WANDB_MODE, WANDB_PROJECT, WANDB_API_KEY and
WANDB_DIR (default: `wandb/` in the working folder). Of all this only TensorBoard's log lies in the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel

from infra.errors import InvalidInputError
from infra.settings import TrackerName
from retrieval.encoder.trackers import MlflowTracker, Parameter, TensorBoardTracker, Tracker, WandbTracker

log = structlog.get_logger(__name__)


class TrackerNotInstalledError(InvalidInputError):
    """A tracker is named whose package is not there."""

    title = "Tracker not installed"


_KINDS: Final[Mapping[TrackerName, type[Tracker]]] = {
    kind.name: kind for kind in (TensorBoardTracker, MlflowTracker, WandbTracker)
}


class Tracking(AbstractContextManager["Tracking"]):
    """The trackers of one run as one. What fails is left out from then on, with one warning: figures aren't the run."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Write what the run is made with, once."""
        self._each(lambda tracker: tracker.parameters(values))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write figures of a step; steps never fall."""
        self._each(lambda tracker: tracker.scalars(values, step))

    def summary(self, values: Mapping[str, float]) -> None:
        """Write figures of the whole run, once."""
        self._each(lambda tracker: tracker.summary(values))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._each(lambda tracker: tracker.close(failed=kind is not None))

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for tracker in tuple(self._trackers):
            try:
                act(tracker)
            except tracker.failures() as error:
                _warn(tracker.name, error)
                self._trackers.remove(tracker)
                with suppress(*tracker.failures()):
                    tracker.close(failed=True)


def open_trackers(names: Sequence[TrackerName], *, folder: Path, run: str) -> Tracking:
    """Begin a run in each tracking system; one that can't be reached now is left out, with a warning.

    Args:
        names: of the systems.
        folder: of the run's own files.
        run: what the run is called there.

    Raises:
        TrackerNotInstalledError: a package is missing; nothing has begun.
    """
    require_installed(names)
    opened: list[Tracker] = []
    for kind in (_KINDS[name] for name in dict.fromkeys(names)):
        try:
            opened.append(kind.open(folder, run))
        except kind.failures() as error:
            _warn(kind.name, error)
    return Tracking(opened)


def flattened(config: BaseModel) -> dict[str, Parameter]:
    """Return a config's values by dotted path; a list is one value, as JSON."""
    values: dict[str, Parameter] = {}

    def walk(path: str, value: object) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                walk(f"{path}.{name}" if path else name, inner)
        elif value is None or isinstance(value, str | int | float):
            values[path] = value
        else:
            values[path] = json.dumps(value)

    walk("", config.model_dump(mode="json"))
    return values


def require_installed(names: Sequence[TrackerName]) -> None:
    """Look for each tracker's package without importing it.

    Raises:
        TrackerNotInstalledError: one is missing.
    """
    for name in names:
        found = find_spec(name)
        # A folder counts as a package without a file of its own, and W&B leaves a folder `wandb/` wherever it ran.
        if found is None or found.origin is None:
            raise TrackerNotInstalledError(
                f"tracker {name}: expected the package {name}, found it not installed; pip install 'polyrank[{name}]'"
            )


def _warn(name: TrackerName, error: Exception) -> None:
    log.warning("tracker_failed", tracker=name, error=repr(error), message=f"the run goes on without {name}")
