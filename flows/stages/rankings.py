"""Full ranking on the held-out window: every baseline and every stage of the system, over all and over new items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.schema import EVENT, HISTORY_STATS, ITEM, ITEM_STATS, TIMESTAMP, USER, Float32, Int32, UserFeatures
from flows.report import Figure, PairedDifference, RankingTable, ScorerRanking
from flows.stages.data import Data, Mask
from ranking.ranker import Ranker
from retrieval.evaluate import Interval, RankingMetrics, paired_difference, ranking_metrics, top_k

SHIPPED: Final = "blend (shipped order)"
DECAYED: Final = "own frequency, 90-day decay"
_MERGED: Final = "candidates (merged, unranked)"
K: Final = 10
RETRIEVED: Final = 500
SERVED: Final = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What the window after a cut holds.

    Attributes:
        positions: int32 `[u]` users with a purchase of an eligible item in the window and any before it.
        relevant: per user, int32 item positions bought in the window.
        fresh: the same without what the user had bought before.
    """

    positions: Int32
    relevant: Sequence[Int32]
    fresh: Sequence[Int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """One held-out user as the scorers see her."""

    user: UserFeatures
    position: int
    bought: Int32


Lists = dict[str, list[Int32]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rankings:
    """What the full ranking gave.

    Attributes:
        tables: of all eligible items and of those a user never bought before.
        shipped: by held-out user, int32 positions of the K best items in the order that the release serves.
    """

    tables: tuple[RankingTable, ...]
    shipped: Sequence[Int32]


def held_out(data: Data, cut: datetime, horizon: timedelta, eligible: Mask) -> HeldOut:
    """Return the window's purchases.

    Args:
        data: events to the end of the window at least.
        cut: the release's as-of time.
        horizon: length of the window.
        eligible: bool `[n_items]` as of the cut.
    """
    when = pl.col(TIMESTAMP)
    bought = data.events.filter(pl.col(EVENT) == data.features.purchase_event).select(USER, ITEM, TIMESTAMP)
    before = bought.filter(when < cut).select(USER, ITEM).unique()
    window = (
        bought.filter(when.is_between(cut, cut + horizon, closed="left"))
        .select(USER, ITEM)
        .unique()
        .filter(pl.lit(pl.Series(eligible)).gather(pl.col(ITEM)))
        .join(before.select(USER).unique(), on=USER)
        .join(before.with_columns(pl.lit(True).alias("known")), on=[USER, ITEM], how="left")
        .with_columns(pl.col("known").fill_null(False))
        .group_by(USER)
        .agg(pl.col(ITEM).sort(), pl.col(ITEM).filter(~pl.col("known")).sort().alias("fresh"))
        .sort(USER)
    )
    return HeldOut(
        positions=window[USER].to_numpy(),
        relevant=[items.to_numpy() for items in window[ITEM]],
        fresh=[items.to_numpy() for items in window["fresh"]],
    )


def full_rankings(ranker: Ranker, users: Sequence[UserFeatures], truth: HeldOut, *, seed: int = 0) -> Rankings:
    """Rank every eligible item for each held-out user, by every scorer.

    Args:
        ranker: of the release.
        users: features as of the cut, by user position.
        truth: the window.
        seed: breaks ties.
    """
    every: Lists = {}
    fresh: Lists = {}
    rng = np.random.default_rng(seed)
    with threadpool_limits(1, "blas"):  # as a service does
        for position in truth.positions:
            user = users[position]
            asked = _Asked(user=user, position=int(position), bought=user.items)
            for name, best, new in _orders(ranker, asked, rng):
                every.setdefault(name, []).append(best)
                fresh.setdefault(name, []).append(new)
    eligible = int(ranker.retriever.snapshot.eligible.sum())
    with_fresh = [row for row, items in enumerate(truth.fresh) if len(items)]
    of_fresh = _table(
        "Items the household never bought before",
        {name: [lists[row] for row in with_fresh] for name, lists in fresh.items()},
        [truth.fresh[row] for row in with_fresh],
        eligible,
    )
    tables = (_table("All eligible items", every, list(truth.relevant), eligible), of_fresh)
    return Rankings(tables=tables, shipped=every[SHIPPED])


def _orders(ranker: Ranker, asked: _Asked, rng: np.random.Generator) -> Iterator[tuple[str, Int32, Int32]]:
    """Yield (scorer, its k best items, its k best never-bought items) for one user."""
    retriever = ranker.retriever
    eligible = retriever.snapshot.eligible
    unbought = eligible.copy()
    unbought[asked.bought] = False
    for name, scores in _baselines(ranker, asked).items():
        yield name, top_k(scores, K, rng=rng, allowed=eligible), top_k(scores, K, rng=rng, allowed=unbought)
    candidates = retriever.candidates(asked.user, RETRIEVED).candidates.items
    scored = ranker.score(asked.user, candidates)
    served = ranker.order(asked.user, scored, k=SERVED).items
    for name, values in _stages(ranker, scored.inputs.names, scored.inputs.columns).items():
        order = candidates[np.lexsort((candidates, -values))]
        yield name, order[:K], order[unbought[order]][:K]
    yield _MERGED, candidates[:K], candidates[unbought[candidates]][:K]
    yield SHIPPED, served[:K], served[unbought[served]][:K]


def _baselines(ranker: Ranker, asked: _Asked) -> dict[str, Float32]:
    """Return float32 `[n_items]` scores of every baseline."""
    retriever, user = ranker.retriever, asked.user
    models = retriever.collaborative
    assert models is not None, "whatever ranks for users knows what they did"
    stats = np.nan_to_num(retriever.snapshot.stats)

    def own(name: str) -> Float32:
        scores = np.zeros(len(retriever.snapshot), np.float32)
        scores[user.items] = user.history[:, HISTORY_STATS.index(name)]
        return scores

    baselines = {
        "popularity (buyers)": stats[:, ITEM_STATS.index("buyers")],
        "popularity, last 28 days": stats[:, ITEM_STATS.index("buyers_28d")],
        "ALS": models.als_all(asked.position),
        "item-kNN": models.knn_all(user.items, own_weights(user)),
        "own frequency": own("count"),
        DECAYED: own("decayed_90"),
        "encoder retrieval (text tower)": np.asarray(retriever.item_vectors) @ retriever.user_vectors[asked.position],
    }
    if retriever.sequence is not None:
        # As deep as it takes to hold K that were never bought.
        found = retriever.candidates(user, K + len(user.items), sources=["sequence"]).candidates
        scores = np.zeros(len(retriever.snapshot), np.float32)
        scores[found.items] = found.scores
        baselines["sequence model"] = scores
    return baselines


def own_weights(user: UserFeatures) -> Float32:
    """Return the decayed counts that weigh a user's history, float32 `[h]`."""
    return np.ascontiguousarray(user.history[:, HISTORY_STATS.index("decayed_90")])


def _stages(ranker: Ranker, names: Sequence[str], columns: Float32) -> Mapping[str, Float32]:
    """Return each ranking stage's score of the candidates, float32 `[n]`, the missing ones last."""
    main = ranker.models.schema.main_task
    wanted = {
        f"encoder/head_{main}": f"encoder {main} head",
        f"gbdt/{main}": f"GBDT {main}",
        "gbdt/rank": "GBDT LambdaRank",
    }
    found = {}
    for column, name in enumerate(names):
        if name in wanted:
            found[wanted[name]] = np.nan_to_num(columns[:, column], nan=-np.inf)
    return found


def _table(title: str, lists: Lists, relevant: list[Int32], catalogue: int) -> RankingTable:
    metrics = {name: ranking_metrics(ranked, relevant, k=K, catalogue=catalogue) for name, ranked in lists.items()}
    shipped = metrics[SHIPPED]
    # The strongest baseline first: that is the comparison a reader should meet. The system's own stages follow.
    strongest = sorted(metrics, key=lambda name: (_is_stage(name), -float(metrics[name].ndcg.mean())))
    return RankingTable(
        title=title,
        note=f"{len(relevant):,} households, full ranking over {catalogue:,} items; 95% intervals over households.",
        k=K,
        scorers=tuple(_scorer(name, found, catalogue) for name, found in metrics.items()),
        shipped=SHIPPED,
        differences=tuple(
            PairedDifference(
                scorer=SHIPPED,
                baseline=name,
                metric=f"NDCG@{K}",
                difference=_figure(paired_difference(shipped.ndcg, metrics[name].ndcg)),
            )
            for name in strongest
            if name != SHIPPED
        ),
    )


def _is_stage(name: str) -> bool:
    return name in (SHIPPED, _MERGED) or name.startswith(("GBDT", "encoder"))


def _scorer(name: str, found: RankingMetrics, catalogue: int) -> ScorerRanking:
    intervals = found.intervals()
    return ScorerRanking(
        scorer=name,
        group="stage" if _is_stage(name) else "baseline",
        ndcg=_figure(intervals["ndcg"]),
        recall=_figure(intervals["recall"]),
        mrr=_figure(intervals["mrr"]),
        coverage=Figure(value=found.coverage, n=catalogue),
    )


def _figure(interval: Interval) -> Figure:
    return Figure(value=interval.mean, low=interval.low, high=interval.high, n=interval.users)
