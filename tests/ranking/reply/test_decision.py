"""Each kind of reply is given where its evidence reaches the threshold, and not a step below."""

from __future__ import annotations

from typing import Any

from ranking.contract import ClassPrediction
from ranking.reply.config import Replies, Thresholds
from ranking.reply.contract import ReplySource
from ranking.reply.decision import Decision, Evidence, decide

REPLIES = Replies(
    intent="topic",
    in_scope="scope",
    answers="answer",
    given=("day",),
    passages=2,
    thresholds=Thresholds(intent=0.75, in_scope=0.25, similarity=0.5),
    hand_over="A person comes.",
    templates={"delivery": "It comes on {day}.", "greeting": "Hello."},
)


def source(score: float) -> ReplySource:
    return ReplySource(item_id=f"i{score}", title="t", score=score, text=f"text of {score}")


def reply(label: str, probability: float, *scores: float, in_scope: float | None = 1.0, **slots: str) -> Decision:
    intent = ClassPrediction(label=label, probability=probability, probabilities={label: probability})
    return decide(
        REPLIES,
        Evidence(intent=intent, in_scope=in_scope, slots=slots, passages=[source(score) for score in scores]),
    )


def fields(found: Decision) -> tuple[Any, ...]:
    return found.kind, found.text, found.missing_slots, [own.score for own in found.sources]


def test_a_sure_intent_gets_its_template_whatever_passages_there_are() -> None:
    assert fields(reply("greeting", 0.75, 0.9)) == ("template", "Hello.", (), [])
    assert fields(reply("delivery", 0.8, 0.9, day="Monday")) == ("template", "It comes on Monday.", (), [])


def test_below_its_threshold_an_intent_gets_passages() -> None:
    assert fields(reply("greeting", 0.74, 0.9)) == ("passages", "text of 0.9", (), [0.9])


def test_a_template_is_never_half_filled() -> None:
    # The passages are said instead, else a person comes; either way the caller learns what was missing.
    assert fields(reply("delivery", 0.8, 0.5)) == ("passages", "text of 0.5", ("day",), [0.5])
    assert fields(reply("delivery", 0.8, 0.49)) == ("hand_over", "A person comes.", ("day",), [])
    # An unsure intent misses nothing.
    assert fields(reply("delivery", 0.7, 0.49)) == ("hand_over", "A person comes.", (), [])


def test_an_intent_without_a_template_gets_passages() -> None:
    assert fields(reply("billing", 0.99, 0.6)) == ("passages", "text of 0.6", (), [0.6])


def test_passages_near_enough_are_joined_best_first_up_to_their_number() -> None:
    assert fields(reply("billing", 0.1, 0.9, 0.6, 0.55)) == ("passages", "text of 0.9\n\ntext of 0.6", (), [0.9, 0.6])
    assert fields(reply("billing", 0.1, 0.9, 0.4)) == ("passages", "text of 0.9", (), [0.9])


def test_out_of_scope_a_person_takes_over_before_anything_is_tried() -> None:
    assert fields(reply("greeting", 1.0, 1.0, in_scope=0.24)) == ("hand_over", "A person comes.", (), [])
    assert reply("greeting", 1.0, in_scope=0.25).kind == "template"
    assert reply("greeting", 1.0, in_scope=None).kind == "template"


def test_nothing_known_is_a_hand_over() -> None:
    nothing = Evidence(intent=None, in_scope=None, slots={}, passages=())
    assert fields(decide(REPLIES, nothing)) == ("hand_over", "A person comes.", (), [])
