"""Rankings of all items by every scorer, the candidates and index behind them, and users with what they are shown."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from flows.report.figures import Figure, Part, Probability


class ScorerRanking(Part):
    """One scorer's full ranking over all eligible items, averaged over users.

    Attributes:
        scorer: the scorer's name.
        group: whether it is a baseline or a stage of the system.
        ndcg: NDCG@k.
        recall: Recall@k.
        mrr: mean reciprocal rank of the first relevant item in the top k.
        coverage: share of eligible items that reach any user's top k.
    """

    scorer: str
    group: Literal["baseline", "stage"]
    ndcg: Figure
    recall: Figure
    mrr: Figure
    coverage: Figure


class PairedDifference(Part):
    """Mean over users of one scorer's metric minus another's, with the interval of that paired difference."""

    scorer: str
    baseline: str
    metric: str
    difference: Figure


class RankingTable(Part):
    """Every scorer on one space of items.

    Attributes:
        title: what is ranked ("All eligible items").
        note: how to read it, in one sentence.
        k: the cut-off of every metric.
        scorers: in the order to show.
        shipped: the scorer that the release serves.
        differences: paired differences.
    """

    title: str
    note: str = ""
    k: int = 10
    scorers: tuple[ScorerRanking, ...]
    shipped: str
    differences: tuple[PairedDifference, ...] = ()

    @model_validator(mode="after")
    def _shipped_is_listed(self) -> Self:
        if self.shipped not in {row.scorer for row in self.scorers}:
            raise ValueError(f"expected shipped to be one of the scorers, found {self.shipped!r}")
        return self


class SourceRecall(Part):
    """What the candidates of one source hold of the held-out purchases: recall at each of the table's sizes."""

    source: str
    recalls: tuple[Figure, ...]


class RetrievalTable(Part):
    """Recall of every source of candidates alone and of their merge, on one space of items.

    Attributes:
        title: which purchases are looked for.
        note: how to read it, in one sentence.
        ks: how many candidates were asked for.
        sources: in the order to show.
        merged: the one of them that a request is answered with.
    """

    title: str
    note: str = ""
    ks: tuple[int, ...]
    sources: tuple[SourceRecall, ...]
    merged: str

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.merged not in {row.source for row in self.sources}:
            raise ValueError(f"expected merged to be one of the sources, found {self.merged!r}")
        for row in self.sources:
            if len(row.recalls) != len(self.ks):
                raise ValueError(f"{row.source}: expected a recall for each of {self.ks}, found {len(row.recalls)}")
        return self


class IndexRecall(Part):
    """The index's recall of exact search's top k, and the time of one query."""

    kind: str
    k: int
    recall: Figure
    query_ms: Figure | None = None


class Recommendation(Part):
    """One recommended item, with the reason to show; `hit` tells whether the held-out window has the event."""

    item_id: str
    title: str
    score: FiniteFloat
    tasks: dict[str, Probability] = Field(default_factory=dict)
    reason: str = ""
    sources: tuple[str, ...] = ()
    hit: bool | None = None


class ExampleUser(Part):
    """A user's recommendations in words: who they are, what they lately bought, what they are shown."""

    user_id: str
    summary: str = ""
    recent: tuple[str, ...] = ()
    recommendations: tuple[Recommendation, ...]
