"""Tasks on pairs and users: each scorer's probabilities on held-out rows, and what families of signals are worth."""

from __future__ import annotations

from pydantic import NonNegativeInt

from flows.report.figures import Figure, Part, Probability


class ReliabilityBin(Part):
    """Rows of like prediction: mean predicted probability against the observed share of positives."""

    predicted: Probability
    observed: Probability
    n: NonNegativeInt


class TaskScores(Part):
    """One scorer's quality on one task's held-out rows; None where it is undefined (AUC with one class only).

    Attributes:
        task: the task's name.
        scorer: encoder head, GBDT, blend ...
        auc: area under the ROC curve.
        log_loss: mean negative log likelihood, in nats.
        calibration: mean prediction / mean label; 1 is calibrated in the large.
        ece: expected calibration error over the bins of `reliability`.
        n: rows.
        positives: rows whose label is 1.
        reliability: the bins, by rising prediction.
    """

    task: str
    scorer: str
    auc: Figure | None
    log_loss: Figure | None
    calibration: Figure | None
    ece: Figure | None
    n: NonNegativeInt
    positives: NonNegativeInt
    reliability: tuple[ReliabilityBin, ...] = ()


class AblationRow(Part):
    """What one family of signals is worth to the blend, in log loss (lower is better).

    Attributes:
        task: the task.
        family: the family (encoder heads, collaborative filtering, GBDT).
        alone: the blend of this family only.
        without: the blend of all others.
        worth: paired `without - full`; above zero means the family helps.
        full: the whole blend.
    """

    task: str
    family: str
    alone: Figure | None
    without: Figure | None
    full: Figure
    worth: Figure | None = None
