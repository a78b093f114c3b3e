"""The routes of replies: `/v1/reply` and `/v1/feedback`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from infra.problems import problem_responses, request_id
from infra.watcher import Loaded
from ranking.answers import LoadedRelease
from ranking.reply.contract import FeedbackRequest, FeedbackResponse, ReplyRequest, ReplyResponse
from ranking.reply.replier import Replier


def router(replier: Replier, current: Callable[[], Loaded[LoadedRelease]]) -> APIRouter:
    """Return the routes of replies.

    Args:
        replier: what they call.
        current: the release in service, asked once a request so that one answer comes from one release.
    """
    routes = APIRouter(prefix="/v1", tags=["replies"])

    # Plain functions, run in worker threads: see `ranking.service`.
    @routes.post("/reply", response_model=ReplyResponse, responses=problem_responses(409))
    def reply(body: ReplyRequest, request: Request) -> Response:
        """Reply to a text: by its intent's template, else by passages, else by handing over to a person."""
        answer = replier.reply(current(), body, request_id(request), datetime.now(UTC))
        return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    @routes.post("/feedback", status_code=202, responses=problem_responses(404, 409))
    def feedback(body: FeedbackRequest) -> FeedbackResponse:
        """Take what a person says of a turn; answered once it is durable."""
        return replier.feedback(current(), body, datetime.now(UTC))

    return routes
