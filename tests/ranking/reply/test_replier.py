"""Replies of a real release over HTTP: one pass of the encoder, honest fallbacks, turns that feedback labels."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from scipy.special import softmax

from features.turn_log import TurnLog
from infra.errors import InvalidInputError, NotFoundError
from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.watcher import ReleaseWatcher
from ranking.answers import LoadedRelease, load_release
from ranking.client import AsyncRankingClient
from ranking.layout import REPLIES
from ranking.reply.config import Replies, Thresholds
from ranking.service import Parts, create_combined_app
from retrieval import layout
from tests.ranking.conftest import TOPICS, WordVectors

HELD = (layout.ENCODER_DIR, layout.TASKS, layout.ITEM_VECTORS, layout.INDEX_DIR, layout.SNAPSHOT)
# Whatever the text, its likeliest topic is sure, and every item is near.
SURE = Thresholds(intent=0, similarity=-1)
RULES: dict[str, Any] = {
    "intent": "topic", "slots": "slots", "answers": "answer", "given": ["day"], "thresholds": SURE,
    "templates": dict.fromkeys(TOPICS, "{slots} comes on {day}."),
}  # fmt: skip
Serve = Callable[..., "Served"]


@dataclass
class Served:
    app: FastAPI
    parts: Parts
    turns: TurnLog

    def post(self, path: str, **body: Any) -> httpx.Response:
        return TestClient(self.app).post(path, json=body)

    def reply(self, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.post("/v1/reply", **body).raise_for_status().json()
        return found


@pytest.fixture
def serve(release: Path, text_encoder: WordVectors, tmp_path: Path) -> Serve:
    """Return a function that serves items and the encoder with these replies; without any rule, a release without."""

    def load(folder: Path) -> LoadedRelease:
        loaded = load_release(folder)
        loaded.predictor.texts.load = lambda: text_encoder
        return loaded

    def served(*, turns: Path | None = None, held: tuple[str, ...] = HELD, **rules: Any) -> Served:
        store = ReleaseStore(tmp_path / "releases")
        with store.create("some", as_of=datetime(2020, 1, 1, tzinfo=UTC)) as writer:
            for name in held:
                (writer.path / name).parent.mkdir(parents=True, exist_ok=True)
                copy: Any = shutil.copytree if (release / name).is_dir() else shutil.copy
                copy(release / name, writer.path / name)
            if rules:
                (writer.path / REPLIES).write_text(Replies.model_validate(rules).model_dump_json())
                LoadedRelease.load(writer.path).check_replies()
        store.publish("some")
        watcher = ReleaseWatcher(store, load, 60)
        watcher.load_initial()
        log = TurnLog(turns or tmp_path / "turns.sqlite")
        parts = Parts(
            watcher=watcher, store=store, features=None, events=None, settings=Settings(), metrics=Metrics(), turns=log
        )
        return Served(create_combined_app(parts), parts, log)

    return served


def test_one_pass_of_the_encoder_gives_intent_slots_and_passages(serve: Serve, text_encoder: WordVectors) -> None:
    service = serve(**RULES)
    before = text_encoder.passes
    # Of the two capitals' slots, of equal probability .875, the later is taken; the caller's day goes in as given.
    found = service.reply(text="Tea for Paris", slots={"day": "Monday"})
    assert text_encoder.passes == before + 1
    assert (found["kind"], found["text"]) == ("template", "Paris comes on Monday.")
    assert found["slots"] == {"slots": "Paris", "day": "Monday"}
    retriever = service.parts.watcher.value.retriever
    heads = service.parts.watcher.value.predictor.heads
    assert retriever is not None
    assert heads is not None
    vector = WordVectors().encode(["Tea for Paris"], "text")[0]
    probabilities = softmax(heads.arrays["topic"]["outer"] @ vector + heads.arrays["topic"]["bias"])
    assert found["intent"]["label"] == TOPICS[int(probabilities.argmax())]
    assert found["intent"]["probability"] == pytest.approx(float(probabilities.max()), rel=1e-5)


def test_a_missing_slot_is_named_and_passages_are_sent_instead(serve: Serve) -> None:
    service = serve(**RULES)
    found = service.reply(text="Tea for Paris")
    assert (found["kind"], found["missing_slots"]) == ("passages", ["day"])
    retriever = service.parts.watcher.value.retriever
    assert retriever is not None
    cosines = np.asarray(retriever.item_vectors) @ WordVectors().encode(["Tea for Paris"], "text")[0]
    best = np.argsort(-cosines)[:3]
    assert [source["item_id"] for source in found["sources"]] == [f"item-{row}" for row in best]
    assert [source["score"] for source in found["sources"]] == pytest.approx(cosines[best].tolist(), abs=1e-5)
    assert found["text"] == "\n\n".join(f"title of item-{row}" for row in best)
    # What the caller knows goes before what the text says.
    assert service.reply(text="Tea", slots={"day": "Monday", "slots": "Soap"})["text"] == "Soap comes on Monday."


def test_a_filter_holds_and_a_column_may_be_the_passage(serve: Serve) -> None:
    service = serve(**{**RULES, "intent": None, "slots": None, "templates": {}, "passage": "kind", "passages": 2})
    found = service.reply(text="Tea", filter='kind == "coupon"')
    assert [source["text"] for source in found["sources"]] == ["coupon", "coupon"]
    assert "intent" not in found
    refused = service.post("/v1/reply", text="Tea", filter='colour == "red"')
    assert refused.status_code == 422
    assert "filter, character 1: unknown attribute 'colour'" in refused.json()["detail"]


def test_out_of_scope_is_handed_over(serve: Serve) -> None:
    found = serve(**{**RULES, "in_scope": "urgent", "thresholds": Thresholds(intent=0, in_scope=1)}).reply(
        text="Tea for Paris", slots={"day": "Monday"}
    )
    assert found["kind"] == "hand_over"
    assert 0 < found["in_scope"] < 1


def test_turns_are_logged_and_labelled_by_feedback(serve: Serve) -> None:
    service = serve(**RULES)
    asked = service.reply(text="Tea for Paris", conversation_id="c", user_id="u")["request_id"]
    assert service.post("/v1/feedback", request_id=asked, intent="stock", item_id="item-3").status_code == 202
    service.reply(text="soap")
    rows = service.turns.read().select("text", "intent", "item_id").rows()
    assert rows == [("Tea for Paris", "stock", "item-3"), ("soap", None, None)]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"request_id": "no", "intent": "stock"}, 404, "expected one of a logged turn, found 'no'"),
        ({"request_id": "no", "intent": "stok"}, 422, "unknown intent 'stok'; did you mean 'stock'?"),
        ({"request_id": "no", "item_id": "item-1000"}, 404, "item-1000"),
        ({"request_id": "no"}, 422, "expected intent or item_id, found neither"),
    ],
)
def test_feedback_that_nothing_could_learn_from_is_refused(
    serve: Serve, body: dict[str, str], status: int, expected: str
) -> None:
    refused = serve(**RULES).post("/v1/feedback", **body)
    assert refused.status_code == status
    assert expected in refused.text


def test_logging_can_be_turned_off(serve: Serve, tmp_path: Path) -> None:
    service = serve(**{**RULES, "log_turns": False})
    asked = service.reply(text="Tea")
    assert asked["degraded"] == []
    assert not (tmp_path / "turns.sqlite").exists()
    refused = service.post("/v1/feedback", request_id=asked["request_id"], intent="stock")
    assert refused.status_code == 409
    assert "found logging turned off" in refused.json()["detail"]


def test_a_log_that_cannot_be_written_costs_the_record_alone(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    service = serve(turns=tmp_path / "file" / "turns.sqlite", **RULES)
    found = service.reply(text="Tea")
    assert (found["kind"], found["degraded"]) == ("passages", ["turn_not_logged"])
    metrics = TestClient(service.app).get("/metrics").text
    assert 'polyrank_degraded_total{reason="turn_not_logged"} 1.0' in metrics


def test_without_an_encoder_a_person_takes_over(serve: Serve) -> None:
    service = serve(**RULES)
    service.parts.watcher.value.predictor.texts.load = None
    found = service.reply(text="Tea")
    assert (found["kind"], found["degraded"]) == ("hand_over", ["encoder_unavailable"])
    assert service.turns.read()["text"].to_list() == ["Tea"]


def test_a_release_without_replies_says_so(serve: Serve) -> None:
    service = serve()
    for path, body in (("/v1/reply", {"text": "Tea"}), ("/v1/feedback", {"request_id": "a", "intent": "stock"})):
        refused = service.post(path, **body)
        assert refused.status_code == 409
        assert "expected replies, found a release without" in refused.json()["detail"]


def test_a_release_lacks_no_name_that_its_replies_use(serve: Serve) -> None:
    with pytest.raises(InvalidInputError, match=r"task topic: unknown intent 'stok'; did you mean 'stock'\?"):
        serve(**{**RULES, "templates": {"stok": "Sold out."}})


def test_the_clients_know_both_routes(serve: Serve) -> None:
    service = serve(**RULES)

    async def ask() -> tuple[str, str]:
        transport = httpx.ASGITransport(app=service.app)
        async with AsyncRankingClient("http://testserver", timeout_s=30, transport=transport) as client:
            found = await client.reply("Tea for Paris", slots={"day": "Monday"}, conversation_id="c")
            await client.feedback(found.request_id, intent="stock")
            with pytest.raises(NotFoundError):
                await client.feedback("no", intent="stock")
            return found.kind, found.text

    assert asyncio.run(ask()) == ("template", "Paris comes on Monday.")
    assert service.turns.read()["intent"].to_list() == ["stock"]
