"""A query's lists, one of each source, and their merge by quotas or by what a release has learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.schema import Float32, Int32
from retrieval import sources
from retrieval.campaigns import Running, put_forward
from retrieval.collaborative import Collaborative
from retrieval.contract import SourceName
from retrieval.learnt_merge import LearntMerge, depths
from retrieval.query import Query
from retrieval.quota import SourceQuota
from retrieval.scope import Scope
from retrieval.searchable import Searchable
from retrieval.sequence.source import SequenceSource
from retrieval.sources import Candidates, Ranking


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """Who is asked for candidates.

    Attributes:
        names: sources that are merged by rank; none leaves all places to campaigns.
        behind: those that order each campaign's items.
        running: campaigns that take part.
        learnt: merges all of the release's sources; None merges `names` by quotas.
    """

    names: Sequence[SourceName]
    behind: Sequence[SourceName]
    running: Sequence[Running] = ()
    learnt: LearntMerge | None = None

    @property
    def without_index(self) -> Asked:
        """The same but for the semantic source."""
        names, behind = ([name for name in own if name != "semantic"] for own in (self.names, self.behind))
        return Asked(names=names, behind=behind, running=self.running)


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceLists:
    """What the sources name their items by; safe to use from many threads.

    Attributes:
        index: over the eligible items.
        members: int32 `[m]` eligible items of the release.
        member_factors: float32 `[m, factors]` their ALS vectors, contiguous: 6 MB instead of a gather from 24 MB in
            each request; None, as `collaborative`, in a release without events.
        collaborative: ALS and item-kNN.
        trending: int32 `[m]` members, the most popular first.
        quota: how many candidates each source may name.
        sequence: what a history leads to; None in a release without such a model.
    """

    index: Searchable
    members: Int32
    member_factors: Float32 | None
    collaborative: Collaborative | None
    trending: Int32
    quota: SourceQuota
    sequence: SequenceSource | None = None

    def together(self, query: Query, scope: Scope, asked: Asked, k: int) -> Candidates:
        """Return what the asked sources find, with every running campaign in its places.

        A campaign's list is what sources would name if there were no other items.
        """
        if asked.learnt is not None:
            merged = self.by_trees(asked.learnt, query, scope, k)
        else:
            merged = self.by_quota(query, scope, asked.names, k)
        own = []
        for each in asked.running:
            places = each.campaign.room(k) if asked.names else k
            own.append(self.by_quota(query, scope.within(each.items), asked.behind, places).items)
        return put_forward(merged, own, k)

    def by_quota(self, query: Query, scope: Scope, names: Sequence[SourceName], k: int) -> Candidates:
        """Ask the sources `names` for their quotas and merge these by fused ranks."""
        counts = self.quota.counts(k, names)
        rankings: dict[SourceName, Ranking] = {}
        if "repeat" in names:
            rankings["repeat"] = sources.repeat(*query.history, max(k, counts["repeat"]), scope.allowed)
            # The others needn't spend their places on what the repeat list names already.
            scope = scope.without(rankings["repeat"].items[: counts["repeat"]])
        if "semantic" in names and query.near is not None:
            rankings["semantic"] = sources.semantic(self.index, query.near, counts["semantic"], scope)
        if "collaborative" in names:
            rankings["collaborative"] = self._collaborative(query, scope, max(k, counts["collaborative"]))
        if "trending" in names:
            rankings["trending"] = self._trends(query, scope, max(k, counts["trending"]))
        if "sequence" in names:
            rankings["sequence"] = self._follows(query, scope, max(k, counts["sequence"]))
        merged = sources.merge(rankings, counts, self.quota.weights(), k)
        named = rankings.get("semantic")
        if len(merged) < k and named is not None and len(named.items) == counts["semantic"]:
            # A search costs more the more it is asked for, so this source alone is asked for no more than its quota,
            # until the others turn out to have less than theirs.
            assert query.near is not None
            rankings["semantic"] = sources.semantic(self.index, query.near, k, scope)
            merged = sources.merge(rankings, counts, self.quota.weights(), k)
        return merged

    def by_trees(self, merge: LearntMerge, query: Query, scope: Scope, k: int) -> Candidates:
        """Ask all sources as deep as the learnt merge looks, and let it choose."""
        counts, history = depths(k), len(query.history[0])
        rankings = self.rankings(query, scope, counts)
        merged = merge.merge(rankings, history, k)
        if len(merged) < k and query.near is not None and len(rankings["semantic"].items) == counts["semantic"]:
            # Items that came after the release are in no other list.
            rankings["semantic"] = sources.semantic(self.index, query.near, k, scope)
            merged = merge.merge(rankings, history, k)
        return merged

    def rankings(self, query: Query, scope: Scope, counts: Mapping[SourceName, int]) -> dict[SourceName, Ranking]:
        """Return every source's list, of at most so many items each."""
        found: dict[SourceName, Ranking] = {
            "collaborative": self._collaborative(query, scope, counts["collaborative"]),
            "repeat": sources.repeat(*query.history, counts["repeat"], scope.allowed),
            "trending": self._trends(query, scope, counts["trending"]),
        }
        if self.sequence is not None:
            found["sequence"] = self._follows(query, scope, counts["sequence"])
        if query.near is not None:
            found["semantic"] = sources.semantic(self.index, query.near, counts["semantic"], scope)
        return found

    def _trends(self, query: Query, scope: Scope, n: int) -> Ranking:
        return sources.trending(self.trending, n, scope.allowed, first=query.segment)

    def _follows(self, query: Query, scope: Scope, n: int) -> Ranking:
        if self.sequence is None or query.next_vector is None:
            return Ranking.empty()
        return self.sequence.ranking(query.next_vector, query.history[0], scope, n)

    def _collaborative(self, query: Query, scope: Scope, n: int) -> Ranking:
        assert self.collaborative is not None, "a release without it has no such source"
        open_ = scope.allowed[self.members]
        als = None
        if query.factor is not None and self.member_factors is not None:
            als = self.member_factors @ query.factor
        knn = None
        if len(query.history[0]):
            knn = self.collaborative.knn_all(*query.history)[self.members]
            if query.neighbours_only:
                open_ &= knn > 0
        return sources.collaborative(als, knn, self.members, open_, n)
