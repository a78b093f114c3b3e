"""How a release was made: its data and time plan, the encoder's training, and what each stage took."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AwareDatetime, Field, FiniteFloat, NonNegativeInt, model_validator

from flows.report.figures import Part
from retrieval.encoder.labels.report import FewLabelsReport


class DataSummary(Part):
    """The size of what was read; event counts by event kind."""

    users: NonNegativeInt = 0
    items: NonNegativeInt = 0
    texts: NonNegativeInt = 0
    eligible_items: NonNegativeInt | None = None
    events: dict[str, NonNegativeInt] = Field(default_factory=dict)
    first_event: AwareDatetime | None = None
    last_event: AwareDatetime | None = None


class Window(Part):
    """One as-of time and the window its labels come from, `[cut, end)`, with what it is used for."""

    role: str
    cut: AwareDatetime
    end: AwareDatetime


class ValidationRow(Part):
    """Rows of a source table that broke a rule, and what was done with them."""

    table: str
    column: str
    rule: str
    action: str
    count: NonNegativeInt


class Curve(Part):
    """A loss by training step."""

    name: str
    steps: tuple[int, ...]
    losses: tuple[FiniteFloat, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.steps) != len(self.losses):
            raise ValueError(f"expected a loss for each step, found {len(self.steps)} and {len(self.losses)}")
        return self


class TrainingRun(Part):
    """The encoder's training.

    Attributes:
        curves: by step.
        best_step: the step whose weights were kept.
        measure: what the curves' vertical axis is.
        few_labels: what was done where labels are few.
    """

    curves: tuple[Curve, ...]
    best_step: int | None = None
    measure: str = "loss"
    few_labels: FewLabelsReport | None = None


class StageRecord(Part):
    """What a stage took.

    Attributes:
        name: its name.
        seconds: wall time.
        peak_rss_bytes: the process's largest resident memory meanwhile.
        reused: built in an earlier run; the figures are those of that run.
        inside: its time is part of another stage's, so it stays out of the sum.
    """

    name: str
    seconds: Annotated[float, Field(ge=0)]
    peak_rss_bytes: NonNegativeInt | None = None
    reused: bool = False
    inside: bool = False
