"""Replies and feedback, from whatever release is in service when a request arrives; the routes only call these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from features.turn_log import Turn, TurnFeedback, TurnLog, TurnLogUnavailableError
from infra.errors import InvalidInputError, UnavailableError, unknown_name
from infra.watcher import Loaded
from ranking.answers import LoadedRelease, retriever_of
from ranking.reply.config import Replies
from ranking.reply.contract import (
    FeedbackRequest,
    FeedbackResponse,
    ReplyDegraded,
    ReplyRequest,
    ReplyResponse,
    ReplySource,
)
from ranking.reply.decision import Decision, Evidence, decide
from ranking.reply.evidence import passages, read_evidence
from ranking.reply.phrasing import Phraser, UnfaithfulPhrasingError
from retrieval.contract import Limits
from retrieval.parts import MissingPartError

if TYPE_CHECKING:
    from infra.telemetry import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Replier:
    """Replies to texts.

    Attributes:
        turns: where turns are logged; None in a service without a workspace's folder.
        phraser: the generative model; None sends replies as they are composed.
        metrics: counts fallbacks and times the parts.
    """

    turns: TurnLog | None
    phraser: Phraser | None
    metrics: Metrics

    def reply(
        self, loaded: Loaded[LoadedRelease], request: ReplyRequest, request_id: str, now: datetime
    ) -> ReplyResponse:
        """Answer `/v1/reply`.

        Raises:
            MissingPartError: the release holds no replies.
            FilterError: the filter is none, or doesn't fit the items.
        """
        replies = _replies_of(loaded)
        degraded: list[ReplyDegraded] = []
        found = self._evidence(loaded, replies, request, degraded, now)
        decision = decide(replies, found)
        text, phrased = self._phrase(request, found, decision, degraded)
        answer = ReplyResponse(
            request_id=request_id,
            release=loaded.release_id,
            kind=decision.kind,
            text=text,
            intent=found.intent,
            in_scope=found.in_scope,
            slots=dict(found.slots),
            missing_slots=list(decision.missing_slots),
            sources=list(decision.sources),
            phrased=phrased,
        )
        if replies.log_turns and self.turns is not None:
            self._log(self.turns, request, answer, now, degraded)
        self.metrics.count_degraded(degraded)
        log.info("replied", kind=answer.kind, degraded=degraded)
        return answer.model_copy(update={"degraded": degraded})

    def feedback(self, loaded: Loaded[LoadedRelease], request: FeedbackRequest, now: datetime) -> FeedbackResponse:
        """Answer `/v1/feedback`, once what it says is durable.

        Raises:
            MissingPartError: the release holds no replies, logs no turns, or has no task that could learn this.
            InvalidInputError: no such intent; names the nearest.
            UnknownItemError: the release does not hold `item_id`.
            TurnNotFoundError: no turn of that request is logged.
            TurnLogUnavailableError: the log can't be written.
        """
        replies = _replies_of(loaded)
        if self.turns is None or not replies.log_turns:
            raise MissingPartError(
                f"release {loaded.release_id}: expected turns to be logged, found logging turned off"
            )
        if request.intent is not None:
            _check_intent(loaded, replies, request.intent)
        if request.item_id is not None:
            if replies.answers is None:
                raise MissingPartError(f"release {loaded.release_id}: expected a task of answers, found none")
            retriever_of(loaded).value.position(request.item_id)
        self.turns.give(
            TurnFeedback(request_id=request.request_id, intent=request.intent, item_id=request.item_id, timestamp=now)
        )
        return FeedbackResponse(request_id=request.request_id)

    def _evidence(
        self, loaded: Loaded[LoadedRelease], replies: Replies, request: ReplyRequest, degraded: list[ReplyDegraded],
        now: datetime,
    ) -> Evidence:  # fmt: skip
        """Return what one pass of the encoder tells of the text, and the passages near it."""
        predictor = loaded.value.predictor
        heads = predictor.heads
        assert heads is not None, "replies were checked against the release's heads"
        try:
            with self.metrics.timed("texts"):
                read = predictor.texts.read([request.text], [] if replies.slots is None else [replies.slots])
        except UnavailableError as error:
            log.warning("encoder_unavailable", error=str(error))
            degraded.append("encoder_unavailable")
            return Evidence(intent=None, in_scope=None, slots=request.slots, passages=())
        (found,) = read_evidence(heads, replies, [request.text], read)
        near: Sequence[ReplySource] = ()
        if replies.answers is not None:
            with self.metrics.timed("passages"):
                near = passages(
                    retriever_of(loaded).value, read.vectors[0], replies, Limits(filter=request.filter),
                    now=now,
                )  # fmt: skip
        return replace(found, passages=near, slots={**found.slots, **request.slots})

    def _phrase(
        self, request: ReplyRequest, found: Evidence, decision: Decision, degraded: list[ReplyDegraded]
    ) -> tuple[str, bool]:
        """Return the decision's text, and whether a model put it into words; a hand-over is said as it stands."""
        if self.phraser is None or decision.kind == "hand_over":
            return decision.text, False
        # Of the slots, those that the reply says: a template needn't name all that the text does.
        keep = [value for value in found.slots.values() if decision.kind == "template" and value in decision.text]
        try:
            with self.metrics.timed("phrasing"):
                return self.phraser.phrase(request.text, decision.text, keep), True
        except UnavailableError as error:
            log.warning("not_phrased", error=str(error))
            unfaithful = isinstance(error, UnfaithfulPhrasingError)
            degraded.append("phrasing_unfaithful" if unfaithful else "phrasing_unavailable")
            return decision.text, False

    def _log(
        self,
        turns: TurnLog,
        request: ReplyRequest,
        answer: ReplyResponse,
        now: datetime,
        degraded: list[ReplyDegraded],
    ) -> None:
        """Log the turn; a reply is worth more than its record, so a log that can't be written costs the record."""
        turn = Turn(
            request_id=answer.request_id,
            conversation_id=request.conversation_id,
            user_id=request.user_id,
            text=request.text,
            kind=answer.kind,
            intent=None if answer.intent is None else answer.intent.label,
            confidence=None if answer.intent is None else answer.intent.probability,
            release=answer.release,
            timestamp=now,
        )
        try:
            turns.append(turn)
        except TurnLogUnavailableError as error:
            log.warning("turn_not_logged", error=str(error))
            degraded.append("turn_not_logged")


def _replies_of(loaded: Loaded[LoadedRelease]) -> Replies:
    if loaded.value.replies is None:
        raise MissingPartError(
            f"release {loaded.release_id}: expected replies, found a release without; they come with a section `reply` "
            "of the workspace"
        )
    return loaded.value.replies


def _check_intent(loaded: Loaded[LoadedRelease], replies: Replies, intent: str) -> None:
    if replies.intent is None:
        raise MissingPartError(f"release {loaded.release_id}: expected a task of intents, found none")
    heads = loaded.value.predictor.heads
    assert heads is not None, "replies were checked against the release's heads"
    known = heads.tasks[replies.intent].classes
    if intent not in known:
        raise InvalidInputError(f"intent: {unknown_name('intent', intent, known)}")
