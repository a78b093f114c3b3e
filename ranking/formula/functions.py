"""What a formula may compute."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

# More arguments than a text of the greatest length has.
_ANY: Final = 1_000


@dataclass(frozen=True)
class Function:
    """One function.

    Attributes:
        compute: from float64 arrays that broadcast to one such.
        arguments: how many it takes, at least and at most.
    """

    compute: Callable[..., Float64]
    arguments: tuple[int, int]


def _coalesce(*values: Float64) -> Float64:
    """Return the first of the values that is there."""
    return functools.reduce(lambda first, other: np.where(np.isnan(first), other, first), values)


def _least(*values: Float64) -> Float64:
    return functools.reduce(np.minimum, values)


def _most(*values: Float64) -> Float64:
    return functools.reduce(np.maximum, values)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "abs": Function(np.abs, (1, 1)),
    "coalesce": Function(_coalesce, (2, _ANY)),
    "exp": Function(np.exp, (1, 1)),
    "log": Function(np.log, (1, 1)),
    "max": Function(_most, (2, _ANY)),
    "min": Function(_least, (2, _ANY)),
    "sqrt": Function(np.sqrt, (1, 1)),
}
OPERATORS: Final[Mapping[str, Callable[..., Float64]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "negate": np.negative,
}
