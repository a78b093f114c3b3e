"""When training ends: where held-out rows say so, or where another run on fewer rows was best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.record import Best, Record, TaskStops, Validation
from retrieval.encoder.step import TextSource

# From a source of states to each task's held-out loss over its constant predictor's.
Measure = Callable[[TextSource], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Ending:
    """When a run had its best weights: for how long another one on more rows should learn.

    Attributes:
        steps: by phase; 0 of a phase whose weights were not the best.
        tasks: by phase, the step at which each task that stopped before had its best head.
    """

    steps: Mapping[str, int]
    tasks: Mapping[str, Mapping[str, int]]


class Ends(Protocol):
    """Says which tasks learn on, and when a phase is over.

    Attributes:
        stopped: tasks that learn no more in this phase.
    """

    stopped: set[str]

    def begin(self, phase: str, source: TextSource) -> None:
        """Look at the model before a phase's first step."""

    def over(self, phase: str, step: int, source: TextSource) -> bool:
        """Look at it after a step, and return whether the phase ends with it."""

    def close(self) -> None:
        """Give the model its best weights; a phase that follows may train every task again."""

    def forget(self) -> None:
        """Compare what follows with nothing that was."""

    def had(self, weights: Mapping[str, Tensor]) -> None:
        """Note what weights that learn from now on were until now."""


class ByValidation:
    """Ends a phase when its held-out losses fall no longer, a task as its own does.

    Args:
        model: what is trained.
        config: patience, and how often to look.
        record: of validations.
        measure: held-out losses of the model as it is.
        weights: each task's multiplier in the balance, for the record.
    """

    def __init__(
        self, model: MultiTaskEncoder, config: EncoderConfig, record: Record, measure: Measure,
        weights: Callable[[], Mapping[str, float]],
    ) -> None:  # fmt: skip
        self.model, self.config, self.record = model, config, record
        self.measure, self.weights = measure, weights
        self.best, self.stops = Best(), TaskStops(config.task_patience)
        self.stopped = self.stops.stopped

    def begin(self, phase: str, source: TextSource) -> None:
        """Validate before the first step."""
        self._validate(phase, 0, source)

    def over(self, phase: str, step: int, source: TextSource) -> bool:
        """Validate every so many steps and after the last."""
        config = self.config
        warmup = phase == "warmup"
        every, last = (config.warmup if warmup else config).validate_every, (config.warmup if warmup else config).steps
        if step % every and step != last:
            return False
        self._validate(phase, step, source)
        return self.stops.over or (not warmup and self.best.misses >= config.patience)

    def close(self) -> None:
        """Copy the best weights back."""
        self.best.restore(self.model)
        self.stops.restart()

    def forget(self) -> None:
        """Forget the best weights."""
        self.best = Best()

    def had(self, weights: Mapping[str, Tensor]) -> None:
        """Add weights to the best ones."""
        self.best.weights |= weights

    @property
    def validation(self) -> Validation:
        """The best one."""
        assert self.best.validation is not None
        return self.best.validation

    @property
    def ending(self) -> Ending:
        """When the run had its best weights."""
        warmup = [found for found in self.record.history if found.phase == "warmup"]
        return Ending(
            steps={
                "warmup": min(warmup, key=lambda found: found.mean).step if warmup else 0,
                "finetune": self.validation.step if self.validation.phase == "finetune" else 0,
            },
            tasks=self.stops.ends,
        )

    def _validate(self, phase: str, step: int, source: TextSource) -> None:
        """Measure the held-out batches, log, and keep the weights if they are the best so far."""
        validation = self.record.add(phase, step, self.measure(source), self.weights())
        self.stops.update(validation, self.model.own)
        self.best.offer(validation, self.model)


class AsBefore:
    """Ends phases and tasks where another run had its best weights.

    Args:
        ending: of that run.
    """

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.stopped: set[str] = set()

    def begin(self, phase: str, source: TextSource) -> None:
        """Nothing is looked at."""

    def over(self, phase: str, step: int, source: TextSource) -> bool:  # noqa: ARG002 - it looks at nothing
        """Stop the tasks that are due."""
        self.stopped |= {name for name, last in self.ending.tasks.get(phase, {}).items() if step >= last}
        return step >= self.ending.steps[phase]

    def close(self) -> None:
        """Let all tasks learn again."""
        self.stopped.clear()

    def forget(self) -> None:
        """Nothing is compared."""

    def had(self, weights: Mapping[str, Tensor]) -> None:
        """The last weights are the best."""
