"""Everything an evaluation measures of users and items, from a release and the window after its as-of time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from features.schema import Float32, Int32, UserFeatures
from flows.report import (
    AblationRow,
    AuditReport,
    ExampleUser,
    Figure,
    IndexRecall,
    RankingTable,
    Recommendation,
    RetrievalTable,
    TaskScores,
)
from flows.stages.ablations import read_ablations
from flows.stages.audit import AuditConfig, ServedTask, Shown, audit
from flows.stages.data import Data
from flows.stages.rank import Scene, active_positions, scene_rows
from flows.stages.rankings import HeldOut, K, full_rankings, held_out
from flows.stages.retrieval import retrieval_tables
from flows.stages.task_scores import ablation_rows, task_scores
from ranking.blend import FAMILIES, BlendInputs
from ranking.fit import labelled
from ranking.ranker import Ranker
from ranking.rows import CutRows
from retrieval.encoder.head_runtime import Heads
from retrieval.engine import Retriever
from retrieval.evaluate import bootstrap_interval
from retrieval.index import VectorIndex, recall_against_exact
from retrieval.layout import ENCODER_DIR
from retrieval.quota import source_names

Float64 = npt.NDArray[np.float64]

_RECALL_K: Final = 100
_RECALL_QUERIES: Final = 500
_EXAMPLES: Final = 3
_SHOWN: Final = 8
_RECENT: Final = 6


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The measured sections of a report that are about users and items; empty where nothing was ranked."""

    rankings: tuple[RankingTable, ...] = ()
    retrieval: tuple[RetrievalTable, ...] = ()
    tasks: tuple[TaskScores, ...] = ()
    ablation: tuple[AblationRow, ...] = ()
    examples: tuple[ExampleUser, ...] = ()
    audit: AuditReport | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """The held-out window: data up to its end, features as of its start."""

    data: Data
    cut: datetime
    horizon: timedelta
    users: Sequence[UserFeatures]


def measure(release: Path, ranker: Ranker, window: Window, candidates: int, groups: AuditConfig) -> Findings:
    """Measure a release on a window.

    Args:
        release: its directory.
        ranker: of the release.
        window: what happened after the release's as-of time.
        candidates: how many each user gets.
        groups: to compare.

    Raises:
        InvalidInputError: a column of `groups` that there isn't, or that makes no groups.
    """
    truth = held_out(window.data, window.cut, window.horizon, ranker.retriever.snapshot.eligible)
    scene = Scene(cut=window.cut, folder=release, users=window.users)
    heads = Heads.load(release / ENCODER_DIR)
    rows = scene_rows(window.data, scene, heads, ranker.tasks, window.horizon, candidates)
    pairs = ranker.models.pair_inputs(rows.features, rows.signals, rows.applies)
    hits = dict(zip(truth.positions.tolist(), truth.relevant, strict=True))
    rankings = full_rankings(ranker, window.users, truth)
    return Findings(
        rankings=rankings.tables,
        retrieval=retrieval_tables(ranker.retriever, window.users, truth),
        tasks=tuple(task_table(ranker, rows, pairs)),
        ablation=tuple(_ablation(ranker, rows, pairs, release)),
        examples=tuple(_examples(ranker, window.users, hits)),
        audit=_audit(ranker, window, groups, rows=rows, pairs=pairs, shown=_shown(ranker, truth, rankings.shipped)),
    )


def task_table(ranker: Ranker, rows: CutRows, pairs: BlendInputs) -> list[TaskScores]:
    """Return every task's held-out figures for encoder head, trees and blend; `pairs` are the rows' blend inputs."""
    found: list[TaskScores | None] = []
    for task, served in ranker.models.probabilities(pairs, rows.applies).items():
        labels = labelled(rows, task)
        for scorer, probabilities in _scorers(task, pairs.names, pairs.columns, served).items():
            found.append(task_scores(task, scorer, labels, probabilities, rows.users))
    users = ranker.models.user_inputs(rows.user_features, rows.user_logits)
    everyone = np.ones(len(rows.user_features), bool)
    numbers: Int32 = np.arange(len(everyone), dtype=np.int32)
    for task, served in ranker.models.probabilities(users, dict.fromkeys(ranker.user_tasks, everyone)).items():
        labels = rows.user_labels[task].astype(np.float64)
        for scorer, probabilities in _scorers(task, users.names, users.columns, served).items():
            found.append(task_scores(task, scorer, labels, probabilities, numbers))
    return [row for row in found if row is not None]


def _shown(ranker: Ranker, truth: HeldOut, lists: Sequence[Int32]) -> Shown:
    eligible = ranker.retriever.snapshot.eligible
    return Shown(users=truth.positions, lists=lists, relevant=truth.relevant, eligible=eligible, k=K)


def _audit(
    ranker: Ranker, window: Window, groups: AuditConfig, *, rows: CutRows, pairs: BlendInputs, shown: Shown
) -> AuditReport | None:
    tasks = served_tasks(ranker, rows, pairs, active_positions(window.users)) if groups.asks else []
    return audit(groups, window.data.tables.users, window.data.tables.items, tasks, shown)


def served_tasks(ranker: Ranker, rows: CutRows, pairs: BlendInputs, positions: Int32) -> list[ServedTask]:
    """Return every blended task's probabilities on the rows; `positions` is whom each user row is of, int32 `[u]`."""
    found = [
        ServedTask(name=task, on="pair", users=rows.users, labels=labelled(rows, task), probabilities=served)
        for task, served in ranker.models.probabilities(pairs, rows.applies).items()
    ]
    inputs = ranker.models.user_inputs(rows.user_features, rows.user_logits)
    everyone = dict.fromkeys(ranker.user_tasks, np.ones(len(positions), bool))
    for task, served in ranker.models.probabilities(inputs, everyone).items():
        labels = rows.user_labels[task].astype(np.float64)
        found.append(ServedTask(name=task, on="user", users=positions, labels=labels, probabilities=served))
    return found


def index_recall(retriever: Retriever, texts: Float32) -> IndexRecall | None:
    """Return the index's recall of exact search, and the median time of one search; None without a query.

    Args:
        retriever: of the release.
        texts: float32 `[n, dim]` vectors of held-out texts, which ask where there are no users to ask for.
    """
    index = retriever.index
    assert isinstance(index, VectorIndex), "a release as it was built, with no change of items over it"
    users = retriever.user_vectors[retriever.user_vectors.any(axis=1)]
    vectors = (users if len(users) else texts)[:_RECALL_QUERIES]
    if not len(vectors):
        return None
    recalls, seconds = np.empty(len(vectors)), np.empty(len(vectors))
    for row, query in enumerate(vectors):
        began = time.perf_counter()
        index.search(query[None], _RECALL_K)
        seconds[row] = time.perf_counter() - began
        recalls[row] = recall_against_exact(index, np.asarray(retriever.item_vectors), query[None], _RECALL_K)
    found = bootstrap_interval(recalls)
    return IndexRecall(
        kind=index.meta.type,
        k=_RECALL_K,
        recall=Figure(value=found.mean, low=found.low, high=found.high, n=len(recalls)),
        query_ms=Figure(value=float(np.median(seconds) * 1e3), n=len(seconds)),
    )


def _scorers(
    task: str, names: Sequence[str], columns: npt.NDArray[np.float32], served: Float64
) -> Mapping[str, Float64]:
    """Return each scorer's probabilities of one task, float64 `[m]`."""
    wanted = {
        f"encoder/head_{task}": "encoder head",
        f"encoder/user_head_{task}": "encoder head",
        f"gbdt/{task}": "GBDT",
    }
    found: dict[str, Float64] = {}
    for column, name in enumerate(names):
        if name in wanted:
            found[wanted[name]] = np.asarray(expit(columns[:, column].astype(np.float64)))
    found["blend"] = served
    return found


def _ablation(ranker: Ranker, rows: CutRows, inputs: BlendInputs, release: Path) -> list[AblationRow]:
    fitted = read_ablations(release)
    if not fitted:
        return []
    task = ranker.models.schema.main_task
    probabilities = {name: one.probabilities(inputs) for name, one in fitted.items() if name != "all"}
    probabilities["full"] = ranker.models.probabilities(inputs, rows.applies)[task]
    return ablation_rows(task, labelled(rows, task), rows.users, probabilities, FAMILIES)


def _examples(ranker: Ranker, users: Sequence[UserFeatures], hits: Mapping[int, Int32]) -> list[ExampleUser]:
    """Return the recommendations of users evenly spaced over the held-out ones: nobody was picked for looks."""
    positions = sorted(hits)
    return [
        _example(ranker, users[position], hits[position])
        for position in positions[:: max(1, len(positions) // _EXAMPLES)][:_EXAMPLES]
    ]


def _example(ranker: Ranker, user: UserFeatures, bought: Int32) -> ExampleUser:
    snapshot = ranker.retriever.snapshot
    found = ranker.retriever.candidates(user, 500).candidates
    named = [source_names(bits) for bits in found.sources.tolist()]
    ranked = ranker.rank(user, found.items, k=_SHOWN, explain=True, sources=named)
    by_item = dict(zip(found.items.tolist(), named, strict=True))
    reasons = [one.reason for one in ranked.explanations or ()]
    recommendations = tuple(
        Recommendation(
            item_id=snapshot.item_ids[item],
            title=snapshot.titles[item],
            score=float(ranked.scores[row]),
            tasks={task: float(values[row]) for task, values in ranked.tasks.items() if not np.isnan(values[row])},
            reason=reasons[row],
            sources=tuple(by_item[item]),
            hit=bool(np.isin(item, bought)),
        )
        for row, item in enumerate(ranked.items.tolist())
    )
    return ExampleUser(
        user_id=user.user_id,
        summary=f"{len(user.items)} different items bought before; {len(bought)} eligible ones in the window",
        recent=tuple(snapshot.titles[item] for item in user.items[:_RECENT]),
        recommendations=recommendations,
    )
