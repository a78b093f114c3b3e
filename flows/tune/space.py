"""A search's space around the workspace's own configuration, and the configuration that a point of it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from pydantic import BaseModel

from flows.tune.config import Range, Scalar, TuneConfig, is_count, option_of
from infra.errors import InvalidInputError
from retrieval.encoder.config import EncoderConfig

# A quarter to four times the others' importance: beyond that a task is as good as alone, or absent.
WEIGHT_RANGE: Final = Range(low=0.25, high=4.0, log=True)
WEIGHTS: Final = "balance.weights"
# What decides between tasks: a single task has nothing of it.
_BETWEEN: Final = ("balance.", "batch.task_exponent")
# Digits of a drawn number; a fourth makes no difference that three seeds could show.
_DIGITS: Final = 3

Point = Mapping[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One option of a search; its values hold the workspace's own.

    Attributes:
        key: dotted, below `encoder`.
        own: value in the workspace.
        values: choices, or a range.
        count: of whole numbers.
    """

    key: str
    own: Scalar
    values: Range | tuple[Scalar, ...]
    count: bool = False

    @classmethod
    def around(cls, key: str, own: Scalar, values: Range | tuple[Scalar, ...], *, count: bool) -> Self:
        """Widen the values by the workspace's own.

        Raises:
            InvalidInputError: the own value can't lie in a range of this kind.
        """
        if not isinstance(values, Range):
            return cls(key=key, own=own, values=tuple(dict.fromkeys((*values, own))), count=count)
        if isinstance(own, bool) or not isinstance(own, int | float) or (values.log and own <= 0):
            wanted = "a number above 0" if values.log else "a number"
            raise InvalidInputError(
                f"tune.space.{key}: expected {wanted} as the workspace's own encoder.{key}, which the range is widened "
                f"to, found {own!r}; list choices instead"
            )
        widened = values.model_copy(update={"low": min(values.low, own), "high": max(values.high, own)})
        return cls(key=key, own=own, values=widened, count=count)

    def settle(self, drawn: float) -> Scalar:
        """Return a drawn number as it is run and written: the own one exactly, another with three digits."""
        return self.own if drawn == self.own else float(f"{drawn:.{_DIGITS}g}")


@dataclass(frozen=True, kw_only=True)
class Space:
    """What one side of a comparison searches.

    Attributes:
        dimensions: options of the encoder.
        weights: the tasks' importances, where they are searched.
    """

    dimensions: tuple[Dimension, ...]
    weights: tuple[Dimension, ...] = ()

    @classmethod
    def around(cls, config: TuneConfig, encoder: EncoderConfig, tasks: Sequence[str]) -> Self:
        """Return the space of a model of these tasks.

        Args:
            config: what may change.
            encoder: the workspace's own configuration for these tasks.
            tasks: for a single one, options that decide between tasks are left out; a task without importance keeps
                none.

        Raises:
            InvalidInputError: an own value that its range can't be widened to, or an option in a section that the
                workspace leaves out.
        """
        alone = len(tasks) == 1
        keys = [key for key in config.space if not (alone and key.startswith(_BETWEEN))]
        importance = {task: encoder.balance.weights.get(task, 1.0) for task in tasks}
        searched = [] if alone or not config.weights else [task for task, weight in importance.items() if weight > 0]
        return cls(
            dimensions=tuple(
                Dimension.around(key, _own(encoder, key), config.space[key], count=is_count(option_of(key)))
                for key in keys
            ),
            weights=tuple(
                Dimension.around(f"{WEIGHTS}.{task}", importance[task], WEIGHT_RANGE, count=False) for task in searched
            ),
        )

    @property
    def own(self) -> dict[str, Scalar]:
        """The workspace's point."""
        return {dimension.key: dimension.own for dimension in (*self.dimensions, *self.weights)}


def configured(encoder: EncoderConfig, point: Point) -> EncoderConfig:
    """Return the configuration with these values by dotted key.

    Raises:
        ValidationError: the values contradict each other.
    """
    content = encoder.model_dump()
    for key, value in point.items():
        *sections, name = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[name] = value
    return EncoderConfig.model_validate(content)


def shortened(point: Point) -> dict[str, Scalar]:
    """Return a point without importances of 1, which a task that is left out has anyway."""
    return {key: value for key, value in point.items() if not (key.startswith(f"{WEIGHTS}.") and value == 1)}


def nested(point: Point) -> dict[str, object]:
    """Return values by dotted key as the mapping that a workspace file holds them in."""
    content: dict[str, object] = {}
    for key in sorted(point):
        *sections, name = key.split(".")
        place = content
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict)
            place = inner
        place[name] = point[key]
    return content


def _own(encoder: EncoderConfig, key: str) -> Scalar:
    value: object = encoder
    for name in key.split("."):
        if not isinstance(value, BaseModel):
            raise InvalidInputError(
                f"tune.space.{key}: expected encoder.{key.rsplit('.', 1)[0]} in the workspace, found none to search in"
            )
        value = getattr(value, name)
    if value is not None and not isinstance(value, str | bool | int | float):
        raise InvalidInputError(
            f"tune.space.{key}: expected an option that holds one value, found {type(value).__name__} in encoder.{key}"
        )
    return value
