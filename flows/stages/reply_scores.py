"""What a release's `/v1/reply` says to held-out texts, by the decision that serves it, held against their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import polars as pl

from features.column_labels import Bool, LabelColumn
from features.schema import TEXT
from flows.report import Figure, KindScores, ReplyScores, ThresholdScores
from flows.stages.text_tasks import HeldOutTexts
from ranking.predictor import Predictor
from ranking.reply.config import Replies
from ranking.reply.contract import ReplyKind
from ranking.reply.decision import Decision, Evidence, decide
from ranking.reply.evidence import passages, read_evidence
from retrieval.encoder.labels.report import wilson_lower
from retrieval.encoder.runtime import ReadTexts

_INTENT: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SIMILARITY: Final = (0.3, 0.4, 0.5, 0.6, 0.7)
# Stands for what the caller knows: any value fills a template.
_GIVEN: Final = "given"


def reply_scores(predictor: Predictor, replies: Replies, held: HeldOutTexts) -> ReplyScores:
    """Return how the held-out texts are replied to, by the release's thresholds and by a few others.

    Args:
        predictor: of the release.
        replies: of the release.
        held: what to measure on.

    Raises:
        TaskError: the texts lack the label column of a task that the replies name, or hold a label it can't have.
    """
    asked = _Asked(replies=replies, found=_evidence(predictor, replies, held), labels=_labels(predictor, replies, held))
    replied = asked.decided(replies)
    kinds: list[ReplyKind] = ["template"] if replies.templates else []
    kinds += ["passages", "hand_over"] if replies.answers is not None else ["hand_over"]
    handed = [label for label, own in zip(asked.labels, replied, strict=True) if own.kind == "hand_over"]
    return ReplyScores(
        rows=held.rows,
        n=len(replied),
        kinds=tuple(asked.scores(kind, replied) for kind in kinds),
        missed=sum(label.due in ("template", "passages") for label in handed),
        lacking=sum(bool(own.missing_slots) for own in replied),
        intent=asked.by_threshold("intent", _INTENT, "template") if "template" in kinds else (),
        similarity=asked.by_threshold("similarity", _SIMILARITY, "passages") if "passages" in kinds else (),
    )


@dataclass(frozen=True, kw_only=True)
class _Label:
    """What the labels of a text say of replies to it.

    Attributes:
        intent: None for no label.
        answer: the item; None for no label.
        right: kinds of which a reply can be right, in the order in which they are tried; the first is asked for.
    """

    intent: str | None
    answer: str | None
    right: tuple[ReplyKind, ...]

    @classmethod
    def of(cls, replies: Replies, intent: str | None, answer: str | None, in_scope: float) -> _Label:
        """Return what the labels say; NaN for no label of the scope."""
        right: tuple[ReplyKind, ...] = ("hand_over",)
        if in_scope != 0:
            has = {"template": intent in replies.templates, "passages": answer is not None}
            right = tuple(kind for kind in ("template", "passages") if has[kind])
        return cls(intent=intent, answer=answer, right=right)

    @property
    def due(self) -> ReplyKind | None:
        """The reply that the labels ask for; None where they don't tell."""
        return self.right[0] if self.right else None

    def tells_of(self, kind: ReplyKind) -> bool:
        """Whether a reply of this kind can be judged: an intent without a template, too, shows a template wrong."""
        if kind == "template" and self.intent is not None:
            return True
        return bool(self.right) if kind == "hand_over" else kind in self.right or self.due == "hand_over"

    def allows(self, decision: Decision, found: Evidence) -> bool:
        """Whether a reply is right."""
        if decision.kind not in self.right:
            return False
        if decision.kind == "template":
            return found.intent is not None and found.intent.label == self.intent
        return decision.kind == "hand_over" or self.answer in [own.item_id for own in decision.sources]


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The texts, what is known of each and what its labels say."""

    replies: Replies
    found: Sequence[Evidence]
    labels: Sequence[_Label]

    def decided(self, replies: Replies) -> list[Decision]:
        """Return the reply to each text."""
        return [decide(replies, own) for own in self.found]

    def scores(self, kind: ReplyKind, replied: Sequence[Decision]) -> KindScores:
        """Return the figures of one kind among the replies."""
        got = np.array([own.kind == kind for own in replied])
        each = zip(self.labels, replied, self.found, strict=True)
        right = got & [label.allows(own, found) for label, own, found in each]
        judged = got & [label.tells_of(kind) for label in self.labels]
        due = np.array([label.due == kind for label in self.labels])
        can_be_right = any(kind in label.right for label in self.labels)
        share = _share(got, np.ones_like(got))
        assert share is not None, "a report is of texts"
        return KindScores(
            kind=kind,
            texts=int(got.sum()),
            share=share,
            precision=_share(right, judged) if can_be_right else None,
            recall=_share(right, due),
        )

    def by_threshold(
        self, name: Literal["intent", "similarity"], grid: Sequence[float], kind: ReplyKind
    ) -> tuple[ThresholdScores, ...]:
        """Return a kind's figures by values of one threshold, the release's own among them."""
        own: float = getattr(self.replies.thresholds, name)
        found = []
        for value in sorted({*grid, own}):
            thresholds = self.replies.thresholds.model_copy(update={name: value})
            replied = self.decided(self.replies.model_copy(update={"thresholds": thresholds}))
            found.append(ThresholdScores(threshold=value, served=value == own, scores=self.scores(kind, replied)))
        return tuple(found)


def _evidence(predictor: Predictor, replies: Replies, held: HeldOutTexts) -> list[Evidence]:
    """Return what a request with each text would find, with every slot that a caller can give."""
    assert predictor.heads is not None, "every release of a flow has an encoder"
    texts = held.tables.texts[TEXT].to_list()
    tags = {} if replies.slots is None else predictor.texts.read(texts, [replies.slots]).tags
    read = ReadTexts(vectors=held.vectors, tags=tags)
    given = dict.fromkeys(replies.given, _GIVEN)
    found = [replace(own, slots={**own.slots, **given}) for own in read_evidence(predictor.heads, replies, texts, read)]
    if replies.answers is None:
        return found
    retriever = predictor.retriever
    assert retriever is not None, "a contrastive task on texts needs items"
    return [
        replace(own, passages=passages(retriever, vector, replies))
        for own, vector in zip(found, held.vectors, strict=True)
    ]


def _labels(predictor: Predictor, replies: Replies, held: HeldOutTexts) -> list[_Label]:
    """Return what the labels of each text say."""
    specs, none = {task.name: task for task in predictor.tasks}, [None] * held.tables.texts.height

    def column(task: str | None) -> LabelColumn | None:
        return None if task is None else LabelColumn.of(specs[task], held.tables)

    intents, answers = (
        none if own is None else own.values.cast(pl.String).to_list()
        for own in (column(replies.intent), column(replies.answers))
    )
    scope = column(replies.in_scope)
    in_scope = [np.nan] * len(none) if scope is None else scope.labels({}).tolist()
    return [
        _Label.of(replies, intent, answer, own) for intent, answer, own in zip(intents, answers, in_scope, strict=True)
    ]


def _share(part: Bool, whole: Bool) -> Figure | None:
    """Return what share of the whole is in the part, both bool `[n]`, with its interval; None of nothing."""
    n, inside = int(whole.sum()), int((part & whole).sum())
    if n == 0:
        return None
    # The upper end is one less the lower end of the rest's share.
    return Figure(value=inside / n, low=wilson_lower(inside, n), high=1 - wilson_lower(n - inside, n), n=n)
