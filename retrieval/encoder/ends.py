"""When training ends: where held-out rows say so, or where another run on fewer rows was best."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.record import PHASES, Best, Record, TaskStops, Validation
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


def heads_alone(phase: str) -> bool:
    """Return whether heads alone learn in a phase, so that no task changes what another reads."""
    return phase.endswith("heads")


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

    def close(self, phase: str, source: TextSource) -> None:
        """Give the model the phase's best weights."""

    def forget(self) -> None:
        """Compare what follows with nothing that was."""

    def set_aside(self) -> None:
        """Keep what is best so far; what follows is compared with nothing that was, until `choose`."""

    def choose(self) -> None:
        """Give the model the better of what was set aside and what came then."""

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
        self._aside: Best | None = None

    def begin(self, phase: str, source: TextSource) -> None:
        """Validate before the first step, unless a phase before has; contrastive tasks have no part in heads."""
        if heads_alone(phase):
            self.best = Best()
            self.stops.fix(self.model.searching)
        if heads_alone(phase) or (self.best.validation is None and self._aside is None):
            self._validate(phase, 0, source)

    def over(self, phase: str, step: int, source: TextSource) -> bool:
        """Validate every so many steps and after the last."""
        config = self.config if phase == "finetune" else self.config.warmup
        if step % config.validate_every and step != config.steps:
            return False
        self._validate(phase, step, source)
        return self.stops.over or (phase == "finetune" and self.best.misses >= self.config.patience)

    def close(self, phase: str, source: TextSource) -> None:
        """Copy the best weights back; of heads alone, those of each by itself if they are better together too."""
        if heads_alone(phase):
            self.stops.finish(phase, self.model.own)
            self._validate(phase, self.record.history[-1].step, source)
        self.best.restore(self.model)
        self.stops.restart()

    def forget(self) -> None:
        """Forget the best weights."""
        self.best = Best()

    def set_aside(self) -> None:
        """Keep the best weights, and of all others what they are."""
        weights = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self._aside, self.best = Best(self.best.validation, weights), Best()

    def choose(self) -> None:
        """Go back to what was set aside if its validation was better."""
        aside = self._aside
        # Written so that a loss that is no number is never the better one.
        if aside is not None and aside.validation is not None and not self.validation.mean < aside.validation.mean:
            self.best = aside
            aside.restore(self.model)

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
        history, best = self.record.history, self.validation
        steps = dict.fromkeys(PHASES, 0)
        for phase in PHASES[: PHASES.index(best.phase) + 1]:
            found = [validation for validation in history if validation.phase == phase]
            if heads_alone(phase):
                steps[phase] = max(self.stops.ends.get(phase, {}).values(), default=0)
            elif found:
                steps[phase] = min(found, key=lambda validation: validation.mean).step
        return Ending(steps=steps, tasks=self.stops.ends)

    def _validate(self, phase: str, step: int, source: TextSource) -> None:
        """Measure the held-out batches, log, and keep the weights if they are the best so far.

        A task that stopped while layers learn counts with its best loss: its head is fitted once more to what they
        become.
        """
        teachers = self.model.searching
        fitted = {name: loss for name, loss in self.stops.best_losses().items() if name not in teachers}
        known = fitted if phase == "finetune" and self._aside is not None else None
        validation = self.record.add(phase, step, self.measure(source), self.weights(), known)
        self.stops.update(validation, self.model.own)
        self.best.offer(validation, self.model)


class AsBefore:
    """Ends phases and tasks where another run had its best weights.

    Args:
        ending: of that run.
        resting: tasks that do not learn while heads alone do.
    """

    def __init__(self, ending: Ending, resting: Collection[str]) -> None:
        self.ending, self.resting = ending, resting
        self.stopped: set[str] = set()

    def begin(self, phase: str, source: TextSource) -> None:  # noqa: ARG002 - it looks at nothing
        """Let rest what has no part in this phase."""
        self.stopped |= self._due(phase, 0) | (set(self.resting) if heads_alone(phase) else set())

    def over(self, phase: str, step: int, source: TextSource) -> bool:  # noqa: ARG002 - it looks at nothing
        """Stop the tasks that are due."""
        self.stopped |= self._due(phase, step)
        return step >= self.ending.steps[phase]

    def _due(self, phase: str, step: int) -> set[str]:
        return {name for name, last in self.ending.tasks.get(phase, {}).items() if step >= last}

    def close(self, phase: str, source: TextSource) -> None:  # noqa: ARG002 - the last weights are the best
        """Let all tasks learn again."""
        self.stopped.clear()

    def forget(self) -> None:
        """Nothing is compared."""

    def set_aside(self) -> None:
        """Nothing is compared."""

    def choose(self) -> None:
        """The last weights are the best."""

    def had(self, weights: Mapping[str, Tensor]) -> None:
        """The last weights are the best."""
