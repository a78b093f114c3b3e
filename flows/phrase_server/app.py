"""The protocol's one route that phrasing needs, and the process that serves it."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal
from uuid import uuid4

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from flows.phrase_server.model import CausalModel
from infra import web
from infra.settings import Settings, require_keys_if_public
from infra.telemetry import Metrics, configure_logging
from infra.web import ReadyState
from ranking.reply.phrasing import ChatMessage, ChatRequest


class Choice(BaseModel):
    """One answer; there is always one."""

    index: int = 0
    message: ChatMessage
    finish_reason: Literal["stop", "length"]


class ChatResponse(BaseModel):
    """The answer of `/v1/chat/completions`."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]


def create_app(model: CausalModel, settings: Settings) -> FastAPI:
    """Return the app around a model: keys, limits, errors and health as of our other services."""
    routes = APIRouter(prefix="/v1", tags=["phrasing"])

    # A plain function, run in a worker thread: an answer takes seconds.
    @routes.post("/chat/completions")
    def complete(body: ChatRequest) -> ChatResponse:
        """Answer a conversation; the request's model name is not looked at, as there is one."""
        found = model.complete(body.messages, body.max_tokens, body.temperature)
        return ChatResponse(
            id=f"chatcmpl-{uuid4().hex}",
            created=int(time.time()),
            model=model.name,
            choices=[
                Choice(message=ChatMessage(role="assistant", content=found.text), finish_reason=found.finish_reason)
            ],
        )

    return web.create_app(
        title="Polyrank phrase server",
        version=version("polyrank"),
        settings=settings,
        metrics=Metrics(),
        routers=[routes],
        ready=lambda: ReadyState(ready=True, checks={"model": "ok"}),
        description=f"Chat completions of the causal language model {model.name}.",
    )


def serve(folder: Path, host: str | None, port: int) -> None:
    """Serve a model until told to stop.

    Args:
        folder: of the model.
        host: in place of POLYRANK_HOST.
        port: to bind; POLYRANK_PORT is that of the services.

    Raises:
        CausalModelError: the folder holds no causal language model.
        KeysRequiredError: other machines could reach it and there are no keys.
    """
    settings = Settings.from_environment(host=host, port=port)
    require_keys_if_public(settings)
    configure_logging(settings.log_level, json=settings.log_json)
    web.serve(create_app(CausalModel.load(folder), settings), settings)
