"""The client of the chat protocol, against applications in this process; a real model answers in the flows' tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from infra.settings import Settings
from ranking.reply.phrasing import Phraser, PhrasingUnavailableError, UnfaithfulPhrasingError

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def answering(
    content: str | None, seen: list[dict[str, Any]] | None = None, finish_reason: str = "stop"
) -> Application:
    """An application that completes every conversation with the same words."""

    def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        body = json.loads(environ["wsgi.input"].read())
        if seen is not None:
            seen.append({"path": environ["PATH_INFO"], "key": environ.get("HTTP_AUTHORIZATION"), **body})
        start("200 OK", [("content-type", "application/json")])
        message = {"role": "assistant", "content": content, "refusal": None}
        return [
            json.dumps(
                {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}]}
            ).encode()
        ]

    return application


def broken(status: str, body: bytes) -> Application:
    def application(_environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start(status, [("content-type", "text/plain")])
        return [body]

    return application


def phraser(application: Application, key: str | None = None) -> Phraser:
    return Phraser("http://model/v1/", model="m", key=key, transport=httpx.WSGITransport(app=application))


def test_question_and_answer_are_sent_and_the_words_come_back() -> None:
    seen: list[dict[str, Any]] = []
    words = phraser(answering("  It comes on Monday!\n", seen), "secret").phrase("When?", "On Monday.", ["Monday"])
    assert words == "It comes on Monday!"
    (request,) = seen
    assert (request["path"], request["key"], request["model"]) == ("/v1/chat/completions", "Bearer secret", "m")
    assert request["temperature"] == 0
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["messages"][1]["content"] == "Message:\nWhen?\n\nAnswer:\nOn Monday."


def test_words_without_a_value_are_not_used_nor_is_the_value_told() -> None:
    with pytest.raises(
        UnfaithfulPhrasingError, match=r"expected all 2 values .* found 1 left out and 0 made up"
    ) as caught:
        phraser(answering("On Monday at noon")).phrase("When?", "On Monday to Paris.", ["Monday", "Paris"])
    assert "Paris" not in str(caught.value)


def test_numbers_of_the_message_and_the_answer_alone_may_be_said() -> None:
    said = phraser(answering("Order 7 comes on the 9th."))
    assert said.phrase("Where is 7?", "On the 9th.", []) == "Order 7 comes on the 9th."
    with pytest.raises(UnfaithfulPhrasingError, match="1 made up"):
        said.phrase("Where is it?", "On the 9th.", [])


@pytest.mark.parametrize(
    "application",
    [
        answering(None),
        answering("   "),
        answering("It comes on", finish_reason="length"),
        broken("200 OK", b"no json"),
        broken("200 OK", b'{"choices": []}'),
        broken("503 Unavailable", b"busy"),
    ],
)
def test_an_unusable_answer_is_unavailable(application: Application) -> None:
    with pytest.raises(PhrasingUnavailableError, match="expected a completion, found"):
        phraser(application).phrase("When?", "On Monday.", [])


def test_nothing_listens() -> None:
    with (
        Phraser("http://127.0.0.1:9", model="m", timeout_s=2) as nobody,
        pytest.raises(PhrasingUnavailableError, match="ConnectError"),
    ):
        nobody.phrase("When?", "On Monday.", [])


def test_phrasing_is_off_unless_a_setting_names_a_server() -> None:
    assert Phraser.of(Settings()) is None
    assert Phraser.of(Settings.model_validate({"phrasing_url": "http://127.0.0.1:9/v1"})) is not None
