"""A generative model that puts a composed reply into words, over the OpenAI-compatible chat protocol.

Which model answers is a setting: a provider's, or a causal model by folder behind `polyrank phrase-server`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.client import KEY_HEADER
from infra.errors import UnavailableError
from infra.settings import Settings

_NUMBER: Final = re.compile(r"\d+")
_INSTRUCTION: Final = (
    "You answer a customer's message. Put the given answer into friendly, short words. Use only what the answer says: "
    "add no fact, name, number or promise, and keep every name and number as it is written. Write in the language of "
    "the message. Return the reply alone."
)


class PhrasingUnavailableError(UnavailableError):
    """The generative model gave no usable answer in time."""


class UnfaithfulPhrasingError(UnavailableError):
    """The generative model left out a value that the reply has to carry, or made up a number."""


class ChatMessage(BaseModel):
    """One message of the protocol."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: str
    content: str


class ChatRequest(BaseModel):
    """`POST /chat/completions`, as far as we send it; a server may be sent more.

    Attributes:
        model: the server's name of a model.
        messages: the conversation so far.
        temperature: 0 takes the likeliest token each time.
        max_tokens: most tokens of the answer.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    temperature: float = 0
    max_tokens: int = Field(default=256, ge=1)


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message: ChatMessage
    finish_reason: str | None = None


class _Completion(BaseModel):
    model_config = ConfigDict(extra="ignore")

    choices: list[_Choice] = Field(min_length=1)


def conversation(question: str, answer: str) -> list[ChatMessage]:
    """Return what a model is asked to put an answer to a question into words by."""
    return [
        ChatMessage(role="system", content=_INSTRUCTION),
        ChatMessage(role="user", content=f"Message:\n{question}\n\nAnswer:\n{answer}"),
    ]


class Phraser:
    """Client of one model; safe to use from many threads.

    Args:
        url: the protocol's base, such as `https://api.openai.com/v1`.
        model: the server's name of the model.
        key: sent as a bearer token, and as our own servers read it; None sends none.
        timeout_s: for connecting, and for each read.
        transport: replaces the network, for instance by an application in this process.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        key: str | None = None,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._model = model
        self._url = f"{url.rstrip('/')}/chat/completions"
        headers = {} if key is None else {"Authorization": f"Bearer {key}", KEY_HEADER: key}
        self._http = httpx.Client(headers=headers, timeout=timeout_s, transport=transport)

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the client that the settings ask for; None where they name no URL."""
        if settings.phrasing_url is None:
            return None
        key = settings.phrasing_key
        return cls(
            str(settings.phrasing_url),
            model=settings.phrasing_model,
            key=None if key is None else key.get_secret_value(),
            timeout_s=settings.phrasing_timeout_s,
        )

    def phrase(self, question: str, answer: str, keep: Collection[str]) -> str:
        """Return an answer in the model's words.

        Args:
            question: what the person wrote.
            answer: what is to be said.
            keep: values that the words must hold as they are.

        Raises:
            PhrasingUnavailableError: no connection, no answer in time, an error, or nothing usable.
            UnfaithfulPhrasingError: a value is left out, or a number stands in neither message nor answer.
        """
        words = self._complete(conversation(question, answer))
        lost = [value for value in keep if value not in words]
        invented = set(_NUMBER.findall(words)) - set(_NUMBER.findall(f"{question} {answer}"))
        if lost or invented:
            # The values themselves are the user's own: not for a log.
            raise UnfaithfulPhrasingError(
                f"{self._url}: expected all {len(keep)} values of slots and no new number, found {len(lost)} left out "
                f"and {len(invented)} made up"
            )
        return words

    def _complete(self, messages: list[ChatMessage]) -> str:
        request = ChatRequest(model=self._model, messages=messages)
        try:
            response = self._http.post(self._url, json=request.model_dump()).raise_for_status()
            choice = _Completion.model_validate_json(response.content).choices[0]
        except (httpx.HTTPError, ValidationError) as error:
            raise PhrasingUnavailableError(
                f"{self._url}: expected a completion, found {type(error).__name__}: {error}"
            ) from error
        words = choice.message.content.strip()
        # Whatever stopped the model before its end ("length", a filter), half a reply is none.
        if not words or choice.finish_reason not in (None, "stop"):
            raise PhrasingUnavailableError(
                f"{self._url}: expected a completion, found one of {len(words)} characters that ended by "
                f"{choice.finish_reason!r}"
            )
        return words

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
