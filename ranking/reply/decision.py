"""Which reply a text gets, decided from what the release found; nothing here predicts or retrieves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ranking.contract import ClassPrediction
from ranking.reply.config import Replies
from ranking.reply.contract import ReplyKind, ReplySource
from ranking.reply.templates import filled, missing_slots


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a text.

    Attributes:
        intent: the likeliest; None without a task of intents.
        in_scope: probability; None without such a task.
        slots: by name.
        passages: items near it, best first.
    """

    intent: ClassPrediction | None
    in_scope: float | None
    slots: Mapping[str, str]
    passages: Sequence[ReplySource]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The reply.

    Attributes:
        kind: which.
        text: what to send.
        missing_slots: what the sure intent's template lacked.
        sources: the passages of the text.
    """

    kind: ReplyKind
    text: str
    missing_slots: tuple[str, ...] = ()
    sources: tuple[ReplySource, ...] = ()


def decide(replies: Replies, found: Evidence) -> Decision:
    """Return the first reply that the evidence is enough for.

    Out of scope, a person takes over whatever else was found. Then the intent's template is sent, if the intent is sure
    and every slot filled; else the passages that are near enough; else a person takes over. A sure intent whose slots
    are missing is not asked about here: the decision names them, and the caller, who may look them up without asking
    anybody, sends the request again with them.
    """
    least = replies.thresholds
    if found.in_scope is not None and found.in_scope < least.in_scope:
        return Decision(kind="hand_over", text=replies.hand_over)
    missing: tuple[str, ...] = ()
    if found.intent is not None and found.intent.probability >= least.intent:
        template = replies.templates.get(found.intent.label)
        if template is not None:
            missing = missing_slots(template, found.slots)
            if not missing:
                return Decision(kind="template", text=filled(template, found.slots))
    near = tuple(passage for passage in found.passages if passage.score >= least.similarity)[: replies.passages]
    if near:
        text = "\n\n".join(passage.text for passage in near)
        return Decision(kind="passages", text=text, missing_slots=missing, sources=near)
    return Decision(kind="hand_over", text=replies.hand_over, missing_slots=missing)
