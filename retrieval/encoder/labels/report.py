"""What was done where labels are few, for a person to read; no torch here, because the evaluation report holds it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict

from retrieval.encoder.data import Bool

# Two-sided 95% of the normal distribution.
_Z = 1.96


class Cosines(BaseModel):
    """Mean cosine of pooled vectors.

    Attributes:
        same: of texts of one class.
        different: of texts of two classes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    same: float
    different: float


class WarmUpReport(BaseModel):
    """What the contrastive warm-up did, on the texts that it learnt from.

    Attributes:
        before, after: cosines of one sample of pairs.
        texts: with a label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: Cosines
    after: Cosines
    texts: int


class Agreement(BaseModel):
    """How often predictions over their thresholds were right on rows held out.

    Attributes:
        rows: held-out rows whose prediction reached its threshold.
        right: those of them whose label it was.
        share: right / rows; None where there is no row.
        at_least: lower end of the share's 95% interval (Wilson, 1927); 0 where there is no row. Three of three rows
            right still mean .44.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    right: int
    share: float | None
    at_least: float

    @classmethod
    def of(cls, right: Bool) -> Agreement:
        """Return the agreement of rows, bool `[n]`."""
        rows, count = len(right), int(right.sum())
        return cls(rows=rows, right=count, share=count / rows if rows else None, at_least=wilson_lower(count, rows))


class ClassReport(BaseModel):
    """Pseudo-labels of one class.

    Attributes:
        name: the class's.
        threshold: that was used.
        above: unlabelled rows that reached it.
        taken: after the cap.
        held_out: agreement on held-out rows that were predicted to be of this class.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    threshold: float
    above: int
    taken: int
    held_out: Agreement


class PseudoLabelReport(BaseModel):
    """What was taken and how safe it is.

    Attributes:
        unlabelled: rows that could have been taken.
        taken: rows that were.
        held_out: agreement over all classes.
        classes: in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unlabelled: int
    taken: int
    held_out: Agreement
    classes: tuple[ClassReport, ...]


class TaskPseudoLabels(BaseModel):
    """A task's pseudo-labels.

    Attributes:
        task: the task.
        judge: whose probabilities they rest on.
        found: what was taken and how safe it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    judge: Literal["prompt", "first training"]
    found: PseudoLabelReport


class FewLabelsReport(BaseModel):
    """What `encoder.few_labels` did.

    Attributes:
        warm_up: by task.
        pseudo: in the order in which the labels were given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    warm_up: dict[str, WarmUpReport] = {}
    pseudo: tuple[TaskPseudoLabels, ...] = ()


class GivenLabel(BaseModel):
    """One text that was given a label.

    Attributes:
        task: the task.
        text: the text.
        label: the class.
        confidence: its probability.
        held_out: it stops training instead of teaching, because the task has no other label to stop by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    text: str
    label: str
    confidence: float
    held_out: bool


def wilson_lower(right: int, rows: int) -> float:
    """Return the lower end of the 95% interval of a share (Wilson, 1927); 0 for no rows."""
    if rows == 0:
        return 0.0
    share, z2 = right / rows, _Z**2
    half = _Z * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    return max(0.0, (share + z2 / (2 * rows) - half) / (1 + z2 / rows))
