"""Learning how a user's sources are merged: each one's lists as of a cut, and what was then bought."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import structlog
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from flows.stages.data import Data
from flows.stages.rank import Scene
from flows.stages.rankings import held_out
from retrieval.engine import Retriever
from retrieval.layout import MERGE
from retrieval.learnt_merge import LearntMerge, MergeConfig, MergeRowsError, Ranked

log = structlog.get_logger(__name__)


def fit_merge(data: Data, scene: Scene, horizon: timedelta, config: MergeConfig, out: Path) -> None:
    """Fit the merge on the users who bought before and after a cut, and write it below `out`.

    Args:
        data: must reach to the end of the cut's window.
        scene: the cut: the oldest of the ranker's, so that for the others the merge is of the past.
        horizon: length of the window.
        config: how.
        out: empty folder.

    Raises:
        MergeRowsError: nobody bought before and after the cut, or nobody an item that a source names.
    """
    retriever = Retriever.load(scene.folder)
    truth = held_out(data, scene.cut, horizon, retriever.snapshot.eligible)
    if not len(truth.positions):
        raise MergeRowsError(
            f"merge, window after {scene.cut.isoformat()}: expected users who also bought before it, found none; "
            "candidates.merge: null does without"
        )
    features, labels, weights = [], [], []
    with threadpool_limits(1, "blas"):  # as a service does
        for position, relevant, fresh in zip(truth.positions, truth.relevant, truth.fresh, strict=True):
            user = scene.users[position]
            ranked = Ranked.of(retriever.rankings(user), len(retriever.history(user)[0]), retriever.ranked)
            features.append(ranked.features)
            labels.append(np.isin(ranked.items, relevant))
            weights.append(np.where(np.isin(ranked.items, fresh), config.new_weight, 1.0))
    rows = np.concatenate(features)
    merge = LearntMerge.fit(
        rows,
        np.concatenate(labels).astype(np.float32),
        np.concatenate(weights).astype(np.float32),
        config,
        retriever.ranked,
    )
    merge.save(out / MERGE)
    log.info("merge_fitted", cut=scene.cut.date().isoformat(), users=len(features), rows=len(rows))
