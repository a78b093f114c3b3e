"""Which logit of which head is to be explained, and whether there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.config import Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.explain.load import LoadedEncoder
from retrieval.encoder.explain.spans import ReadText
from retrieval.encoder.units import TextUnits

# Kinds of head with a logit for each class.
CLASSIFYING: Final = ("multiclass", "token_tags")


@dataclass(frozen=True, kw_only=True)
class Question:
    """One logit.

    Attributes:
        task: whose head.
        texts: by kind, those of a row of the task: see `kinds_of`.
        label: class of a multiclass task, or tag, whose logit it is; None takes the one with the highest.
        unit: of a tag task, the number of the unit whose tag it is, from 1; None for every other kind.
    """

    task: str
    texts: Mapping[Kind, str]
    label: str | None = None
    unit: int | None = None


@dataclass(frozen=True, kw_only=True)
class TaggedUnit:
    """The unit of a text whose tag is explained.

    Attributes:
        number: among the text's units, from 1.
        start: its first character.
        end: the one after its last.
        token: position of its first token, whose state the head reads.
    """

    number: int
    start: int
    end: int
    token: int


def kinds_of(task: EncoderTask) -> tuple[Kind, ...]:
    """Return the kinds of text that a row of the task has, one of each: two of them where items meet users or texts."""
    if task.on == "pair":
        return ("user", "item")
    return ("text", "item") if task.kind == "contrastive" else (task.on,)


def task_of(encoder: LoadedEncoder, name: str) -> EncoderTask:
    """Return a task of the encoder.

    Raises:
        InvalidInputError: there is none of this name.
    """
    tasks = {task.name: task for task in encoder.model.tasks}
    if name not in tasks:
        raise InvalidInputError(unknown_name("task", name, tasks))
    return tasks[name]


def tagged_unit(task: EncoderTask, read: ReadText, number: int) -> TaggedUnit:
    """Return a unit of a text, and the token whose state gives it its tag.

    Args:
        task: of tags.
        read: the text.
        number: of the unit, from 1.

    Raises:
        InvalidInputError: the text has fewer units, or this one has no tag of its own.
    """
    units = TextUnits.of(read.text, task.unit, [(token.start, token.end) for token in read.tokens])
    count = len(units.token)
    if not 1 <= number <= count:
        raise InvalidInputError(f"unit: expected 1 to {count}, the {task.unit}s of the text, found {number}")
    start, end = units.span[number - 1].tolist()
    if not units.carries[number - 1]:
        why = "the text is cut off before it" if start >= read.read else "no token begins with it"
        raise InvalidInputError(
            f"unit {number}: expected a {task.unit} with a tag of its own, found {read.text[start:end]!r}: {why}"
        )
    return TaggedUnit(number=number, start=start, end=end, token=int(units.token[number - 1]))


def check_question(task: EncoderTask, question: Question, of: Kind, steps: int) -> None:
    """Refuse a question that the task has no logit for.

    Raises:
        InvalidInputError: other texts than a row of the task has, no such class, a unit too many or too few, no steps.
    """
    kinds = kinds_of(task)
    if set(question.texts) != set(kinds):
        found = ", ".join(sorted(question.texts)) or "none"
        raise InvalidInputError(f"task {task.name}: expected a text of each kind in {', '.join(kinds)}, found {found}")
    if of not in kinds:
        raise InvalidInputError(f"task {task.name}: expected tokens of a text of {' or '.join(kinds)}, found {of}")
    if question.label is not None and task.kind not in CLASSIFYING:
        raise InvalidInputError(
            f"task {task.name}: expected no label, which names a class of a multiclass task or a tag, found "
            f"{question.label!r} for a {task.kind} one"
        )
    if question.unit is None and task.kind == "token_tags":
        raise InvalidInputError(
            f"task {task.name}: expected the number of the {task.unit} whose tag is to be explained, found none"
        )
    if question.unit is not None and task.kind != "token_tags":
        raise InvalidInputError(
            f"task {task.name}: expected no unit, as its logit is of whole texts, found {question.unit}"
        )
    if question.label is not None and question.label not in task.classes:
        raise InvalidInputError(f"task {task.name}: {unknown_name('class', question.label, task.classes)}")
    if steps < 1:
        raise InvalidInputError(f"steps: expected at least 1, found {steps}")
