"""Rankings of all items by every scorer, the index behind them, and users with what they are shown."""

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
