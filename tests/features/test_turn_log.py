"""Turns are durable, count once, and carry the latest label of each kind that feedback gave them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.turn_log import Turn, TurnFeedback, TurnLog, TurnLogUnavailableError, TurnNotFoundError

T = datetime(2026, 3, 1, 12, tzinfo=UTC)


def turn(request_id: str, text: str = "where is my card?", **values: object) -> Turn:
    return Turn.model_validate(
        {"request_id": request_id, "text": text, "kind": "hand_over", "release": "r", "timestamp": T, **values}
    )


def said(request_id: str, **labels: str) -> TurnFeedback:
    return TurnFeedback(request_id=request_id, timestamp=T, **labels)


@pytest.fixture
def log(tmp_path: Path) -> TurnLog:
    return TurnLog(tmp_path / "turns" / "turns.sqlite")


def test_a_turn_outlives_the_process_and_counts_once(log: TurnLog, tmp_path: Path) -> None:
    assert log.append(turn("a", conversation_id="c", user_id="u", intent="card", confidence=0.5))
    assert log.append(turn("b", "hello", timestamp=T + timedelta(microseconds=1)))
    assert not log.append(turn("a", "something else"))
    read = TurnLog(tmp_path / "turns" / "turns.sqlite").read()
    assert read.rows() == [
        ("a", "where is my card?", T, None, None),
        ("b", "hello", T + timedelta(microseconds=1), None, None),
    ]


def test_the_latest_label_of_each_kind_counts(log: TurnLog) -> None:
    for name in ("a", "b"):
        log.append(turn(name))
    log.give(said("a", intent="wrong", item_id="old"))
    log.give(said("a", item_id="new"))
    log.give(said("a", intent="card"))
    labels = log.read().select("request_id", "intent", "item_id").rows()
    assert labels == [("a", "card", "new"), ("b", None, None)]


def test_feedback_on_an_unknown_turn_is_refused_and_stores_nothing(log: TurnLog) -> None:
    with pytest.raises(TurnNotFoundError, match="expected one of a logged turn, found 'a'"):
        log.give(said("a", intent="card"))
    log.append(turn("a"))
    assert log.read()["intent"].to_list() == [None]


def test_reading_makes_no_log(log: TurnLog, tmp_path: Path) -> None:
    assert log.read().columns == ["request_id", "text", "timestamp", "intent", "item_id"]
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TurnLogUnavailableError, match=r"turn log turns\.sqlite: expected to write, found"):
        TurnLog(tmp_path / "file" / "turns.sqlite").append(turn("a"))
