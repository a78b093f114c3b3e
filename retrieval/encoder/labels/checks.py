"""Whether what is asked for few labels fits the tasks; said before hours of training, not after."""

from __future__ import annotations

from collections.abc import Sequence

from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.labels.config import FewLabelsConfig

_BINARY = ("0", "1")


def classes_of(task: EncoderTask) -> tuple[str, ...]:
    """Return the classes of a multiclass task by code; those of a binary one are 0 and 1."""
    return task.classes if task.kind == "multiclass" else _BINARY


def check_few_labels(config: EncoderConfig, tasks: Sequence[EncoderTask]) -> None:
    """Check that each entry of `few_labels` is of a binary or multiclass task on texts, and names classes of it.

    Raises:
        InvalidInputError: naming the entry, what was expected and what was found.
    """
    known = {task.name: task for task in tasks}
    fits = {name: task for name, task in known.items() if task.on == "text" and task.kind in ("binary", "multiclass")}
    for name, own in config.few_labels.items():
        if name not in known:
            raise InvalidInputError(f"few_labels: {unknown_name('task', name, known)}")
        if name not in fits:
            raise InvalidInputError(
                f"few_labels.{name}: expected a binary or multiclass task on texts ({', '.join(fits) or 'none here'}), "
                f"found {known[name].kind} on {known[name].on}"
            )
        _check_classes(own, fits[name], config.hidden)


def _check_classes(own: FewLabelsConfig, task: EncoderTask, hidden: int) -> None:
    classes, where = classes_of(task), f"few_labels.{task.name}"
    named = {
        "prompt.words": () if own.prompt is None else own.prompt.words,
        "pseudo.by_class": () if own.pseudo is None else own.pseudo.by_class,
    }
    for line, names in named.items():
        for name in names:
            if name not in classes:
                raise InvalidInputError(f"{where}.{line}: {unknown_name('class', name, classes)}")
    if own.class_names is None:
        return
    if task.kind != "multiclass":
        raise InvalidInputError(f"{where}.class_names: expected a multiclass task, found {task.kind}")
    if 0 < hidden < 2 * len(classes):
        raise InvalidInputError(
            f"{where}.class_names: expected hidden 0, or two units for each of {len(classes)} classes, found {hidden}"
        )
