"""Warm-up: a release ships requests with their golden answers; a service is ready once it has replayed them.

A case carries the user's whole feature row, or the text, so replaying needs no online store and proves one thing: the
loaded models and this code give the answers that the release was built with. Retrieval's cases lie beside, in the same
file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import BaseModel, ConfigDict

from features.schema import UserFeatures
from infra.files import write_atomic
from ranking.contract import ClassPrediction, TagsPrediction, TaskAnswer
from ranking.predictions import by_row, of_texts
from ranking.rules.config import NO_RULES
from retrieval.layout import WARMUP
from retrieval.warmup import RetrievalCase, UserRow, WarmupError

if TYPE_CHECKING:
    from ranking.predictor import Predictor
    from ranking.ranker import Ranker

log = structlog.get_logger(__name__)

# Sums differ by rounding between machines; a feature next to a tree's threshold may then fall on the other side of it,
# so 2% of a list may differ.
_TOLERANCE: Final = 1e-3
_MATCHED: Final = 0.98
_ITEMS: Final = 100
# Of a text's probabilities, and of the size of its numbers: whole-number kernels of the encoder round differently from
# one kind of CPU to another.
_TEXT_TOLERANCE: Final = 2e-2
_MATCHED_TAGS: Final = 0.9


class RankingCase(BaseModel):
    """One user's features, some items, and their golden scores, best first, whatever the release's rules are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: UserRow
    items: list[str]
    scores: list[float]


class TextCase(BaseModel):
    """A text and its golden predictions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    tasks: dict[str, TaskAnswer]


class Warmup(BaseModel):
    """The part of `warmup.json` that ranking reads; retrieval keeps its own key beside it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ranking: list[RankingCase] = []
    texts: list[TextCase] = []


def record(ranker: Ranker, users: Sequence[UserFeatures]) -> list[RankingCase]:
    """Return the golden answers of a ranker for some users' first 100 candidates."""
    ids = ranker.retriever.snapshot.item_ids
    cases = []
    for user in users:
        ranked = ranker.rank(user, ranker.retriever.candidates(user, _ITEMS).candidates.items, rules=NO_RULES)
        # What a formula has no value for tells nothing of the models.
        golden = [
            (ids[item], score)
            for item, score in zip(ranked.items, ranked.scores.tolist(), strict=True)
            if not math.isnan(score)
        ]
        items, scores = [item for item, _ in golden], [score for _, score in golden]
        cases.append(RankingCase(user=UserRow.of(user), items=items, scores=scores))
    return cases


def record_texts(predictor: Predictor, texts: Sequence[str]) -> list[TextCase]:
    """Return the golden predictions of some texts; none where no task is predicted of texts."""
    tasks = predictor.row_tasks("text")
    if not tasks or not texts:
        return []
    found = by_row(texts, of_texts(predictor, texts, tasks))
    return [TextCase(text=row.id, tasks=row.tasks) for row in found]


def write(
    release: Path,
    retrieval: Sequence[RetrievalCase],
    ranking: Sequence[RankingCase],
    texts: Sequence[TextCase] = (),
) -> None:
    """Write `warmup.json` into a release that is being built."""
    body = {
        "retrieval": [case.model_dump(mode="json") for case in retrieval],
        "ranking": [case.model_dump(mode="json") for case in ranking],
        "texts": [case.model_dump(mode="json") for case in texts],
    }
    write_atomic(release / WARMUP, json.dumps(body).encode())


def replay(ranker: Ranker, cases: Sequence[RankingCase]) -> list[str]:
    """Return one line for each case whose answer is not the golden one; empty when all agree."""
    mismatches = []
    for number, case in enumerate(cases):
        ids, positions = ranker.retriever.snapshot.item_ids, ranker.retriever.snapshot.positions(case.items)
        ranked = ranker.rank(case.user.features(), positions[positions >= 0], rules=NO_RULES)
        found = {ids[item]: score for item, score in zip(ranked.items, ranked.scores.tolist(), strict=True)}
        golden = zip(case.items, case.scores, strict=True)
        wrong = [
            (item, score)
            for item, score in golden
            if not math.isclose(found.get(item, math.nan), score, rel_tol=_TOLERANCE, abs_tol=1e-7)
        ]
        if len(wrong) > (1 - _MATCHED) * len(case.items):
            item, score = wrong[0]
            mismatches.append(
                f"warm-up ranking {number}: {len(wrong)} of {len(case.items)} scores differ; item {item!r}: expected "
                f"{score!r}, found {found.get(item)!r}"
            )
    return mismatches


def replay_texts(predictor: Predictor, cases: Sequence[TextCase]) -> list[str]:
    """Return one line for each prediction of a text that is not the golden one; empty when all agree."""
    found = record_texts(predictor, [case.text for case in cases])
    return [
        f"warm-up text {number}, task {task}: expected {golden!r}, found {row.tasks.get(task)!r}"
        for number, (case, row) in enumerate(zip(cases, found, strict=True))
        for task, golden in case.tasks.items()
        if not _agree(golden, row.tasks.get(task))
    ]


def _agree(golden: TaskAnswer, found: TaskAnswer | None) -> bool:
    """Tell whether two answers are the same but for rounding.

    Classes by the probability of the golden one; tags where at least nine units in ten have the same.
    """
    if isinstance(golden, TagsPrediction):
        if not isinstance(found, TagsPrediction) or len(found.tags) != len(golden.tags):
            return False
        same = sum(own.tag == other.tag for own, other in zip(golden.tags, found.tags, strict=True))
        return same >= _MATCHED_TAGS * len(golden.tags)
    if isinstance(golden, ClassPrediction):
        return isinstance(found, ClassPrediction) and _agree(golden.probability, found.probabilities.get(golden.label))
    return isinstance(found, float) and math.isclose(found, golden, rel_tol=_TEXT_TOLERANCE, abs_tol=_TEXT_TOLERANCE)


def check(predictor: Predictor, release: Path) -> None:
    """Replay the part of a release's `warmup.json` that is about predictions and rankings.

    Raises:
        WarmupError: an answer is not the golden one.
    """
    path = release / WARMUP
    cases = Warmup.model_validate_json(path.read_bytes()) if path.exists() else Warmup()
    mismatches = replay_texts(predictor, cases.texts)
    if predictor.ranker is not None:
        mismatches += replay(predictor.ranker, cases.ranking)
    asked = len(cases.texts) + len(cases.ranking)
    if mismatches:
        raise WarmupError(f"{release}: {len(mismatches)} differ of the answers to {asked} requests; {mismatches[0]}")
    log.info("ranking_warmup_passed", release=release.name, requests=asked)
