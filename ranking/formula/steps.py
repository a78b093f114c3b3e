"""A formula as steps on a stack, so that neither reading nor computing one recurses, and their computation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranking.formula.functions import FUNCTIONS, OPERATORS

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Push:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Load:
    """A name's values; `start` is the position of its first character, counted from 0."""

    name: str
    start: int


@dataclass(frozen=True, slots=True)
class Apply:
    """A function or an operator of the last so many values."""

    name: str
    arguments: int


Step = Push | Load | Apply


@dataclass(frozen=True, slots=True)
class Formula:
    """A parsed formula: the text as it was given, and its steps."""

    text: str
    steps: tuple[Step, ...]

    @property
    def names(self) -> tuple[Load, ...]:
        """What it reads, each name where it stands first."""
        first: dict[str, Load] = {}
        for step in self.steps:
            if isinstance(step, Load):
                first.setdefault(step.name, step)
        return tuple(first.values())

    def compute(self, columns: Mapping[str, Float64], n: int) -> Float64:
        """Return the formula's value in each row, float64 `[n]`; NaN where it has none.

        A missing value is missing in all that is made of it but by `coalesce`. So is a result that is no number: 1 / 0,
        log 0, what overflows.

        Args:
            columns: every name of the formula -> float64 `[n]`, NaN where missing.
            n: rows.
        """
        stack: list[Float64] = []
        with np.errstate(all="ignore"):
            for step in self.steps:
                match step:
                    case Push(value):
                        stack.append(np.array(value))
                    case Load(name):
                        stack.append(columns[name])
                    case Apply(name, count):
                        compute = OPERATORS[name] if name in OPERATORS else FUNCTIONS[name].compute
                        arguments = stack[-count:]
                        del stack[-count:]
                        stack.append(compute(*arguments))
        found = np.broadcast_to(stack[0], n)
        return np.where(np.isfinite(found), found, np.nan)
