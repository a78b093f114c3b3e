"""The workspace's `monitor` section: which texts count as negative, in which series, and how often it may cry wolf.

    monitor:
      task: sentiment
      negative: [negative]
      by: [topic, target]
      bucket_hours: 24

Light: the file is read by every command.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.tasks import TaskSpec
from infra.errors import InvalidInputError, unknown_name

HOURS_PER_DAY = 24
Rhythm = Literal["none", "day", "week"]


class DetectionConfig(BaseModel):
    """When a series' negative share is out of its expected range (`flows.monitor.detection` has the method).

    Attributes:
        bucket_hours: length of a bucket; buckets start at multiples of it after midnight UTC.
        history_days: how far back a series' own past is read.
        rhythm: whether the expected share follows the hour of the day, or of the week. It needs more history.
        min_texts: fewest texts of a bucket that can alone raise an alert; fewer still count towards a drift.
        min_history: fewest texts of a series' history; a series with fewer is not tested.
        false_alarms: alerts per 1,000 hours that may be false, over all series together.
        shift: by which factor the odds of a negative text rise in the drift that is looked for.
        cool_down_hours: after an alert, how long the series raises no other.
        adapt_hours: how long a bucket that is out of its range, or of a series that cools down, is left out of the
            history; then it counts as the new normal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket_hours: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 1
    history_days: int = Field(default=28, ge=1, le=366)
    rhythm: Rhythm = "none"
    min_texts: int = Field(default=5, ge=1)
    min_history: int = Field(default=30, ge=1)
    false_alarms: float = Field(default=1.0, gt=0, le=1000)
    shift: float = Field(default=3.0, gt=1)
    cool_down_hours: int = Field(default=24, ge=0)
    adapt_hours: int = Field(default=168, ge=0)

    @property
    def history(self) -> int:
        """Length of the history in buckets."""
        return self.history_days * HOURS_PER_DAY // self.bucket_hours

    @property
    def cool_down(self) -> int:
        """Buckets after an alert that raise no other."""
        return -(-self.cool_down_hours // self.bucket_hours)

    @property
    def adapt(self) -> int:
        """Buckets for which one out of its range is left out of the history."""
        return -(-self.adapt_hours // self.bucket_hours)

    @property
    def places(self) -> int:
        """Buckets of one round of the rhythm."""
        days = {"none": 0, "day": 1, "week": 7}[self.rhythm]
        return max(1, days * HOURS_PER_DAY // self.bucket_hours)

    @model_validator(mode="after")
    def _normal_is_seen(self) -> Self:
        if self.adapt_hours >= self.history_days * HOURS_PER_DAY:
            raise ValueError(
                f"adapt_hours: expected fewer than the {self.history_days * HOURS_PER_DAY} hours of the history, "
                f"found {self.adapt_hours}"
            )
        return self


class MonitorConfig(DetectionConfig):
    """What is watched.

    Attributes:
        task: on texts, whose answer tells negative texts from others.
        negative: of a multiclass task, the classes that are negative.
        below: of a regression or binary task, a text whose number is less is negative.
        above: likewise, one whose number is greater.
        by: groupings: names of multiclass tasks on texts, or columns of the texts. Each value of one is a series, and
            so are all texts together.
        wait_hours: after a bucket's end, how long late texts are waited for before it is judged.
        webhook_hours: an alert of a bucket that ended longer ago is written and not posted: a first run reads the past.
    """

    task: str
    negative: tuple[str, ...] = ()
    below: Annotated[float, Field(allow_inf_nan=False)] | None = None
    above: Annotated[float, Field(allow_inf_nan=False)] | None = None
    by: tuple[str, ...] = ()
    wait_hours: int = Field(default=0, ge=0)
    webhook_hours: int = Field(default=72, ge=1)

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [name for name in ("negative", "below", "above") if getattr(self, name) not in (None, ())]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of negative, below and above, found {' and '.join(given) or 'none'}"
            )
        if len(set(self.by)) != len(self.by):
            raise ValueError(f"by: expected unique names, found {', '.join(self.by)}")
        return self

    def check(self, tasks: Sequence[TaskSpec]) -> None:
        """Check that the section's tasks are among the workspace's, and of a kind that can be read this way.

        Raises:
            InvalidInputError: naming the key, what was expected and what was found.
        """
        on_text = {task.name: task for task in tasks if task.on == "text"}
        if self.task not in on_text:
            raise InvalidInputError(f"section monitor: task: {unknown_name('task on texts', self.task, on_text)}")
        task = on_text[self.task]
        kinds = ("multiclass",) if self.negative else ("regression", "binary")
        if task.kind not in kinds:
            rule = "negative" if self.negative else "below or above"
            raise InvalidInputError(
                f"section monitor: {rule}: expected task {task.name} to be {' or '.join(kinds)}, found {task.kind}"
            )
        for name in self.negative if task.classes else ():
            if name not in (task.classes or ()):
                known = task.classes or ()
                raise InvalidInputError(f"section monitor: negative: {unknown_name('class', name, known)}")
        for name in self.by:
            if name in on_text and on_text[name].kind != "multiclass":
                raise InvalidInputError(
                    f"section monitor: by: expected multiclass tasks or columns of the texts, found {name}: "
                    f"{on_text[name].kind}"
                )
