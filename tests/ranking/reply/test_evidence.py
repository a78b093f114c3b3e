"""Evidence of many texts at once is that of each alone; an item without a text to send is no passage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ranking.predictor import Predictor
from ranking.reply.config import Replies, Thresholds
from ranking.reply.evidence import passages, read_evidence
from retrieval.engine import Retriever
from tests.ranking.conftest import WordVectors

REPLIES = Replies(
    intent="topic",
    in_scope="urgent",
    slots="slots",
    answers="answer",
    passages=3,
    thresholds=Thresholds(),
    templates={},
)
TEXTS = ("Tea for Paris", "soap", "Tea now")


def test_texts_read_together_keep_their_own_evidence(release: Path) -> None:
    heads, encoder = Predictor.load(release).heads, WordVectors()
    assert heads is not None
    together = read_evidence(heads, REPLIES, TEXTS, encoder.read(TEXTS, ["slots"]))
    # Words with a capital are slots of .875; of one name, the later.
    assert [own.slots for own in together] == [{"slots": "Paris"}, {}, {"slots": "Tea"}]
    for text, own in zip(TEXTS, together, strict=True):
        (alone,) = read_evidence(heads, REPLIES, [text], encoder.read([text], ["slots"]))
        assert (alone.slots, alone.in_scope) == (own.slots, pytest.approx(own.in_scope))
        assert alone.intent is not None
        assert own.intent is not None
        assert (alone.intent.label, alone.intent.probability) == (
            own.intent.label,
            pytest.approx(own.intent.probability),
        )


def test_a_slot_below_its_threshold_is_not_found(release: Path) -> None:
    heads = Predictor.load(release).heads
    assert heads is not None
    strict = REPLIES.model_copy(update={"thresholds": Thresholds(slot=0.9)})
    (found,) = read_evidence(heads, strict, ["Tea"], WordVectors().read(["Tea"], ["slots"]))
    assert found.slots == {}


def test_an_item_without_a_text_to_send_is_no_passage(release: Path) -> None:
    retriever = Retriever.load(release)
    vector = WordVectors().encode(["Tea"], "text")[0]
    near = [own.item_id for own in passages(retriever, vector, REPLIES)]
    assert len(near) == 3
    titles: Any = [" " if own == near[1] else "named" for own in retriever.snapshot.item_ids]
    blank = replace(retriever, snapshot=replace(retriever.snapshot, titles=titles))
    assert [own.item_id for own in passages(blank, vector, REPLIES)] == [near[0], near[2]]
