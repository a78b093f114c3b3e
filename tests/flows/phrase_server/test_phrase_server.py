"""A causal model by folder answers the chat protocol, over loopback, to the client that replies use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient

from flows.phrase_server.app import create_app
from flows.phrase_server.model import CausalModel, CausalModelError
from infra.settings import Settings
from ranking.reply.phrasing import ChatMessage, Phraser, PhrasingUnavailableError, UnfaithfulPhrasingError, conversation
from tests.flows.tiny_phraser import write_phraser
from tests.loopback import serving

QUESTION, ANSWER, WORDS = "Where is my tea?", "It comes on Monday.", "Your tea comes on Monday!"
PROMPT = "\n\n".join([*(message.content for message in conversation(QUESTION, ANSWER)), "Reply:\n"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> CausalModel:  # noqa: ARG001
    return CausalModel.load(write_phraser(tmp_path_factory.mktemp("models") / "tiny", PROMPT, WORDS))


@pytest.fixture(scope="module")
def url(model: CausalModel) -> Iterator[str]:
    with serving(create_app(model, Settings.model_validate({"api_keys": "secret"}))) as address:
        yield f"{address}/v1"


def test_the_model_puts_the_answer_into_words(url: str) -> None:
    with Phraser(url, model="any", key="secret", timeout_s=60) as phraser:
        assert phraser.phrase(QUESTION, ANSWER, ["Monday"]) == WORDS
        with pytest.raises(UnfaithfulPhrasingError):
            phraser.phrase(QUESTION, ANSWER, ["Monday", "Tuesday"])


def test_what_does_not_fit_or_has_no_key_is_unavailable(url: str) -> None:
    with Phraser(url, model="any", key="secret") as phraser, pytest.raises(PhrasingUnavailableError, match="422"):
        phraser.phrase("tea " * 2_000, ANSWER, [])
    with Phraser(url, model="any") as phraser, pytest.raises(PhrasingUnavailableError, match="401"):
        phraser.phrase(QUESTION, ANSWER, [])


def test_the_answer_has_the_protocols_form(model: CausalModel) -> None:
    messages = [message.model_dump() for message in conversation(QUESTION, ANSWER)]
    with TestClient(create_app(model, Settings())) as http:
        body = {"model": "x", "messages": messages, "stream": False}
        answer = http.post("/v1/chat/completions", json=body).raise_for_status().json()
        assert (answer["object"], answer["model"]) == ("chat.completion", "tiny")
        told = {"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}
        assert answer["choices"] == [told]
        cut = http.post("/v1/chat/completions", json={**body, "max_tokens": 2}).raise_for_status().json()
        assert cut["choices"][0]["finish_reason"] == "length"
        assert WORDS.startswith(cut["choices"][0]["message"]["content"])
        assert http.get("/health/ready").status_code == 200
        assert http.post("/v1/chat/completions", json={"model": "x", "messages": []}).status_code == 422


def test_tokens_are_the_likeliest_one_after_the_other(model: CausalModel) -> None:
    ids = model.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    length = ids.shape[1]
    for _ in range(5):
        with torch.inference_mode():
            likeliest = model.model(input_ids=ids).logits[:, -1].argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, likeliest], dim=1)
    expected = model.tokenizer.decode(ids[0, length:]).strip()
    assert model.complete(conversation(QUESTION, ANSWER), 5, 0).text == expected


def test_a_chat_template_writes_the_conversation(model: CausalModel) -> None:
    messages = [ChatMessage(role="system", content="be kind"), ChatMessage(role="user", content="tea")]
    assert model._prompt(messages) == "be kind\n\ntea\n\nReply:\n"
    model.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    try:
        assert model._prompt(messages) == "<system>be kind<user>tea<assistant>"
    finally:
        model.tokenizer.chat_template = None


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CausalModelError, match=r"found no config\.json"):
        CausalModel.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CausalModelError, match="expected a causal language model in"):
        CausalModel.load(tmp_path)
