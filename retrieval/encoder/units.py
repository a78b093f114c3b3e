"""Where the units of a text, that tags are of, stand among its tokens: one answer for training, serving, explaining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from features.units import Unit, unit_spans

Bool = npt.NDArray[np.bool_]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextUnits:
    """The units of one text.

    Attributes:
        span: int32 `[units, 2]` first character of each unit and the one after its last, ascending.
        token: int64 `[units]` its first token; -1 where none was read, as behind the place where a text was cut off.
    """

    span: Int32
    token: Int64

    @classmethod
    def of(cls, text: str, unit: Unit, offsets: Sequence[tuple[int, int]], *, prefix: int = 0) -> Self:
        """Find a text's units among its tokens.

        Args:
            text: without the prefix of its kind.
            unit: what to look for.
            offsets: of each token the characters it stands for, in the text behind its prefix.
            prefix: characters of the prefix.
        """
        span = np.array(unit_spans(text, unit), np.int32).reshape(-1, 2)
        return cls(span=span, token=first_tokens(offsets, span + np.int32(prefix)))

    @property
    def carries(self) -> Bool:
        """Which units carry a tag, bool `[units]`; see `carriers`."""
        return carriers(self.token)


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTags:
    """What one task says of the units of one text.

    Attributes:
        units: where they stand.
        probabilities: float32 `[units, tags]`; NaN in the rows of units that carry no tag.
    """

    units: TextUnits
    probabilities: Float32


def first_tokens(offsets: Sequence[tuple[int, int]], spans: npt.NDArray[np.integer]) -> Int64:
    """Return the first token of each unit, int64 `[units]`; -1 where no token stands for any of its characters.

    Args:
        offsets: of each token the characters it stands for, in the order of the text; a special token stands for none.
        spans: int `[units, 2]` of the same text, ascending.
    """
    table = np.asarray(offsets, np.int64).reshape(-1, 2)
    real = np.flatnonzero(table[:, 1] > table[:, 0])
    starts, ends = table[real].T
    places = np.searchsorted(ends, spans[:, 0], side="right")
    inside = places < len(real)
    inside[inside] = starts[places[inside]] < spans[inside, 1]
    found = np.full(len(spans), -1, np.int64)
    found[inside] = real[places[inside]]
    return found


def carriers(tokens: Int64) -> Bool:
    """Tell which units carry a tag, given the first token of each: those without one don't.

    Nor does a unit that shares its first token with the one before it, whose state speaks of that one.
    """
    carrying: Bool = (tokens >= 0) & (np.diff(tokens, prepend=-1) != 0)
    return carrying
