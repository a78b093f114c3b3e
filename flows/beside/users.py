"""Two releases on the users of one window: the order that each would serve, and the probabilities that each gives.

Both read the same users' features as of the window's start. All else is as each release holds it, as a service would
answer from it: item statistics and vectors, eligible items, rules.

What counts is a purchase of an item that either release may recommend. So an item that is new since the current
release counts against it, and one that the candidate no longer offers against the candidate: that is what users would
see. Probabilities are compared on pairs that both can score, those that either would rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.schema import Int32, UserFeatures
from features.tasks import TaskSpec
from flows.report import PROBABILITY_METRICS, RANKING_METRICS, BesideRow, Figure, RankingMetric
from flows.stages.audit import ServedTask
from flows.stages.data import Mask
from flows.stages.findings import Window, served_tasks
from flows.stages.rank import Scene, active_positions, list_rows
from flows.stages.rankings import RETRIEVED, SERVED, HeldOut, K, held_out
from flows.stages.task_scores import beside_rows
from ranking.ranker import Ranker
from ranking.spaces import pair_tasks, user_tasks
from retrieval.encoder.head_runtime import Heads
from retrieval.evaluate import Interval, RankingMetrics, bootstrap_interval, paired_difference, ranking_metrics
from retrieval.layout import ENCODER_DIR

Float64 = npt.NDArray[np.float64]

# Pairs as one number: user in the high half, item in the low half.
_HIGH = np.int64(2**32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One of the two releases.

    Attributes:
        release: its directory.
        ranker: of it.
        users: features as of the window's start, by user position, with the release's own category codes.
    """

    release: Path
    ranker: Ranker
    users: Sequence[UserFeatures]

    @property
    def eligible(self) -> Mask:
        """Bool `[n_items]` of the release: what it may recommend."""
        return self.ranker.retriever.snapshot.eligible


def ranking_rows(candidate: Side, current: Side, window: Window) -> Iterator[BesideRow]:
    """Yield the metrics of the order served; none where the window holds no purchase that counts."""
    eligible = np.zeros(max(len(candidate.eligible), len(current.eligible)), bool)
    for side in (candidate, current):
        eligible[: len(side.eligible)] |= side.eligible
    truth = held_out(window.data, window.cut, window.horizon, eligible)
    if not len(truth.positions):
        return
    sides = [_measured(side, window, truth, int(eligible.sum())) for side in (candidate, current)]
    for metric in RANKING_METRICS:
        if metric in sides[0]:
            first, second = (side[metric] for side in sides)
            yield BesideRow(
                metric=metric,
                candidate=_figure(bootstrap_interval(first)),
                current=_figure(bootstrap_interval(second)),
                difference=_figure(paired_difference(first, second)),
            )


def task_rows(candidate: Side, current: Side, window: Window, candidates: int) -> Iterator[BesideRow]:
    """Yield AUC and log loss of every binary task that both releases declare alike.

    Args:
        candidate: one release.
        current: the other.
        window: what happened.
        candidates: how many each release gets of a user; pairs of either are scored by both.
    """
    tasks = _shared(candidate.ranker.tasks, current.ranker.tasks)
    if not tasks:
        return
    lists = _either(candidate, current, window, candidates)
    first, second = (_Answers.of(side, window, lists) for side in (candidate, current))
    _, own, other = np.intersect1d(first.pairs, second.pairs, return_indices=True)
    for name in tasks:
        if name in first.tasks and name in second.tasks:
            ours, theirs = first.tasks[name], second.tasks[name]
            if ours.on == "pair":
                ours, theirs = _rows_of(ours, own), _rows_of(theirs, other)
            # A pair that only one of the two may recommend carries no label of a seen space there.
            labels = np.where(np.isnan(theirs.labels), np.nan, ours.labels)
            yield from beside_rows(name, labels, ours.probabilities, theirs.probabilities, ours.users)


def lacking(candidate: Ranker, current: Ranker | None) -> tuple[str, ...]:
    """Return the metrics of the candidate that the current release has no counterpart of."""
    shared = () if current is None else _shared(candidate.tasks, current.tasks)
    new = [task.name for task in _binary(candidate.tasks) if task.name not in shared]
    orders: Sequence[RankingMetric] = RANKING_METRICS if current is None else ()
    return (*orders, *(f"{metric}.{name}" for name in new for metric in PROBABILITY_METRICS))


def recoded(users: Sequence[UserFeatures], codes: Int32, release: Int32) -> Sequence[UserFeatures]:
    """Return the users with a release's category codes; a category that it doesn't know is left out.

    Codes follow the names' order, so that a new category moves those behind it.

    Args:
        users: with the codes of now.
        codes: int32 `[n_items]` category of each item now, -1 for none.
        release: int32 `[m]`, the same in the release, whose items are the first `m`.
    """
    n = len(release)
    if np.array_equal(codes[:n], release):
        return users
    pairs = np.stack([codes[:n], release], axis=1)
    found, counts = np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0, return_counts=True)
    known = np.full(int(codes.max()) + 1, -1, np.int32)
    # The most frequent last: an item whose category has changed must not speak for the others.
    order = np.argsort(counts, kind="stable")
    known[found[order, 0]] = found[order, 1]
    return [_recoded(user, known) for user in users]


def _recoded(user: UserFeatures, known: Int32) -> UserFeatures:
    codes = known[user.categories]
    kept = codes >= 0
    return replace(user, categories=codes[kept], category_stats=user.category_stats[kept])


def _measured(side: Side, window: Window, truth: HeldOut, catalogue: int) -> dict[RankingMetric, Float64]:
    """Return each metric of the order that a release serves, float64 `[users]`."""
    served = []
    with threadpool_limits(1, "blas"):  # as a service does
        for position in truth.positions:
            user = side.users[position]
            found = side.ranker.retriever.candidates(user, RETRIEVED, now=window.cut).candidates.items
            served.append(side.ranker.rank(user, found, k=SERVED).items)
    every = _by_name("", ranking_metrics(served, truth.relevant, k=K, catalogue=catalogue))
    rows = [row for row, items in enumerate(truth.fresh) if len(items)]
    if not rows:
        return every
    unbought = [served[row][~np.isin(served[row], side.users[truth.positions[row]].items)] for row in rows]
    fresh = ranking_metrics(unbought, [truth.fresh[row] for row in rows], k=K, catalogue=catalogue)
    return every | _by_name("new_items_", fresh)


def _by_name(prefix: str, found: RankingMetrics) -> dict[RankingMetric, Float64]:
    values = {"ndcg": found.ndcg, "recall": found.recall, "mrr": found.reciprocal_rank}
    return {metric: values[metric.removeprefix(prefix)] for metric in RANKING_METRICS if _of(metric, prefix)}


def _of(metric: RankingMetric, prefix: str) -> bool:
    return metric.startswith("new_items_") == bool(prefix)


def _either(candidate: Side, current: Side, window: Window, candidates: int) -> list[Int32]:
    """Return per active user the items that either release would rank and both hold, int32 positions."""
    held = min(len(candidate.eligible), len(current.eligible))
    lists = []
    with threadpool_limits(1, "blas"):
        for position in active_positions(candidate.users):
            named = [
                side.ranker.retriever.candidates(side.users[position], candidates, now=window.cut).candidates.items
                for side in (candidate, current)
            ]
            items = np.union1d(*named).astype(np.int32)
            lists.append(items[items < held])
    return lists


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """A release's probabilities: of pairs, int64 `[m]` distinct, and of users."""

    pairs: npt.NDArray[np.int64]
    tasks: Mapping[str, ServedTask]

    @classmethod
    def of(cls, side: Side, window: Window, lists: Sequence[Int32]) -> _Answers:
        ranker = side.ranker
        scene = Scene(cut=window.cut, folder=side.release, users=side.users)
        heads = Heads.load(side.release / ENCODER_DIR)
        rows = list_rows(window.data, scene, ranker.retriever, heads, ranker.tasks, window.horizon, lists)
        pairs = ranker.models.pair_inputs(rows.features, rows.signals, rows.applies)
        served = served_tasks(ranker, rows, pairs, active_positions(side.users))
        return cls(pairs=rows.users * _HIGH + rows.items, tasks={task.name: task for task in served})


def _rows_of(task: ServedTask, rows: npt.NDArray[np.intp]) -> ServedTask:
    return replace(task, users=task.users[rows], labels=task.labels[rows], probabilities=task.probabilities[rows])


def _binary(tasks: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    return (*pair_tasks(tasks), *user_tasks(tasks))


def _shared(candidate: Sequence[TaskSpec], current: Sequence[TaskSpec]) -> tuple[str, ...]:
    """Return the binary tasks that mean the same in both: what they are trained beside may differ."""
    known = {task.name: meaning(task) for task in _binary(current)}
    return tuple(task.name for task in _binary(candidate) if known.get(task.name) == meaning(task))


def meaning(task: TaskSpec) -> TaskSpec:
    """Return a task without what tells how it is learnt."""
    return task.model_copy(update={"parent": None, "energy": (), "classes": None})


def _figure(interval: Interval) -> Figure:
    return Figure(value=interval.mean, low=interval.low, high=interval.high, n=interval.users)
