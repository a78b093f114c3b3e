"""What `/v1/reply` and `/v1/feedback` take and give; names are part of the published contract."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ranking.contract import ClassPrediction, Id, Text

ReplyKind = Literal["template", "passages", "hand_over"]

# Why a reply is less than it could be; each is counted, none is an error.
ReplyDegraded = Literal[
    "encoder_unavailable",  # the text could not be read: a person takes over
    "phrasing_unavailable",  # no generative model answered: the text is as it was composed
    "phrasing_unfaithful",  # it left out a slot's value or made up a number: the text is as composed
    "turn_not_logged",  # the log could not be written: feedback on this request will not be found
]

Slot = Annotated[str, Field(min_length=1, max_length=1_000)]


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReplyRequest(_Contract):
    """`POST /v1/reply`.

    Attributes:
        text: what the person wrote.
        conversation_id: the caller's own; logged with the turn.
        user_id: the same.
        filter: over the items that may be passages, as in `/v1/candidates`.
        slots: what the caller knows, by slot; it goes before what the text says.
    """

    text: Text
    conversation_id: Id | None = None
    user_id: Id | None = None
    filter: str | None = None
    slots: dict[Id, Slot] = Field(default_factory=dict, max_length=200)


class ReplySource(_Contract):
    """One passage of a reply.

    Attributes:
        item_id: the item.
        title: its short name.
        score: its cosine with the text.
        text: what of it was sent.
    """

    item_id: str
    title: str
    score: float
    text: str


class ReplyResponse(_Contract):
    """The answer of `/v1/reply`.

    Attributes:
        request_id: what feedback names.
        release: id of the release that answered.
        kind: an intent's template, retrieved passages, or that a person has to take over.
        text: what to send.
        intent: the likeliest, sure or not; absent without a task of intents.
        in_scope: probability that the text is our business; absent without such a task.
        slots: by name, those given and those found in the text.
        missing_slots: what the likeliest intent's template lacked, so that it was not sent; ask for them, or look them
            up, and send the request again with `slots`.
        sources: the passages of the text, best first.
        phrased: whether a generative model put it into words.
        degraded: the fallbacks that were used; empty when none was.
    """

    request_id: str
    release: str
    kind: ReplyKind
    text: str
    intent: ClassPrediction | None = None
    in_scope: float | None = None
    slots: dict[str, str] = Field(default_factory=dict)
    missing_slots: list[str] = Field(default_factory=list)
    sources: list[ReplySource] = Field(default_factory=list)
    phrased: bool = False
    degraded: list[ReplyDegraded] = Field(default_factory=list)


class FeedbackRequest(_Contract):
    """`POST /v1/feedback`: what a person says of a turn; the next release learns it.

    Attributes:
        request_id: of the reply.
        intent: what the text wanted, one of the release's intents.
        item_id: the item that answers it.
    """

    request_id: Id
    intent: Id | None = None
    item_id: Id | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.intent is None and self.item_id is None:
            raise ValueError("expected intent or item_id, found neither")
        return self


class FeedbackResponse(_Contract):
    """The answer once feedback is durable."""

    request_id: str
