"""The tracking systems that a run can write to, each behind one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, Self

from torch.utils.tensorboard import SummaryWriter

from infra.settings import TrackerName

if TYPE_CHECKING:
    import wandb

TENSORBOARD: Final = "tensorboard"

Parameter = str | int | float | bool | None


class Tracker(Protocol):
    """One run in one tracking system.

    Attributes:
        name: as in `POLYRANK_TRACKERS`, and of its package.
    """

    name: ClassVar[TrackerName]

    @classmethod
    def open(cls, folder: Path, run: str) -> Self:
        """Begin a run.

        Args:
            folder: of the run's own files.
            run: its name.
        """

    @staticmethod
    def failures() -> tuple[type[Exception], ...]:
        """Return what the other methods raise when the system fails, a fault of neither ours nor the run's."""

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Write what the run is made with, once."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write figures of a step; steps never fall."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Write figures of the whole run, once."""

    def close(self, *, failed: bool) -> None:
        """End the run; a second call does nothing."""


class TensorBoardTracker:
    """Event files in `tensorboard/` of the run's folder."""

    name: ClassVar[TrackerName] = "tensorboard"

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer

    @classmethod
    def open(cls, folder: Path, run: str) -> Self:  # noqa: ARG003 (TensorBoard calls a run by its folder)
        """Make the folder and its first file."""
        return cls(SummaryWriter(str(folder / TENSORBOARD)))

    @staticmethod
    def failures() -> tuple[type[Exception], ...]:
        """Return the file system's errors; one in the writing thread is raised again by a later call."""
        return (OSError,)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Write a text, a line for each; the indent is Markdown's for text as it stands."""
        self._writer.add_text("parameters", "\n".join(f"    {name}: {value}" for name, value in values.items()))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write a point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def summary(self, values: Mapping[str, float]) -> None:
        """Write each figure as a curve of one point."""
        self.scalars(values, 0)

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 (event files hold no status)
        """Flush and close the file."""
        self._writer.close()


class MlflowTracker:
    """A run in the store and experiment that MLflow's own variables name, below the process's active run if any."""

    name: ClassVar[TrackerName] = "mlflow"

    def __init__(self, mlflow: ModuleType, run_id: str) -> None:
        self._mlflow, self._run_id = mlflow, run_id

    @classmethod
    def open(cls, folder: Path, run: str) -> Self:  # noqa: ARG003 (its files lie where its variables say)
        """Begin a run."""
        import mlflow  # noqa: PLC0415 (optional, and a second to import)

        return cls(mlflow, mlflow.start_run(run_name=run, nested=True).info.run_id)

    @staticmethod
    def failures() -> tuple[type[Exception], ...]:
        """Return MLflow's one family; its clients wrap the network's and the database's errors in it."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 (as above)

        return (MlflowException,)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Log parameters."""
        self._mlflow.log_params(dict(values), run_id=self._run_id)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of a step."""
        self._mlflow.log_metrics(dict(values), step=step, run_id=self._run_id)

    def summary(self, values: Mapping[str, float]) -> None:
        """Log metrics of one step, which is how MLflow compares runs."""
        self.scalars(values, 0)

    def close(self, *, failed: bool) -> None:
        """Set the run's status, unless another one is the active run by now."""
        active = self._mlflow.active_run()
        if active is not None and active.info.run_id == self._run_id:
            self._mlflow.end_run("FAILED" if failed else "FINISHED")


class WandbTracker:
    """A run of Weights & Biases, beside any that the process has."""

    name: ClassVar[TrackerName] = "wandb"

    def __init__(self, run: wandb.Run) -> None:
        self._run = run

    @classmethod
    def open(cls, folder: Path, run: str) -> Self:  # noqa: ARG003 (its files lie where its variables say)
        """Begin a run, and the process that sends its figures."""
        import wandb  # noqa: PLC0415 (optional)

        # Its capture of the terminal would print every move of the progress bar as a line.
        return cls(wandb.init(name=run, reinit="create_new", settings=wandb.Settings(console="off")))

    @staticmethod
    def failures() -> tuple[type[Exception], ...]:
        """Return its own family, and what a call meets when the sending process has died: a lost connection to it."""
        import wandb  # noqa: PLC0415 (as above)
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError  # noqa: PLC0415 (as above)

        return (wandb.Error, ConnectionError, HandleAbandonedError, MailboxClosedError)

    def parameters(self, values: Mapping[str, Parameter]) -> None:
        """Write the run's config."""
        self._run.config.update(dict(values))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log a row of the history."""
        self._run.log(dict(values), step=step)

    def summary(self, values: Mapping[str, float]) -> None:
        """Write into the run's summary, beside the last value of each scalar."""
        self._run.summary.update(dict(values))

    def close(self, *, failed: bool) -> None:
        """Send what is left and set the run's state."""
        self._run.finish(exit_code=int(failed))
