"""Where `/v1/recommend` gets its candidates from: the retriever in this process, or the retrieval service over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import numpy as np

from features.schema import Int32, UserFeatures
from retrieval.client import RetrievalClient
from retrieval.contract import Degraded, SourceName
from retrieval.quota import source_names

if TYPE_CHECKING:
    from ranking.contract import RecommendRequest
    from retrieval.engine import Retriever


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Candidates of one request.

    Attributes:
        items: int32 `[n]` distinct positions in the release that ranks.
        sources: per candidate, which sources named it.
        degraded: retrieval's fallbacks.
    """

    items: Int32
    sources: Sequence[Sequence[SourceName]]
    degraded: Sequence[Degraded]


class CandidateSource(Protocol):
    """Gives a user's candidates; raises `UnavailableError` when it can't be reached."""

    def find(self, request: RecommendRequest, user: UserFeatures, retriever: Retriever) -> Found:
        """Return at most `request.candidates` items.

        Args:
            request: what was asked.
            user: her features, read once for retrieval and ranking.
            retriever: of the release that ranks; its positions are the answer's.
        """


class LocalCandidates:
    """The ranking release's own retriever."""

    def find(self, request: RecommendRequest, user: UserFeatures, retriever: Retriever) -> Found:
        """Ask the retriever; see `CandidateSource`."""
        found = retriever.candidates(
            user, request.candidates, limits=request, sources=request.sources, now=datetime.now(UTC)
        )
        merged = found.candidates
        names = [source_names(bits) for bits in merged.sources.tolist()]
        return Found(items=merged.items, sources=names, degraded=found.degraded)


class RemoteCandidates:
    """The retrieval service; it reads the user's features itself.

    Args:
        client: of that service; thread-safe, as httpx clients are.
    """

    def __init__(self, client: RetrievalClient) -> None:
        self._client = client

    def find(self, request: RecommendRequest, user: UserFeatures, retriever: Retriever) -> Found:
        """Ask the service; items that the ranking release does not hold are left out."""
        answer = self._client.candidates(
            user_id=user.user_id,
            k=request.candidates,
            filter=request.filter,
            allow=request.allow,
            exclude=request.exclude,
            exclude_bought=request.exclude_bought,
            sources=request.sources,
        )
        positions = retriever.snapshot.positions([candidate.item_id for candidate in answer.candidates])
        held = positions >= 0
        names = [candidate.sources for candidate, own in zip(answer.candidates, held, strict=True) if own]
        return Found(items=positions[held], sources=names, degraded=answer.degraded)


def with_pinned(
    found: Found, pinned: Sequence[str], source: CandidateSource, request: RecommendRequest, user: UserFeatures,
    retriever: Retriever,
) -> Found:  # fmt: skip
    """Return what was found and, behind it, those of the pinned items that it lacks and the request allows.

    Args:
        found: candidates of the request.
        pinned: item ids; those that the release doesn't hold are ignored.
        source: where they come from; this raises its errors.
        request: what was asked.
        user: her features.
        retriever: of the release that ranks.
    """
    positions = retriever.snapshot.positions(pinned)
    lacking = (positions >= 0) & ~np.isin(positions, found.items)
    wanted = {item_id for item_id, own in zip(pinned, lacking.tolist(), strict=True) if own}
    if request.allow is not None:
        wanted &= set(request.allow)
    if not wanted:
        return found
    # Any source may name them: nothing else is allowed.
    asked = request.model_copy(update={"allow": sorted(wanted), "candidates": len(wanted), "sources": None})
    more = source.find(asked, user, retriever)
    return Found(
        items=np.concatenate([found.items, more.items]),
        sources=[*found.sources, *more.sources],
        degraded=found.degraded,
    )


def trending(request: RecommendRequest, user: UserFeatures, retriever: Retriever) -> Found:
    """Return what trends: the fallback when the candidate source can't be reached."""
    found = retriever.candidates(user, request.candidates, limits=request, sources=["trending"], now=datetime.now(UTC))
    names: list[Sequence[SourceName]] = [["trending"]] * len(found.candidates)
    return Found(items=found.candidates.items, sources=names, degraded=())
