"""Tasks on texts: what the served encoder says of texts that trained nothing, beside what a constant would say."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt

from flows.report.figures import Figure, Part, Probability
from flows.report.tasks import ReliabilityBin
from retrieval.encoder.layout import TaskKind

TextMetric = Literal[
    "accuracy",
    "macro_f1",
    "micro_f1",
    "auc",
    "log_loss",
    "calibration",
    "precision",
    "recall",
    "precision_of_0",
    "recall_of_0",
    "r2",
    "rmse",
    "mae",
    "recall_at_1",
    "recall_at_5",
    "mrr",
]
# Of each kind of task, in the order to show.
METRICS: Final[dict[TaskKind, tuple[TextMetric, ...]]] = {
    "multiclass": ("accuracy", "macro_f1", "log_loss"),
    "binary": ("auc", "log_loss", "calibration", "precision", "recall", "precision_of_0", "recall_of_0"),
    "regression": ("r2", "rmse", "mae"),
    "token_tags": ("micro_f1",),
    "contrastive": ("recall_at_1", "recall_at_5", "mrr"),
}
LOWER_IS_BETTER: Final[frozenset[TextMetric]] = frozenset({"log_loss", "rmse", "mae"})
# More classes than this can't be told apart on a drawing as wide as a phone; their worst confusions are listed.
DRAWN_CLASSES: Final = 20


class TextFigure(Part):
    """One metric of a task.

    Attributes:
        metric: accuracy; F1 of each class, averaged over classes (macro), or over all units of the tags but O (micro);
            AUC; log loss in nats; calibration, mean prediction over mean label; precision and recall of label 1 and of
            label 0, decided at one half; R2; root mean squared and mean absolute error; share of texts whose answering
            item is the first, or among the first five, of all eligible items; mean reciprocal rank of that item.
        figure: its value, with its 95% bootstrap interval over texts.
        constant: what the best constant of the training labels has: the most frequent class or tag, the classes'
            shares, the mean, the items in the order of how many texts each answers. None where nothing trained has a
            label.
    """

    metric: TextMetric
    figure: Figure
    constant: FiniteFloat | None


class Confusion(Part):
    """How often texts of one class (a row) were given another (a column)."""

    classes: tuple[str, ...]
    counts: tuple[tuple[NonNegativeInt, ...], ...]


class ConfusedClasses(Part):
    """Texts of one class that were given another, and their share of that class's texts."""

    label: str
    predicted: str
    n: PositiveInt
    share: Probability


class TextScores(Part):
    """One task on texts.

    Attributes:
        task: its name.
        kind: of the task.
        rows: which texts it was measured on.
        n: how many of them have a label.
        figures: of `METRICS`, those that are defined.
        reliability: of a binary task, bins by rising prediction.
        confusion: of a multiclass task, where it has few classes.
        confused: of a multiclass task, the most frequent confusions.
    """

    task: str
    kind: TaskKind
    rows: str
    n: PositiveInt
    figures: tuple[TextFigure, ...]
    reliability: tuple[ReliabilityBin, ...] = ()
    confusion: Confusion | None = None
    confused: tuple[ConfusedClasses, ...] = ()

    def figure(self, metric: TextMetric) -> Figure | None:
        """Return a metric's figure; None where it is undefined."""
        return next((row.figure for row in self.figures if row.metric == metric), None)
