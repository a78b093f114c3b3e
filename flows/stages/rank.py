"""The ranking stage: rows of each ranker cut from its scene, then trees, blend and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import structlog
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.schema import Int32, UserFeatures
from features.tasks import TaskSpec, labels
from flows.stages.data import Data, only_eligible
from ranking.fit import Ablation, RankingConfig, fit_ablations, fit_ranking
from ranking.models import RankingModels
from ranking.ranker import ReleaseSource
from ranking.rows import CutData, CutRows, build_rows
from ranking.signals import HeadSides, SignalSchema
from ranking.spaces import pair_tasks, user_tasks
from retrieval.encoder.head_runtime import Heads
from retrieval.engine import Retriever
from retrieval.layout import SEQUENCE_DIR

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A cut as the ranker sees it.

    Attributes:
        cut: features and signals from before it, labels from [cut, cut + horizon).
        folder: the scene that `flows.stages.scene.build_scene` wrote.
        users: by user position, features as of the cut.
        merge: folder of the learnt merge, where the scene's own folder doesn't hold it.
    """

    cut: datetime
    folder: Path
    users: Sequence[UserFeatures]
    merge: Path | None = None


def active_positions(users: Sequence[UserFeatures]) -> Int32:
    """Return int32 positions of the users with something before the cut."""
    return np.array([position for position, user in enumerate(users) if len(user.items)], np.int32)


def scene_rows(
    data: Data, scene: Scene, heads: Heads, tasks: Sequence[TaskSpec], horizon: timedelta, candidates: int
) -> CutRows:
    """Return the rows of one cut: each active user's candidates and listed pairs, with features, signals and labels.

    Args:
        data: must reach to the end of the cut's label window.
        scene: the cut.
        heads: of the encoder that the scene's vectors come from.
        tasks: of the workspace.
        horizon: length of the label window.
        candidates: how many each user gets, as a request would.
    """
    retriever = Retriever.load(scene.folder, merge=scene.merge)
    # One user's products are too small for BLAS to split: its threads double the time of a request and of this loop.
    with threadpool_limits(1, "blas"):
        lists = [
            retriever.candidates(scene.users[position], candidates).candidates.items
            for position in active_positions(scene.users)
        ]
    return list_rows(data, scene, retriever, heads, tasks, horizon, lists)


def list_rows(
    data: Data,
    scene: Scene,
    retriever: Retriever,
    heads: Heads,
    tasks: Sequence[TaskSpec],
    horizon: timedelta,
    lists: Sequence[Int32],
) -> CutRows:
    """Return the same rows of given candidates.

    Args:
        data: must reach to the end of the cut's label window.
        scene: the cut.
        retriever: of the scene.
        heads: of the encoder that the scene's vectors come from.
        tasks: of the workspace.
        horizon: length of the label window.
        lists: per active user, int32 distinct item positions.
    """
    positions = active_positions(scene.users)
    users = [scene.users[position] for position in positions]
    binary = [*pair_tasks(tasks), *user_tasks(tasks)]
    found = {task.name: labels(task, data.events, scene.cut, horizon, data.tables.items) for task in binary}
    eligible = retriever.snapshot.eligible
    with threadpool_limits(1, "blas"):
        rows = build_rows(
            CutData(
                users=users,
                positions=positions,
                candidates=lists,
                snapshot=retriever.snapshot,
                source=ReleaseSource(retriever, HeadSides(heads, np.asarray(retriever.item_vectors))),
                labels={task.name: only_eligible(task, found[task.name], eligible) for task in binary},
            ),
            tasks,
            SignalSchema.of(heads, sequence=retriever.sequence is not None),
        )
    log.info("rows_built", cut=scene.cut.date().isoformat(), users=len(users), rows=len(rows.items))
    return rows


def fit_models(
    data: Data,
    scenes: Sequence[Scene],
    heads: Heads,
    tasks: Sequence[TaskSpec],
    *,
    horizon: timedelta,
    candidates: int,
    config: RankingConfig,
) -> tuple[RankingModels, dict[str, Ablation]]:
    """Fit trees on every scene but the newest, blend and calibration on the newest.

    Args:
        data: events before the release's as-of time.
        scenes: ranker cuts, newest first.
        heads: of the encoder.
        tasks: of the workspace.
        horizon: length of each label window.
        candidates: how many each user gets.
        config: how.

    Returns:
        The models, and the main task's blend on some families only, for the report.
    """
    newest, *older = (scene_rows(data, scene, heads, tasks, horizon, candidates) for scene in scenes)
    schema = SignalSchema.of(heads, sequence=(scenes[0].folder / SEQUENCE_DIR).exists())
    models = fit_ranking(older, newest, tasks, schema, config)
    return models, fit_ablations(models, newest, config)
