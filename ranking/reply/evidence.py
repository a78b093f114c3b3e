"""What is known of texts that the encoder has read: one function for a request and for an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ranking.contract import ClassPrediction, TagsPrediction, TaskAnswer
from ranking.predictions import of_read_texts
from ranking.reply.config import Replies
from ranking.reply.contract import ReplySource
from ranking.reply.decision import Evidence
from retrieval.contract import Limits
from retrieval.engine import NO_LIMITS
from retrieval.snapshot import TITLE

if TYPE_CHECKING:
    from features.schema import Float32
    from retrieval.encoder.head_runtime import Heads
    from retrieval.encoder.runtime import ReadTexts
    from retrieval.engine import Retriever


def read_evidence(heads: Heads, replies: Replies, texts: Sequence[str], read: ReadTexts) -> list[Evidence]:
    """Return what the heads say of each text, and the slots found in it; passages are the caller's to find.

    Args:
        heads: of the release.
        replies: name the tasks.
        texts: `[n]`.
        read: what the encoder gave of them; of the tag task too, where the replies name one.
    """
    answers = of_read_texts(heads, texts, read, replies.tasks)
    found = []
    for row in range(len(texts)):
        intent, in_scope, tags = (
            None if name is None else answers[name][row] for name in (replies.intent, replies.in_scope, replies.slots)
        )
        assert intent is None or isinstance(intent, ClassPrediction), "the section's check: a multiclass task"
        assert in_scope is None or isinstance(in_scope, float), "the section's check: a binary task"
        slots = _found_slots(tags, replies.thresholds.slot)
        found.append(Evidence(intent=intent, in_scope=in_scope, slots=slots, passages=()))
    return found


def passages(
    retriever: Retriever,
    vector: Float32,
    replies: Replies,
    limits: Limits = NO_LIMITS,
    *,
    now: datetime | None = None,
) -> list[ReplySource]:
    """Return the items nearest to a text's vector (float32 `[dim]`), best first; one without a text to send is none.

    Limits and time as in `Retriever.candidates`.

    Raises:
        FilterError: the filter is none, or doesn't fit the items.
    """
    near = retriever.nearest(vector, replies.passages, limits, now=now)
    texts = _texts(retriever, replies.passage, near.items.tolist())
    return [
        ReplySource(
            item_id=retriever.snapshot.item_ids[item],
            title=retriever.snapshot.titles[item],
            score=score,
            text=texts[item],
        )
        for item, score in zip(near.items.tolist(), near.scores.tolist(), strict=True)
        if texts[item].strip()
    ]


def _found_slots(tags: TaskAnswer | None, least: float) -> dict[str, str]:
    """Return what the text says of each slot: the likeliest of those of one name, where it is likely enough."""
    if tags is None:
        return {}
    assert isinstance(tags, TagsPrediction), "the section's check: a tag task"
    likely = [slot for slot in tags.slots if slot.probability >= least]
    return {slot.name: slot.text for slot in sorted(likely, key=lambda slot: slot.probability)}


def _texts(retriever: Retriever, column: str, items: Sequence[int]) -> Mapping[int, str]:
    """Return by position what each item sends; nothing for a null."""
    snapshot = retriever.snapshot
    if column == TITLE:
        return {item: snapshot.titles[item] for item in items}
    return {item: str(snapshot.attributes[column][item] or "") for item in items}
