"""What a run keeps of itself: validations, the best weights, a log and a progress bar."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn, no_grad

from retrieval.encoder.tracking import Tracking

log = structlog.get_logger(__name__)

T = TypeVar("T")

# In order: heads and projections on frozen vectors, heads alone on these; layers, projections and heads together, heads
# alone on what the layers have become.
PHASES: Final = ("warmup", "warmup_heads", "finetune", "finetune_heads")
# Of a relative loss in the mean: below it nothing more is gained, or one solved task would decide for all.
FLOOR: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One validation.

    Attributes:
        phase: one of `PHASES`.
        step: of that phase.
        losses: by task, the held-out loss over its constant predictor's: below 1 something was learnt. Where heads
            are calibrated it is the loss that calibration leaves.
        mean: geometric, of the losses, by importance and evidence; early stopping goes by it. Halving what is left of
            a loss counts alike, whether texts explain nearly all of a task's labels or little, as in the mean relative
            gain over single tasks (Maninis et al., 2019).
        before: steps that the phases before it took.
    """

    phase: str
    step: int
    losses: dict[str, float]
    mean: float
    before: int = 0

    @property
    def overall(self) -> int:
        """The step, counted on through all phases."""
        return self.before + self.step


@dataclass
class Best:
    """The weights to go back to, and how many validations have passed without better ones."""

    validation: Validation | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    misses: int = 0

    def offer(self, validation: Validation, model: nn.Module) -> None:
        """Keep a copy of the trainable weights if the validation is the best so far."""
        # Written so that a loss that is no number is never the best.
        if self.validation is not None and not validation.mean < self.validation.mean:
            self.misses += 1
            return
        self.validation, self.misses = validation, 0
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def restore(self, model: nn.Module) -> None:
        """Copy the kept weights back, and begin counting anew."""
        with no_grad():
            for name, parameter in model.named_parameters():
                if name in self.weights:
                    parameter.copy_(self.weights[name])
        self.misses = 0


class TaskStops:
    """Early stopping by task: one that has stopped improving goes back to its best head and leaves the loss.

    Rare labels overfit first (coupon response after 100 of 600 warm-up steps on the demo's data) while others learn on.

    Args:
        patience: validations in a row without improvement.

    Attributes:
        stopped: tasks that learn no more in this phase.
        ends: by phase and stopped task, the step of its best head.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.stopped: set[str] = set()
        self.ends: dict[str, dict[str, int]] = {}
        self._best: dict[str, Best] = {}
        self._seen: set[str] = set()

    def update(self, validation: Validation, own: Mapping[str, nn.Module]) -> None:
        """Note a validation; what belongs to a task whose patience has run out gets its best weights back."""
        self._seen |= validation.losses.keys()
        for name, loss in validation.losses.items():
            if name in self.stopped:
                continue
            best = self._best.setdefault(name, Best())
            best.offer(Validation(phase=validation.phase, step=validation.step, losses={}, mean=loss), own[name])
            if best.misses >= self.patience:
                best.restore(own[name])
                self.stopped.add(name)
                assert best.validation is not None
                self.ends.setdefault(validation.phase, {})[name] = best.validation.step
                log.info("encoder_task_stopped", task=name, phase=validation.phase, step=validation.step)

    def best_losses(self) -> dict[str, float]:
        """Return the loss of each stopped task's best head, where that is known."""
        found = {name: self._best[name].validation for name in self.stopped if name in self._best}
        return {name: validation.mean for name, validation in found.items() if validation is not None}

    def fix(self, names: Collection[str]) -> None:
        """Let these tasks rest in this phase."""
        self.stopped |= set(names)

    def finish(self, phase: str, own: Mapping[str, nn.Module]) -> None:
        """Give every task its best weights back: right where no task changes what another reads."""
        for name, best in self._best.items():
            best.restore(own[name])
            assert best.validation is not None
            self.ends.setdefault(phase, {})[name] = best.validation.step

    @property
    def over(self) -> bool:
        """Whether all tasks have stopped that validations speak of: nothing is left to learn in this phase."""
        return bool(self._seen) and self.stopped >= self._seen

    def restart(self) -> None:
        """Let every task learn again, as a new phase does."""
        self.stopped.clear()
        self._best.clear()
        self._seen.clear()


class Record:
    """History of a run, told to the trackers and the log as it grows.

    Args:
        tracking: where its figures go.
        weights: each task's share in the mean; one that is left out counts 1.
    """

    def __init__(self, tracking: Tracking, weights: Mapping[str, float]) -> None:
        self.tracking, self.weights = tracking, weights
        self.history: list[Validation] = []

    def add(
        self, phase: str, step: int, losses: dict[str, float], balance: Mapping[str, float],
        known: Mapping[str, float] | None = None,
    ) -> Validation:  # fmt: skip
        """Append a validation.

        Args:
            phase: one of `PHASES`.
            step: of that phase.
            losses: by task, over its constant predictor's.
            balance: by task, the balancer's multiplier of its raw loss now.
            known: by task, the loss to count in the mean in place of the measured one.
        """
        weights = {name: self.weights.get(name, 1.0) for name in losses}
        counted = losses | dict(known or {})
        logs = sum(weights[name] * math.log(max(counted[name], FLOOR)) for name in losses)
        mean = math.exp(logs / max(sum(weights.values()), 1e-9))
        last = self.history[-1] if self.history else None
        before = 0 if last is None else last.before if last.phase == phase else last.overall
        validation = Validation(phase=phase, step=step, losses=losses, mean=mean, before=before)
        self.history.append(validation)
        figures = {"validation/mean": mean} | {f"validation/{name}": loss for name, loss in losses.items()}
        figures |= {f"balance/{name}": weight for name, weight in balance.items()}
        self.tracking.scalars(figures, validation.overall)
        rounded = {name: round(loss, 4) for name, loss in losses.items()}
        log.info("encoder_validated", phase=phase, step=step, mean=round(mean, 4), losses=rounded)
        return validation

    def finish(self, best: Validation, steps: int, seconds: Mapping[str, float]) -> None:
        """Tell how the run ended: its best validation, the fine-tuning steps done, and the wall time of each phase."""
        times = {f"seconds/{phase}": value for phase, value in seconds.items()}
        self.tracking.summary({"best/step": best.overall, "best/mean": best.mean, "steps": steps} | times)
        rounded = {phase: round(value, 1) for phase, value in seconds.items()}
        log.info("encoder_trained", steps=steps, loss=round(best.mean, 4), seconds=rounded)


class Bar(AbstractContextManager["Bar"]):
    """A progress bar on a terminal; nothing elsewhere, where log lines tell as much."""

    def __init__(self, *, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, transient=True)
        self._progress.disable = not (shown and self._progress.console.is_terminal)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def track(self, name: str, values: Sequence[T]) -> Iterator[T]:
        """Yield the values while a line of the bar advances."""
        line = self._progress.add_task(name, total=len(values))
        for value in values:
            yield value
            self._progress.advance(line)
        self._progress.remove_task(line)
