"""The workspace's `reply` section, and what a release keeps of it.

On the shipped sample's 126 test texts (one seed) the default thresholds gave 83 templates, of which 58 of the 61 that a
label tells of were right, and 7 times passages, right 4 times of 4. All depends on the encoder: an evaluation's report
shows the same for a release's own texts, and what other thresholds would give.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.tasks import Kind, TaskSpec
from infra.errors import InvalidInputError, unknown_name
from ranking.layout import REPLIES
from ranking.reply.templates import ReplyTemplate, placeholders
from ranking.tags import slot_names
from retrieval.snapshot import TITLE

# Which kind of task each line of the section names.
_KINDS: Final[Mapping[str, Kind]] = {
    "intent": "multiclass", "in_scope": "binary", "answers": "contrastive", "slots": "token_tags",
}  # fmt: skip
HAND_OVER: Final = "I can't answer that myself. I am handing over to a person."


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Thresholds(_Part):
    """What a reply needs; below it the next kind of reply is tried.

    Attributes:
        intent: least probability of the likeliest intent for its template.
        in_scope: least probability of being in scope; below it a person takes over at once.
        similarity: least cosine of a text and a passage.
        slot: least probability of a slot found in the text.
    """

    intent: float = Field(default=0.8, ge=0, le=1)
    in_scope: float = Field(default=0.5, ge=0, le=1)
    similarity: float = Field(default=0.5, ge=-1, le=1)
    slot: float = Field(default=0.5, ge=0, le=1)


class ReplyRules(_Part):
    """How a reply is chosen.

    Attributes:
        intent: the multiclass task on texts whose class has a template.
        in_scope: the binary task on texts that says whether a text is our business.
        answers: the contrastive task on texts whose items are the passages.
        slots: the tag task that finds templates' slots in the text.
        given: further slots, which the caller gives with a request because no text holds them.
        passage: the items' column that is sent as a passage; `title` is the item's short name.
        passages: most passages of one reply.
        thresholds: see there.
        hand_over: text of the reply where a person has to take over.
        log_turns: whether texts are logged, to train the next release; false writes none and reads none.
    """

    intent: str | None = None
    in_scope: str | None = None
    answers: str | None = None
    slots: str | None = None
    given: tuple[str, ...] = ()
    passage: str = TITLE
    passages: int = Field(default=3, ge=1, le=20)
    thresholds: Thresholds = Thresholds()
    hand_over: str = Field(default=HAND_OVER, min_length=1)
    log_turns: bool = True

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that predict something of the text itself."""
        return tuple(name for name in (self.intent, self.in_scope, self.slots) if name is not None)


class ReplyConfig(ReplyRules):
    """The workspace's section.

    Attributes:
        templates: the intent's reply, by intent, with `{slot}` placeholders; or the path of a CSV file with the columns
            `intent` and `reply`. None takes those of the source, if it has any.
    """

    templates: dict[str, ReplyTemplate] | str | None = None

    @model_validator(mode="after")
    def _says_how(self) -> Self:
        if self.intent is None and self.answers is None:
            raise ValueError("expected a task of intents (intent) or of answers (answers) at least, found neither")
        if self.intent is None and self.templates is not None:
            raise ValueError("expected a task of intents (intent) beside templates, found none")
        return self

    def check(self, tasks: Sequence[TaskSpec]) -> None:
        """Check that each task named is one of its kind on texts.

        Raises:
            InvalidInputError: it isn't; names the line and the nearest task.
        """
        for line, kind in _KINDS.items():
            name = getattr(self, line)
            known = [task.name for task in tasks if task.on == "text" and task.kind == kind]
            if name is not None and name not in known:
                raise InvalidInputError(f"reply.{line}: {unknown_name(f'{kind} task on texts', name, known)}")

    def replies(self, templates: Mapping[str, str]) -> Replies:
        """Return what a release keeps, with the templates read."""
        rules = {name: getattr(self, name) for name in ReplyRules.model_fields}
        return Replies.model_validate({**rules, "templates": dict(templates)})


class Replies(ReplyRules):
    """What a release keeps: the rules and every template.

    Attributes:
        templates: by intent.
    """

    templates: dict[str, ReplyTemplate]

    @classmethod
    def load(cls, release: Path) -> Self | None:
        """Return the replies of the release directory `release`; None where its workspace has no such section."""
        path = release / REPLIES
        return cls.model_validate_json(path.read_bytes()) if path.exists() else None

    def check(self, classes: Mapping[str, Sequence[str]], columns: Collection[str]) -> None:
        """Check the names that only the data knows.

        Args:
            classes: of each task named.
            columns: of the items.

        Raises:
            InvalidInputError: a template of an unknown intent, a placeholder that nothing fills, or no such column;
                names the nearest.
        """
        for intent, template in self.templates.items():
            assert self.intent is not None, "templates stand beside a task of intents"
            _check_known(f"reply.templates: task {self.intent}", "intent", [intent], classes[self.intent])
            found = () if self.slots is None else slot_names(self.slots, classes[self.slots])
            place = f"reply.templates.{intent}: neither in reply.given nor found by a tag task"
            _check_known(place, "slot", placeholders(template), (*found, *self.given))
        if self.answers is not None:
            _check_known("reply.passage: table items", "column", [self.passage], (TITLE, *columns))


def _check_known(place: str, kind: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise InvalidInputError(f"{place}: {unknown_name(kind, name, known)}")
