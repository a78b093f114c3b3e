"""The retriever: one release's items, vectors, index and collaborative model, answering for candidates.

Everything here runs without Feast, HTTP or torch: the service reads the user's features and passes them in.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Self

import numpy as np
import structlog

from features.schema import HISTORY_STATS, ITEM_STATS, Float32, Int32, UserFeatures
from infra.errors import InvalidInputError, unknown_name
from retrieval import layout, sources
from retrieval.asking import Asking
from retrieval.campaigns import Audiences, Campaigns, Running
from retrieval.catalogue import CatalogueConfig
from retrieval.collaborative import Collaborative
from retrieval.config import RetrievalConfig
from retrieval.contract import Degraded, Limits, SourceName
from retrieval.encoder.head_runtime import Heads
from retrieval.index import IndexConfig, IndexUnavailableError, load_index
from retrieval.lazy_encoder import LazyEncoder, TextEncoderLike
from retrieval.learnt_merge import LearntMerge, depths
from retrieval.lists import Asked, SourceLists
from retrieval.parts import Part
from retrieval.query import Near
from retrieval.quota import PER, held_sources
from retrieval.rows import ItemRows, mapped
from retrieval.scope import Mask, Scopes
from retrieval.searchable import Searchable
from retrieval.segments import Segments
from retrieval.sequence.runtime import SequenceModel
from retrieval.sequence.source import SequenceSource
from retrieval.snapshot import ItemSnapshot
from retrieval.sources import Candidates, Ranking

log = structlog.get_logger(__name__)

# What every request has that says nothing of it.
NO_LIMITS: Final = Limits()


class ReleasePartError(InvalidInputError):
    """Two parts of a release disagree in size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateSet:
    """Candidates and the fallbacks that were used to find them."""

    candidates: Candidates
    degraded: tuple[Degraded, ...] = ()


@dataclass(kw_only=True, eq=False)
class Retriever:
    """One loaded release; safe to use from many threads.

    Attributes:
        snapshot: all items.
        item_vectors: float32 `[n_items, dim]`, rows of length 1.
        index: over the eligible items.
        user_ids: position -> id, as in `user_vectors` and the ALS users; empty in a release without events.
        user_vectors: float32 `[n_users, dim]`, rows of length 1 (zeros for a user without text).
        collaborative: ALS and item-kNN; None in a release without events.
        heads: the encoder's task heads, for ranking; None when the release has no encoder.
        config: see there.
        sequence: what a history leads to; None where the release has no such model.
        merge: the learnt merge; None where the release has none.
        segments: what trends by segment of the users; None where the release has none.
        audiences: whom the configured campaigns address.
        catalogue: how the release read its items' columns; None where it doesn't say.
        item_sequence: the newest logged change of items that it knows.
        texts: the text encoder.
    """

    snapshot: ItemSnapshot
    item_vectors: ItemRows
    index: Searchable
    user_ids: list[str]
    user_vectors: Float32
    collaborative: Collaborative | None
    heads: Heads | None = None
    config: RetrievalConfig = field(default_factory=RetrievalConfig)
    texts: LazyEncoder = field(default_factory=lambda: LazyEncoder(None))
    sequence: SequenceModel | None = None
    merge: LearntMerge | None = None
    segments: Segments | None = None
    audiences: Audiences = field(default_factory=lambda: Audiences(members={}))
    catalogue: CatalogueConfig | None = None
    item_sequence: int = 0

    def __post_init__(self) -> None:
        n, sizes = len(self.snapshot), {}
        sizes["item vectors"] = len(self.item_vectors)
        if self.collaborative is not None:
            sizes["collaborative items"] = self.collaborative.meta.items
        if self.sequence is not None:
            sizes["sequence items"] = self.sequence.meta.items
        wrong = {part: size for part, size in sizes.items() if size != n}
        if wrong or len(self.user_vectors) != len(self.user_ids):
            raise ReleasePartError(
                f"release: expected {n} items (snapshot) and {len(self.user_ids)} users (ids), "
                f"found {wrong or {'user vectors': len(self.user_vectors)}}"
            )
        self._scopes = Scopes(self.snapshot)
        self.ranked = held_sources(users=self.collaborative is not None, sequence=self.sequence is not None)
        if self.merge is not None:
            self.merge.check(self.ranked)
        self._campaigns = Campaigns.of(self.config.campaigns, self.audiences, self._scopes.matching)
        for name in self._campaigns.empty:
            # A brand may be misspelt, or its items come live.
            log.warning("campaign_without_items", campaign=name, items=self.config.campaigns[name].items)
        following = self._following(self.snapshot, self.item_vectors)
        self._asking = Asking(
            users={user_id: position for position, user_id in enumerate(self.user_ids)},
            user_vectors=self.user_vectors,
            item_vectors=self.item_vectors,
            collaborative=self.collaborative,
            segments=self.segments,
            sequence=following,
            texts=self.texts,
            weight=_column("history statistic", self.config.history_weight, HISTORY_STATS),
            recent=self.config.recent_queries,
        )
        members, fitted = self.snapshot.eligible_positions, self.collaborative
        self._lists = SourceLists(
            index=self.index,
            members=members,
            member_factors=None if fitted is None else np.ascontiguousarray(fitted.als.items[members]),
            collaborative=fitted,
            trending=self._trending_order(members),
            quota=self.config.quota,
            sequence=following,
        )

    @classmethod
    def load(
        cls,
        release: Path,
        *,
        load_encoder: Callable[[], TextEncoderLike] | None = None,
        index_config: IndexConfig | None = None,
        merge: Path | None = None,
    ) -> Self:
        """Load the retrieval parts of the release directory `release`; arrays are memory-mapped.

        Args:
            release: the directory.
            load_encoder: replaces the release's own ONNX encoder.
            index_config: only `gpu` is read.
            merge: another folder that holds the learnt merge.

        Raises:
            ReleasePartError: parts disagree in size.
        """
        item_vectors = mapped(release / layout.ITEM_VECTORS)
        catalogue = CatalogueConfig.load(release)
        config = release / layout.RETRIEVAL_CONFIG
        has_users = (release / layout.USER_IDS).exists()
        has_sequence = (release / layout.SEQUENCE_DIR).exists()
        retrieval = RetrievalConfig.model_validate_json(config.read_bytes()) if config.exists() else RetrievalConfig()
        user_ids = json.loads((release / layout.USER_IDS).read_text(encoding="utf-8")) if has_users else []
        return cls(
            snapshot=ItemSnapshot.load(release / layout.SNAPSHOT),
            item_vectors=item_vectors,
            index=load_index(release / layout.INDEX_DIR, item_vectors, index_config),
            user_ids=user_ids,
            user_vectors=mapped(release / layout.USER_VECTORS) if has_users else item_vectors[:0],
            collaborative=Collaborative.load(release / layout.COLLABORATIVE_DIR) if has_users else None,
            heads=Heads.load(release / layout.ENCODER_DIR) if (release / layout.ENCODER_HEADS).exists() else None,
            config=retrieval,
            texts=LazyEncoder.of(release) if load_encoder is None else LazyEncoder(load_encoder),
            sequence=SequenceModel.load(release / layout.SEQUENCE_DIR) if has_sequence else None,
            merge=LearntMerge.load((merge or release) / layout.MERGE),
            segments=Segments.load(release / layout.SEGMENTS, len(user_ids)),
            audiences=Audiences.load(release / layout.AUDIENCES, retrieval.campaigns, len(user_ids)),
            catalogue=catalogue,
            item_sequence=0 if catalogue is None else catalogue.item_sequence,
        )

    def over(self, snapshot: ItemSnapshot, *, item_vectors: ItemRows, index: Searchable, item_sequence: int) -> Self:
        """Return the same with other items: those it has keep their positions, new ones follow.

        What behaviour says is as before: new items have no collaborative vector and don't trend; the sequence model
        knows them by their texts.
        """
        other = copy.copy(self)
        other.snapshot, other.item_vectors, other.index = snapshot, item_vectors, index
        other.item_sequence = item_sequence
        following = other._following(snapshot, item_vectors)
        other._scopes, other._lists = Scopes(snapshot), replace(self._lists, index=index, sequence=following)
        other._campaigns = Campaigns.of(self.config.campaigns, self.audiences, other._scopes.matching)
        other._asking = replace(self._asking, item_vectors=item_vectors, sequence=following)
        return other

    @property
    def sources(self) -> tuple[SourceName, ...]:
        """Who may name candidates: those that are merged by rank, and campaigns where the release has any."""
        return (*self.ranked, "campaign") if self.config.campaigns else self.ranked

    @property
    def following(self) -> SequenceSource | None:
        """The sequence model over the items of now."""
        return self._asking.sequence

    @property
    def parts(self) -> tuple[Part, ...]:
        """What of a release this is made of."""
        return ("encoder", "items") if self.collaborative is None else ("encoder", "items", "users")

    def position(self, item_id: str) -> int:
        """Return the position of an item; raises `UnknownItemError`."""
        return self.snapshot.position(item_id)

    def available(self, item: int, now: datetime) -> bool:
        """Return whether the window of the item at a position holds an aware time."""
        return self._scopes.available(item, now)

    def user_position(self, user_id: str) -> int | None:
        """Return the position of a user in this release, or None."""
        return self._asking.users.get(user_id)

    def user_vector(self, user_id: str) -> Float32 | None:
        """Return float32 `[dim]` of length 1, or None for a user that the release does not hold or had no text of."""
        return self._asking.user_vector(user_id)

    def history(self, user: UserFeatures) -> tuple[Int32, Float32]:
        """Return int32 `[h]` positions and float32 `[h]` weights of the user's history inside this release."""
        return self._asking.history(user)

    def candidates(
        self,
        user: UserFeatures | None,
        k: int,
        *,
        limits: Limits = NO_LIMITS,
        sources: Sequence[SourceName] | None = None,
        text: str | None = None,
        item_id: str | None = None,
        now: datetime | None = None,
    ) -> CandidateSet:
        """Return at most `k` distinct candidates, best first.

        Args:
            user: the user's features; None for a query by text or item alone.
            k: how many.
            limits: which items may be named.
            sources: which of the release's `sources` may name candidates; by default all that apply to the query.
            text: replaces the user's vector in the semantic source.
            item_id: asks for items like this one, itself left out.
            now: aware time at which the items must be available; None takes that of the release's statistics.

        Raises:
            FilterError: the filter is none, or doesn't fit the items.
            UnknownItemError: the release does not hold `item_id`.
        """
        item = None if item_id is None else self.position(item_id)
        scope = self._scopes.of(limits, now=now, excluded=self._unwanted(limits, user, item))
        query, degraded = self._asking.query(user, text, item)
        names = sources or self._applicable(user, item)
        ranked = [name for name in names if name != "campaign"]
        every = text is None and item is None and set(ranked) == set(self.ranked) and query.known
        asked = Asked(
            names=ranked,
            behind=self.ranked,
            running=self._running(user, now) if "campaign" in names else (),
            learnt=self.merge if every else None,
        )
        try:
            merged = self._lists.together(query, scope, asked, k)
        except IndexUnavailableError as error:
            log.warning("index_unavailable", error=str(error))
            degraded.append("index_unavailable")
            merged = self._lists.together(query, scope, asked.without_index, k)
        if not len(merged) and "trending" in self.sources and "trending" not in names and scope.allowed.any():
            merged = self._lists.by_quota(query, scope, ["trending"], k)
            if not {"encoder_unavailable", "index_unavailable"} & set(degraded):
                degraded.append("sources_empty")
        return CandidateSet(candidates=merged, degraded=tuple(degraded))

    def matching(self, text: str) -> Mask:
        """Return bool `[n_items]` (read-only): which items satisfy a filter, whether or not they may be named.

        Raises:
            FilterError: the text is no filter, or doesn't fit the items.
        """
        return self._scopes.matching(text)

    def similar(self, item_id: str, k: int) -> CandidateSet:
        """Return at most `k` items like `item_id`; raises `UnknownItemError`."""
        return self.candidates(None, k, item_id=item_id)

    def nearest(self, vector: Float32, k: int, limits: Limits = NO_LIMITS, *, now: datetime | None = None) -> Ranking:
        """Return at most `k` items by their cosine with `vector` (float32 `[dim]`, length 1), best first.

        Limits and time as in `candidates`.

        Raises:
            FilterError: the filter is none, or doesn't fit the items.
        """
        return sources.semantic(self.index, Near.to(vector), k, self._scopes.of(limits, now=now))

    def rankings(self, user: UserFeatures, k: int = PER) -> dict[SourceName, Ranking]:
        """Return every source's list for a user, as deep as the learnt merge of `k` candidates looks."""
        query, _ = self._asking.query(user, None, None)
        return self._lists.rankings(query, self._scopes.of(NO_LIMITS, now=None), depths(k))

    def _running(self, user: UserFeatures | None, now: datetime | None) -> Sequence[Running]:
        """Return the campaigns that address a user now."""
        position = None if user is None else self.user_position(user.user_id)
        return self._campaigns.running(self.snapshot.as_of if now is None else now, position)

    def _unwanted(self, limits: Limits, user: UserFeatures | None, item: int | None) -> Sequence[int] | Int32:
        """Return positions of what the query itself rules out: the item asked about, what the user has bought."""
        if item is not None:
            return [item]
        return self.history(user)[0] if limits.exclude_bought and user is not None else ()

    def _applicable(self, user: UserFeatures | None, item: int | None) -> Sequence[SourceName]:
        """Return the sources that a query is asked of by default."""
        if item is not None:
            return [name for name in ("semantic", "collaborative") if name in self.sources]
        return self.sources if user is not None else ("semantic",)

    def _following(self, snapshot: ItemSnapshot, item_vectors: ItemRows) -> SequenceSource | None:
        return None if self.sequence is None else SequenceSource.of(self.sequence, snapshot.eligible, item_vectors)

    def _trending_order(self, members: Int32) -> Int32:
        """Return the members, int32 `[m]`, the most popular first, equal ones by position."""
        columns = [_column("item statistic", name, ITEM_STATS) for name in self.config.trending]
        stats = np.nan_to_num(self.snapshot.stats[members][:, columns])
        return members[np.lexsort((members, *(-stats[:, c] for c in reversed(range(len(columns))))))]


def _column(kind: str, name: str, known: Sequence[str]) -> int:
    if name not in known:
        raise ReleasePartError("retrieval config: " + unknown_name(kind, name, known))
    return known.index(name)
