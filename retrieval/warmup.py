"""Warm-up: requests that a release carries with their golden answers, replayed before it serves.

A release is ready when its own requests give the answers that they gave where it was built. The replay also loads what
is lazy (the text encoder, memory-mapped pages), so the first real request is not the slow one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, TypeAdapter

from features.schema import CATEGORY_STATS, HISTORY_STATS, Float32, UserFeatures
from infra.errors import PolyrankError
from retrieval.contract import Candidate, CandidateRow, CandidatesRequest, Degraded
from retrieval.engine import Retriever
from retrieval.layout import SNAPSHOT, WARMUP
from retrieval.parts import missing_part
from retrieval.quota import source_names

log = structlog.get_logger(__name__)

# Another CPU sums in another order, so two near-equal items may swap: one rank moves a fused score by at most 2.7e-3
# (10 / 61 - 10 / 62), and 2% of a list may differ at its end.
_SCORE_TOLERANCE: Final = 3e-3
_MATCHED: Final = 0.98
# A text's vector is made anew, and in whole numbers not quite the same on another kind of CPU.
_MATCHED_TEXT: Final = 0.9
_CANDIDATES: Final = TypeAdapter(list[Candidate])


class WarmupError(PolyrankError):
    """A release does not give its golden answers on this machine."""

    status = 500
    title = "Warm-up failed"


class UserRow(BaseModel):
    """`UserFeatures` as JSON; None stands for NaN, shapes as there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: str
    known: bool
    as_of: float | None
    stats: list[float | None]
    items: list[int]
    history: list[list[float | None]]
    categories: list[int]
    category_stats: list[list[float | None]]

    @classmethod
    def of(cls, user: UserFeatures) -> Self:
        """Return the row of `user`."""
        return cls(
            user_id=user.user_id,
            known=user.known,
            as_of=None if math.isnan(user.as_of) else user.as_of,
            stats=_listed(user.stats[None])[0],
            items=user.items.tolist(),
            history=_listed(user.history),
            categories=user.categories.tolist(),
            category_stats=_listed(user.category_stats),
        )

    def features(self) -> UserFeatures:
        """Return the `UserFeatures` that `of` was given."""
        return UserFeatures(
            user_id=self.user_id,
            known=self.known,
            as_of=math.nan if self.as_of is None else self.as_of,
            stats=np.array(self.stats, np.float32),
            items=np.array(self.items, np.int32),
            history=np.array(self.history, np.float32).reshape(-1, len(HISTORY_STATS)),
            categories=np.array(self.categories, np.int32),
            category_stats=np.array(self.category_stats, np.float32).reshape(-1, len(CATEGORY_STATS)),
        )


class RetrievalCase(BaseModel):
    """One request, the features of its user, and the golden answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: CandidatesRequest
    user: UserRow | None
    candidates: list[Candidate]
    degraded: list[Degraded]


class Warmup(BaseModel):
    """The part of `warmup.json` that retrieval reads; ranking keeps its own key beside it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    retrieval: list[RetrievalCase] = []


def answer(
    retriever: Retriever, request: CandidatesRequest, user: UserFeatures | None, *, now: datetime | None = None
) -> tuple[list[CandidateRow], list[Degraded]]:
    """Answer a contract's request: the one path of the service, the recording and the replay.

    The latter two, which must agree at any time, ask as of the release's own.
    """
    found = retriever.candidates(
        user,
        request.k,
        limits=request,
        sources=request.sources,
        text=request.text,
        item_id=request.item_id,
        now=now,
    )
    ids, merged = retriever.snapshot.item_ids, found.candidates
    rows = zip(merged.items.tolist(), merged.scores.tolist(), merged.sources.tolist(), strict=True)
    candidates: list[CandidateRow] = [
        {"item_id": ids[item], "score": score, "sources": source_names(bits)} for item, score, bits in rows
    ]
    return candidates, list(found.degraded)


def record(
    retriever: Retriever, requests: Sequence[tuple[CandidatesRequest, UserFeatures | None]]
) -> list[RetrievalCase]:
    """Return the cases of `requests` with the answers that `retriever` gives now."""
    cases = []
    for request, user in requests:
        candidates, degraded = answer(retriever, request, user)
        row = None if user is None else UserRow.of(user)
        golden = _CANDIDATES.validate_python(candidates)
        cases.append(RetrievalCase(request=request, user=row, candidates=golden, degraded=degraded))
    return cases


def replay(retriever: Retriever, cases: Sequence[RetrievalCase]) -> list[str]:
    """Return one line for each case whose answer is not the golden one; empty when all agree."""
    mismatches = []
    for number, case in enumerate(cases):
        candidates, degraded = answer(retriever, case.request, case.user.features() if case.user else None)
        scores = {candidate["item_id"]: candidate["score"] for candidate in candidates}
        matched = sum(
            abs(scores.get(golden.item_id, math.inf) - golden.score) <= _SCORE_TOLERANCE for golden in case.candidates
        )
        expected = len(case.candidates)
        least = (_MATCHED if case.request.text is None else _MATCHED_TEXT) * expected
        if len(candidates) != expected or matched < least or degraded != case.degraded:
            mismatches.append(
                f"warm-up request {number}: expected {expected} candidates and degraded {case.degraded}, found "
                f"{len(candidates)} of which {matched} agree, and degraded {degraded}"
            )
    return mismatches


def load_ready(release: Path) -> Retriever:
    """Load a release and replay its warm-up: the loader for a `ReleaseWatcher`.

    Raises:
        MissingPartError: the release has no items.
        WarmupError: an answer is not the golden one.
    """
    if not (release / SNAPSHOT).exists():
        raise missing_part(release.name, "items", ["encoder"])
    retriever = Retriever.load(release)
    check(retriever, release)
    return retriever


def check(retriever: Retriever, release: Path) -> None:
    """Replay the retrieval part of a release's `warmup.json`.

    Raises:
        WarmupError: an answer is not the golden one.
    """
    path = release / WARMUP
    cases = Warmup.model_validate_json(path.read_bytes()).retrieval if path.exists() else []
    mismatches = replay(retriever, cases)
    if mismatches:
        raise WarmupError(f"{release}: {len(mismatches)} of {len(cases)} answers differ; {mismatches[0]}")
    log.info("warmup_passed", release=release.name, requests=len(cases))


def _listed(values: Float32) -> list[list[float | None]]:
    """Return float32 `[n, columns]` as lists with None for NaN."""
    return [[None if math.isnan(value) else value for value in row] for row in values.tolist()]
