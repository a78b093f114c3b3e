"""The ranking service's answers: plain functions from a request to a response; the routes only call them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import structlog
from pydantic import TypeAdapter

from features.schema import Int32, UserFeatures
from infra.errors import UnavailableError
from infra.watcher import Loaded
from ranking import predictions, warmup
from ranking.candidates import CandidateSource, Found, trending, with_pinned
from ranking.contract import (
    ItemExplanation,
    PredictRequest,
    PredictResponse,
    RankDegraded,
    RankedItem,
    RankRequest,
    RankResponse,
    RecommendRequest,
)
from ranking.explain import Explanation
from ranking.layout import SCHEMA
from ranking.predictor import Predictor
from ranking.ranker import Ranked, Ranker
from ranking.reply.config import Replies
from ranking.rules.config import Rules
from ranking.users import ShownSource, UserReader
from retrieval.contract import RequestTooWideError, SourceName
from retrieval.encoder.layout import TaskOn
from retrieval.engine import Retriever
from retrieval.layout import SNAPSHOT
from retrieval.live.changes import Changed
from retrieval.parts import MissingPartError, Part, check_sources, missing_part
from retrieval.warmup import check as check_retrieval

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from infra.telemetry import Metrics

log = structlog.get_logger(__name__)

_ITEMS: Final = TypeAdapter(list[RankedItem])


@dataclass(frozen=True, eq=False)
class LoadedRelease:
    """What a service holds of one release; its parts share their arrays.

    Attributes:
        predictor: of texts at least.
        retriever: None in a release without items.
        ranker: None in a release that ranks nothing.
        replies: None in a release that replies to nothing.
    """

    predictor: Predictor
    retriever: Retriever | None
    ranker: Ranker | None
    replies: Replies | None = None

    @classmethod
    def load(cls, release: Path) -> Self:
        """Load whatever parts the release directory `release` has.

        Raises:
            FeatureMismatchError: its models were fitted on other features than this code computes.
        """
        retriever = Retriever.load(release) if (release / SNAPSHOT).exists() else None
        ranker = Ranker.load(release, retriever) if retriever is not None and (release / SCHEMA).exists() else None
        return cls(Predictor.load(release, retriever, ranker), retriever, ranker, Replies.load(release))

    def over(self, changed: Changed) -> Self:
        """Return the same release over items that have changed."""
        retriever = changed.retriever
        ranker = None if self.ranker is None else self.ranker.over(retriever, changed.encoded)
        predictor = replace(self.predictor, retriever=retriever, ranker=ranker)
        return replace(self, predictor=predictor, retriever=retriever, ranker=ranker)

    def check_replies(self) -> None:
        """Check that the release has what its replies name, if it replies.

        Raises:
            InvalidInputError: an intent, a slot or a column is missing; names the nearest.
        """
        if self.replies is not None:
            heads = self.predictor.heads
            assert heads is not None, "a workspace that replies has tasks on texts"
            classes = {name: heads.tasks[name].classes for name in self.replies.tasks}
            columns = [] if self.retriever is None else self.retriever.snapshot.attributes.columns
            self.replies.check(classes, columns)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the release holds."""
        found: tuple[Part, ...] = ("encoder",) if self.retriever is None else self.retriever.parts
        return found if self.ranker is None else (*found, "ranking")


def load_release(release: Path) -> LoadedRelease:
    """Load a release and replay its warm-up: the loader for a `ReleaseWatcher`.

    Raises:
        WarmupError: an answer is not the golden one.
        FeatureMismatchError: its models were fitted on other features than this code computes.
    """
    loaded = LoadedRelease.load(release)
    if loaded.retriever is not None:
        check_retrieval(loaded.retriever, release)
    warmup.check(loaded.predictor, release)
    return loaded


def retriever_of(loaded: Loaded[LoadedRelease]) -> Loaded[Retriever]:
    """Return the retriever of the release in service.

    Raises:
        MissingPartError: the release has no items.
    """
    if loaded.value.retriever is None:
        raise missing_part(loaded.release_id, "items", loaded.value.parts)
    return Loaded(loaded.release_id, loaded.value.retriever)


def ranker_of(loaded: Loaded[LoadedRelease]) -> Ranker:
    """Return the ranker of the release in service.

    Raises:
        MissingPartError: the release ranks nothing.
    """
    if loaded.value.ranker is None:
        raise missing_part(loaded.release_id, "ranking", loaded.value.parts)
    return loaded.value.ranker


@dataclass(frozen=True, kw_only=True, eq=False)
class Answerer:
    """Answers requests from whatever release is in service when they arrive.

    Attributes:
        users: one online read per request; None in a service of a workspace without events.
        candidates: where `/v1/recommend` gets candidates.
        metrics: counts fallbacks and times the parts.
        max_batch: most entries that one request may list.
        shown: what users were shown; None where nothing tells.
    """

    users: UserReader | None
    candidates: CandidateSource
    metrics: Metrics
    max_batch: int
    shown: ShownSource | None = None

    def rank(self, loaded: Loaded[LoadedRelease], request: RankRequest, request_id: str) -> RankResponse:
        """Answer `/v1/rank`.

        Raises:
            MissingPartError: the release ranks nothing.
            ObjectiveError: no such objective, and no formula over what is known.
            NamedItemsError, RuleError: a rule names what the items lack.
            RequestTooWideError: more items than `max_batch`.
        """
        self._check(len(request.items))
        ranker = ranker_of(loaded)
        user, degraded = self._read(request.user_id)
        ids = list(dict.fromkeys(item.item_id for item in request.items))
        positions = ranker.retriever.snapshot.positions(ids)
        held = positions >= 0
        unknown = [item_id for item_id, own in zip(ids, held.tolist(), strict=True) if not own]
        if unknown:
            degraded.append("unknown_items")
        found = _Asked(user, positions[held], None, request_id, unknown, degraded)
        return self._ranked(ranker, loaded.release_id, request, found)

    def recommend(self, loaded: Loaded[LoadedRelease], request: RecommendRequest, request_id: str) -> RankResponse:
        """Answer `/v1/recommend`: candidates, then rank, from one read of the user's features.

        Raises:
            MissingPartError: the release ranks nothing, or lacks a source asked for.
            FilterError: the filter is none, or doesn't fit the items.
            ObjectiveError: no such objective, and no formula over what is known.
            NamedItemsError, RuleError: a rule names what the items lack.
            RequestTooWideError: more candidates, or a longer list of items, than `max_batch`.
        """
        pinned = () if request.rules is None else request.rules.pinned
        self._check(max(request.candidates, request.widest, len(pinned)))
        ranker = ranker_of(loaded)
        check_sources(loaded.release_id, request.sources or (), ranker.retriever.sources)
        user, degraded = self._read(request.user_id)
        with self._timed("candidates"):
            found = self._find(request, user, ranker, degraded)
        degraded += [reason for reason in found.degraded if reason not in degraded]
        asked = _Asked(user, found.items, found.sources, request_id, [], degraded)
        return self._ranked(ranker, loaded.release_id, request, asked)

    def predict(self, loaded: Loaded[LoadedRelease], request: PredictRequest) -> PredictResponse:
        """Answer `/v1/predict`.

        Raises:
            TaskUnavailableError: the release has no such task on what was asked about; names those it has.
            EncoderUnavailableError: texts, of a release without a text encoder.
            RequestTooWideError: more of them than `max_batch`.
        """
        predictor = loaded.value.predictor
        degraded: list[RankDegraded] = []
        on, ids = _rows(request)
        self._check(len(ids))
        tasks = predictions.wanted_tasks(predictor, loaded.release_id, on, request.tasks)
        if on == "user":
            reads = [self._read(user_id) for user_id in ids]
            degraded += dict.fromkeys(reason for _, reasons in reads for reason in reasons)
            answers = predictions.of_users(predictor, [user for user, _ in reads], tasks)
        elif on == "item":
            positions = retriever_of(loaded).value.snapshot.positions(ids)
            degraded += ["unknown_items"] if (positions < 0).any() else []
            answers = predictions.of_items(predictor, positions, tasks)
        else:
            with self._timed("texts"):
                answers = predictions.of_texts(predictor, ids, tasks)
        self.metrics.count_degraded(degraded)
        found = predictions.by_row(ids, answers)
        return PredictResponse(release=loaded.release_id, predictions=found, degraded=degraded)

    def _check(self, entries: int) -> None:
        if entries > self.max_batch:
            raise RequestTooWideError(f"expected at most {self.max_batch} entries, found {entries}")

    def _read(self, user_id: str) -> tuple[UserFeatures, list[RankDegraded]]:
        if self.users is None:
            raise MissingPartError("user_id: expected online features, found a service of a workspace without events")
        with self._timed("user_features"):
            return self.users.read(user_id)

    def _find(
        self, request: RecommendRequest, user: UserFeatures, ranker: Ranker, degraded: list[RankDegraded]
    ) -> Found:
        retriever, pinned = ranker.retriever, _rules(ranker, request).pinned
        try:
            found = self.candidates.find(request, user, retriever)
            return with_pinned(found, pinned, self.candidates, request, user, retriever) if pinned else found
        except UnavailableError as error:
            log.warning("retrieval_unavailable", error=str(error))
            degraded.append("retrieval_unavailable")
            return trending(request, user, retriever)

    def _ranked(
        self, ranker: Ranker, release_id: str, request: RankRequest | RecommendRequest, asked: _Asked
    ) -> RankResponse:
        rules = _rules(ranker, request)
        shown = self._shown(request, rules)
        with self._timed("rank"):
            ranked = ranker.rank(
                asked.user,
                asked.items,
                k=request.k,
                asked=request.objective,
                rules=rules,
                shown=shown,
                explain=request.explain,
                sources=asked.sources,
            )
        self.metrics.count_degraded(asked.degraded)
        return RankResponse(
            request_id=request.context.request_id or asked.request_id,
            release=release_id,
            items=_items(ranker.retriever.snapshot.item_ids, ranked, asked),
            unknown_items=asked.unknown,
            degraded=asked.degraded,
        )

    def _shown(self, request: RankRequest | RecommendRequest, rules: Rules) -> Mapping[str, int]:
        if rules.frequency is None:
            return {}
        if request.context.shown is not None or self.shown is None:
            return request.context.shown or {}
        with self._timed("shown"):
            return self.shown.shown(request.user_id, rules.frequency.days, datetime.now(UTC))

    def _timed(self, part: str) -> AbstractContextManager[object]:
        return self.metrics.timed(part)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a request comes down to once its user is read and its items are positions."""

    user: UserFeatures
    items: Int32
    sources: Sequence[Sequence[SourceName]] | None
    request_id: str
    unknown: list[str]
    degraded: list[RankDegraded]


def _rules(ranker: Ranker, request: RankRequest | RecommendRequest) -> Rules:
    return ranker.models.schema.rules if request.rules is None else request.rules


def _rows(request: PredictRequest) -> tuple[TaskOn, Sequence[str]]:
    """Return what a request asks about, of which its contract gives exactly one."""
    if request.user_ids is not None:
        return "user", request.user_ids
    return ("text", request.texts or ()) if request.item_ids is None else ("item", request.item_ids)


def _items(ids: Sequence[str], ranked: Ranked, asked: _Asked) -> list[RankedItem]:
    """Return the contract's items: validated in one call, which takes half as long as constructing each by hand."""
    named = {} if asked.sources is None else dict(zip(asked.items.tolist(), asked.sources, strict=True))
    columns = {task: values.tolist() for task, values in ranked.tasks.items()}
    return _ITEMS.validate_python(
        [
            {
                "item_id": ids[item],
                "score": None if math.isnan(score) else score,
                # a probability that doesn't apply is NaN, the one value unequal to itself
                "tasks": {task: values[row] for task, values in columns.items() if values[row] == values[row]},
                "sources": named.get(item),
                "explanation": None if ranked.explanations is None else _explanation(ranked.explanations[row]),
                "rules": None if ranked.moved is None else ranked.moved[row],
            }
            for row, (item, score) in enumerate(zip(ranked.items.tolist(), ranked.scores.tolist(), strict=True))
        ]
    )


def _explanation(own: Explanation) -> ItemExplanation:
    return ItemExplanation(reason=own.reason, contributions=dict(own.contributions), features=dict(own.features))
