"""An estimate with its interval: what every section of a report is made of."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Part(BaseModel):
    """A part of a report: frozen, and strict about its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(Part):
    """An estimate.

    Attributes:
        value: the estimate.
        low: lower end of its 95% interval; None where nothing was sampled (a share of the whole catalogue, say).
        high: upper end.
        n: rows (users, pairs, items) it was taken over.
    """

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: NonNegativeInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"expected both ends of an interval or neither, found low={self.low}, high={self.high}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"expected low <= high, found {self.low} > {self.high}")
        return self

    @property
    def verdict(self) -> Literal["above", "below", "level"]:
        """Where the interval lies against zero; without an interval nothing can be told apart from zero."""
        if self.low is None or self.high is None:
            return "level"
        return "above" if self.low > 0 else "below" if self.high < 0 else "level"
