"""Text vectors as the sequence model takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from features.schema import Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class TextScale:
    """The middle and spread of text vectors.

    Sentence encoders put all texts into a narrow cone: without its middle they differ by what they say.

    Attributes:
        mean: float32 `[dim]`; `[0]` for a model without texts.
        deviation: of all values about their column's mean.
    """

    mean: Float32
    deviation: float

    @classmethod
    def of(cls, texts: Float32) -> Self:
        """Measure float32 `[n, dim]`."""
        mean = texts.mean(0)
        spread = float((texts - mean).std()) if texts.size else 0.0
        return cls(mean=mean, deviation=spread or 1.0)

    def standardised(self, texts: Float32) -> Float32:
        """Return float32 `[n, dim]` less the mean, over the deviation."""
        moved: Float32 = ((texts - self.mean) / self.deviation).astype("float32")
        return moved
