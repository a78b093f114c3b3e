"""What the retrieval service takes and gives over HTTP; names are part of the published contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.errors import InvalidInputError

SourceName = Literal["semantic", "collaborative", "repeat", "trending", "sequence", "campaign"]

# Why an answer is less than it could be; every one is counted by the service and never an error.
Degraded = Literal[
    "unknown_user",  # no features, no vector: the answer is what trends
    "user_not_in_release",  # newer than the release: the history alone asks
    "features_unavailable",  # the online store could not be read: no history
    "encoder_unavailable",  # the text could not be encoded: the text counts for nothing
    "index_unavailable",  # the index could not be searched: no semantic source
    "sources_empty",  # the sources asked for had nothing: the answer is what trends
]

MAX_CANDIDATES: Final = 10_000
MAX_LISTED: Final = 10_000
MAX_TEXT: Final = 10_000


class RequestTooWideError(InvalidInputError):
    """The request asks for more than this service's settings allow."""


class Limits(BaseModel):
    """Which items an answer may name, besides being eligible and available now.

    Attributes:
        filter: over item attributes, such as `department == "GROCERY" and mean_price < 5` (see `features.filters`).
        allow: item ids, none but which may appear; unknown ones are ignored.
        exclude: item ids that may not appear; unknown ones are ignored.
        exclude_bought: leave out what the user has bought, as far as the user's features tell.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: str | None = None
    allow: list[str] | None = Field(None, min_length=1, max_length=MAX_LISTED)
    exclude: list[str] = Field(default_factory=list, max_length=MAX_LISTED)
    exclude_bought: bool = False

    @property
    def widest(self) -> int:
        """Length of the longer list."""
        return max(len(self.allow or ()), len(self.exclude))


class CandidatesRequest(Limits):
    """`POST /v1/candidates`: a user, a text, an item, or a user with a text in place of the user's own vector.

    Attributes:
        user_id: whose candidates.
        text: what they are looking for.
        item_id: what they should resemble; neither user_id nor text may stand beside it.
        k: how many.
        sources: which sources may name candidates; by default all that apply.
        filter, allow, exclude, exclude_bought: as in `Limits`.
    """

    user_id: str | None = Field(None, min_length=1, max_length=512)
    text: str | None = Field(None, min_length=1, max_length=MAX_TEXT)
    item_id: str | None = Field(None, min_length=1, max_length=512)
    k: int = Field(100, ge=1, le=MAX_CANDIDATES)
    sources: list[SourceName] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if self.user_id is None and self.text is None and self.item_id is None:
            raise ValueError("expected one of user_id, text and item_id, found none")
        if self.item_id is not None and (self.user_id is not None or self.text is not None):
            raise ValueError("expected item_id alone, found it beside user_id or text")
        if self.exclude_bought and self.user_id is None:
            raise ValueError("exclude_bought: expected a user_id, whose purchases are left out, found none")
        return self


class Candidate(BaseModel):
    """One candidate.

    Attributes:
        item_id: the item.
        score: orders this answer; comparable inside it only.
        sources: which sources named it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str
    score: float
    sources: list[SourceName]


class CandidateRow(TypedDict):
    """The fields of a `Candidate` as a service writes them."""

    item_id: str
    score: float
    sources: Sequence[SourceName]


class CandidatesResponse(BaseModel):
    """The answer of `POST /v1/candidates` and `GET /v1/similar/{item_id}`.

    Attributes:
        release: id of the release that answered.
        candidates: distinct items, best first, at most k.
        degraded: the fallbacks that were used; empty when none was.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str
    candidates: list[Candidate]
    degraded: list[Degraded] = Field(default_factory=list)
