"""Writing a release: the parts of three steps, what they were made by, and golden answers to warm up with."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from features.schema import UserFeatures, feature_schema_hash
from features.splits import TimePlan
from features.tasks import TaskSpec
from flows.stages.scene import link_tree
from flows.steps import STEP_FILE
from infra.files import write_atomic
from infra.releases import ReleaseStore
from ranking.layout import RANKING_DIR
from ranking.ranker import Ranker
from ranking.spaces import dump_tasks
from ranking.warmup import record as record_ranking
from ranking.warmup import write
from retrieval.contract import CandidatesRequest
from retrieval.engine import Retriever
from retrieval.layout import ENCODER_DIR, TASKS, WORKSPACE
from retrieval.warmup import record as record_retrieval


@dataclass(frozen=True, kw_only=True)
class ReleaseParts:
    """Folders of the steps that a release is made of.

    Attributes:
        encoder: the exported encoder.
        scene: the serving cut's scene.
        models: the ranking models.
    """

    encoder: Path
    scene: Path
    models: Path


def write_release(
    store: ReleaseStore,
    release_id: str,
    parts: ReleaseParts,
    *,
    tasks: Sequence[TaskSpec],
    workspace_file: Path,
    plan: TimePlan,
    parent: str | None,
    warm_up: Sequence[UserFeatures],
) -> None:
    """Write a sealed release; nothing of it exists until it is whole.

    Args:
        store: where releases lie.
        release_id: its name.
        parts: its parts, taken over by hard link.
        tasks: what it predicts.
        workspace_file: what it was declared by.
        plan: its cuts.
        parent: the release it was made from.
        warm_up: users whose golden answers it ships.
    """
    metadata: dict[str, JsonValue] = {
        "feature_schema": feature_schema_hash(),
        "encoder": parts.encoder.name,
        "scene": parts.scene.name,
        "ranking": parts.models.name,
        "time_plan": [dict(row) for row in plan.describe()],
    }
    with store.create(release_id, parent=parent, as_of=plan.as_of, metadata=metadata) as writer:
        link_tree(parts.scene, writer.path, skip=(STEP_FILE,))
        link_tree(parts.encoder, writer.path / ENCODER_DIR, skip=(STEP_FILE, "tensorboard"))
        link_tree(parts.models / RANKING_DIR, writer.path / RANKING_DIR)
        write_atomic(writer.path / TASKS, dump_tasks(tasks))
        shutil.copyfile(workspace_file, writer.path / WORKSPACE)
        retriever = Retriever.load(writer.path)
        requests = [(CandidatesRequest(user_id=user.user_id), user) for user in warm_up]
        write(
            writer.path,
            record_retrieval(retriever, requests),
            record_ranking(Ranker.load(writer.path, retriever), warm_up),
        )
