"""Replies to held-out texts: what the release's `/v1/reply` says, how often rightly, and by other thresholds."""

from __future__ import annotations

from pydantic import FiniteFloat, NonNegativeInt, PositiveInt

from flows.report.figures import Figure, Part
from ranking.reply.contract import ReplyKind


class KindScores(Part):
    """One kind of reply. Intervals are Wilson's (1927) of 95%: a bootstrap's of 9 right of 9 has no width.

    Right is a template of the labelled intent, passages with the labelled answer among them, and a hand-over of a text
    labelled out of scope; out of scope, nothing else is. A label tells of a template where it is an intent, of passages
    where it is an answer, of a hand-over where a template or an answer was to be had instead, and out of scope of all.

    Attributes:
        kind: as the contract names it.
        texts: that got it.
        share: of all texts.
        precision: of those that got it and whose labels tell of it, the share that is right. None where there is none,
            or where no text has a label that could make it right.
        recall: of the texts whose labels ask for it, the share that got it right: those out of scope ask for a
            hand-over, the others for their intent's template if it has one, else for their answer. None without any.
    """

    kind: ReplyKind
    texts: NonNegativeInt
    share: Figure
    precision: Figure | None
    recall: Figure | None


class ThresholdScores(Part):
    """What one threshold gives, the others being the release's.

    Attributes:
        threshold: least value.
        served: whether it is the release's own.
        scores: of the kind that the threshold decides on.
    """

    threshold: FiniteFloat
    served: bool
    scores: KindScores


class ReplyScores(Part):
    """Replies to held-out texts.

    Slots that the caller gives with a request, which no text holds, count as given.

    Attributes:
        rows: which texts.
        n: how many.
        kinds: those that the release can send, in the order in which they are tried.
        missed: texts handed over whose labels ask for a template or for passages.
        lacking: texts whose sure intent's template was not sent for want of a slot.
        intent: templates by the threshold of the intent's probability, ascending.
        similarity: passages by the threshold of their cosine.
    """

    rows: str
    n: PositiveInt
    kinds: tuple[KindScores, ...]
    missed: NonNegativeInt
    lacking: NonNegativeInt
    intent: tuple[ThresholdScores, ...] = ()
    similarity: tuple[ThresholdScores, ...] = ()
