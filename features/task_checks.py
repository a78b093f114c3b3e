"""What a task's parts may say together, and which tables it needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from features.tables import EVENTS_TABLE, ITEMS_TABLE, TEXTS_TABLE

if TYPE_CHECKING:
    from features.tasks import TaskSpec


def contradictions(task: TaskSpec) -> Iterator[str]:
    """Yield each part that another one contradicts: what it needs and what was found."""
    yield from _wrong_rows(task)
    yield from _wrong_kind(task)
    yield from _wrong_classes(task)


def needed_tables(task: TaskSpec) -> tuple[str, ...]:
    """Return the tables without which there is nothing to learn a task from.

    Users and items are read as of the cuts of events, also where their labels stand in a column.
    """
    if task.on != "text":
        return (EVENTS_TABLE,)
    return (TEXTS_TABLE, ITEMS_TABLE) if task.kind == "contrastive" else (TEXTS_TABLE,)


def lacking(task: TaskSpec, tables: Collection[str]) -> str | None:
    """Return what a task needs and a source of these tables lacks, as an error says it; None where all is there."""
    missing = [name for name in needed_tables(task) if name not in tables]
    if not missing:
        return None
    kind = f"{task.kind} on {task.on}"
    return (
        f"task {task.name}: {kind} needs {' and '.join(missing)}, found a source with {', '.join(sorted(tables))} alone"
    )


def _wrong_rows(task: TaskSpec) -> Iterator[str]:
    """Yield what label, space, items and parent say that the task's rows contradict."""
    on, label, space = task.on, task.label.type, task.space.type
    if on == "text" and label != "column":
        yield f"on: text needs a label of type column, found {label}"
    if on == "pair" and label == "column":
        yield "a label of type column needs on: text, user or item, found pair"
    if on == "pair" and label == "absence":
        yield "a label of type absence needs on: user or item, found pair"
    if on != "pair" and space != "all":
        yield f"space {space} needs on: pair, found {on}"
    if label == "column" and on != "item" and task.items is not None:
        yield f"items needs on: item, or a label from events, found on: {on} with a label of type column"
    if task.parent is not None and task.kind != "binary":
        yield f"parent needs kind binary, found {task.kind}"
    if task.energy and (task.kind, on) != ("binary", "text"):
        yield f"energy needs kind binary on: text, found {task.kind} on: {on}"


def _wrong_kind(task: TaskSpec) -> Iterator[str]:
    """Yield what the task's kind contradicts."""
    kind, on, label = task.kind, task.on, task.label.type
    place = (on, label, task.space.type)
    if kind == "contrastive" and place not in (("pair", "event", "all"), ("text", "column", "all")):
        expected = "on: pair with a label of type event and space all, or on: text with a label of type column"
        yield f"kind contrastive needs {expected}, found {', '.join(place)}"
    if kind == "binary" and label == "value":
        yield "kind binary needs a label of type event, absence or column, found value"
    if kind == "regression" and label in ("event", "absence"):
        yield f"kind regression needs a label of type value or column, found {label}"
    if kind in ("multiclass", "token_tags") and label != "column":
        yield f"kind {kind} needs a label of type column, found {label}"
    if kind == "token_tags" and on != "text":
        yield f"kind token_tags needs on: text, found {on}"
    if task.label.type == "column" and task.label.unit != "word" and kind != "token_tags":
        yield f"unit {task.label.unit} needs kind token_tags, found {kind}"


def _wrong_classes(task: TaskSpec) -> Iterator[str]:
    if task.classes is None:
        return
    if task.kind not in ("multiclass", "token_tags"):
        yield f"classes needs kind multiclass or token_tags, found {task.kind}"
    if len(task.classes) < 2 or len(set(task.classes)) < len(task.classes):
        yield f"classes: expected at least two distinct names, found {list(task.classes)}"
