"""Two releases on the same held-out texts."""

from __future__ import annotations

from collections.abc import Iterator

from flows.beside.users import meaning
from flows.report import BesideRow
from flows.report.texts import METRICS
from flows.stages.text_metrics import beside_rows
from flows.stages.text_tasks import HeldOutTexts, labelled_tasks
from ranking.predictor import Predictor


def text_rows(
    candidate: Predictor, held: HeldOutTexts, current: Predictor, held_current: HeldOutTexts
) -> Iterator[BesideRow]:
    """Yield the metrics of every task on texts that both releases declare alike.

    An answer that a release may not give counts against it.

    Args:
        candidate: one release.
        held: the texts, encoded by it.
        current: the other.
        held_current: the same texts, encoded by that one.
    """
    others = {task.spec.name: task for task in labelled_tasks(current, held_current)}
    for task in labelled_tasks(candidate, held):
        other = others.get(task.spec.name)
        if other is not None and meaning(other.spec) == meaning(task.spec):
            yield from beside_rows(task.spec.name, task.statistics(), other.statistics(), len(task.vectors))


def lacking_texts(candidate: Predictor, current: Predictor) -> tuple[str, ...]:
    """Return the metrics of the candidate's tasks on texts that the current release has no counterpart of."""
    known = {task.name: meaning(task) for task in current.tasks}
    new = [task for task in candidate.tasks if task.on == "text" and known.get(task.name) != meaning(task)]
    return tuple(f"{metric}.{task.name}" for task in new for metric in METRICS.get(task.kind, ()))
