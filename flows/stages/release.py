"""Writing a release: the parts that steps made, what they were made by, and golden answers to warm up with."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from pydantic import JsonValue

from features.schema import UserFeatures, feature_schema_hash
from features.splits import TimePlan
from features.tasks import TaskSpec
from flows.lineage import Lineage
from flows.stages.scene import link_tree
from flows.steps import STEP_FILE
from infra.files import write_atomic
from infra.releases import ReleaseStore
from ranking.answers import LoadedRelease
from ranking.layout import RANKING_DIR, REPLIES
from ranking.reply.config import Replies
from ranking.spaces import dump_tasks
from ranking.warmup import record as record_ranking
from ranking.warmup import record_texts, write
from retrieval.contract import MAX_TEXT, CandidatesRequest
from retrieval.layout import ENCODER_DIR, MERGE, TASKS, WORKSPACE
from retrieval.warmup import record as record_retrieval

Row = TypeVar("Row")

# What an encoder's step holds besides what a release takes over.
NOT_RELEASED: Final = (STEP_FILE, "tensorboard")
# Of each kind: users, and texts.
_WARM_UP: Final = 8


@dataclass(frozen=True, kw_only=True)
class ReleaseParts:
    """Folders of the steps that a release is made of.

    Attributes:
        encoder: the exported encoder.
        scene: the serving cut's scene; None without items.
        models: the ranking models; None where nothing is ranked.
        merge: the learnt merge of a user's sources; None where there is none.
        replies: how texts are replied to; None where they aren't.
    """

    encoder: Path
    scene: Path | None = None
    models: Path | None = None
    merge: Path | None = None
    replies: Replies | None = None

    @property
    def names(self) -> dict[str, str]:
        """What tells each part there is from others of its kind: its folder's name, or a hash of it."""
        folders = {"encoder": self.encoder, "scene": self.scene, "ranking": self.models, "merge": self.merge}
        names = {part: folder.name for part, folder in folders.items() if folder is not None}
        if self.replies is not None:
            names["replies"] = hashlib.sha256(self.replies.model_dump_json().encode()).hexdigest()[:12]
        return names


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Whose golden answers a release ships."""

    users: Sequence[UserFeatures]
    texts: Sequence[str]

    @classmethod
    def of(cls, users: Sequence[UserFeatures], texts: Sequence[str]) -> Self:
        """Return a few of the users who did something, and of the texts, evenly spaced over both."""
        active = [user for user in users if len(user.items)]
        return cls(users=_spaced(active), texts=_spaced(texts))


def _spaced(rows: Sequence[Row]) -> Sequence[Row]:
    return rows[:: max(1, len(rows) // _WARM_UP)][:_WARM_UP]


def write_release(
    store: ReleaseStore,
    release_id: str,
    parts: ReleaseParts,
    *,
    tasks: Sequence[TaskSpec],
    workspace_file: Path,
    plan: TimePlan,
    lineage: Lineage,
    warm_up: WarmUp,
) -> None:
    """Write a sealed release; nothing of it exists until it is whole.

    Args:
        store: where releases lie.
        release_id: its name.
        parts: its parts, taken over by hard link.
        tasks: what it predicts.
        workspace_file: what it was declared by.
        plan: its cuts.
        lineage: what it was made from.
        warm_up: users and texts whose golden answers it ships.
    """
    metadata: dict[str, JsonValue] = {
        "feature_schema": feature_schema_hash(),
        **parts.names,
        "time_plan": [dict(row) for row in plan.describe()],
        **lineage.metadata,
    }
    with store.create(release_id, parent=lineage.parent, as_of=plan.as_of, metadata=metadata) as writer:
        link_tree(parts.encoder, writer.path / ENCODER_DIR, skip=NOT_RELEASED)
        if parts.scene is not None:
            link_tree(parts.scene, writer.path, skip=(STEP_FILE,))
        if parts.models is not None:
            link_tree(parts.models / RANKING_DIR, writer.path / RANKING_DIR)
        if parts.merge is not None:
            os.link(parts.merge / MERGE, writer.path / MERGE)
        write_atomic(writer.path / TASKS, dump_tasks(tasks))
        if parts.replies is not None:
            write_atomic(writer.path / REPLIES, parts.replies.model_dump_json(indent=1).encode())
        shutil.copyfile(workspace_file, writer.path / WORKSPACE)
        loaded = LoadedRelease.load(writer.path)
        loaded.check_replies()
        requests: list[tuple[CandidatesRequest, UserFeatures | None]] = [
            *((CandidatesRequest(user_id=user.user_id), user) for user in warm_up.users),
            *((CandidatesRequest(text=text[:MAX_TEXT]), None) for text in warm_up.texts),
        ]
        write(
            writer.path,
            record_retrieval(loaded.retriever, requests) if loaded.retriever is not None else [],
            record_ranking(loaded.ranker, warm_up.users) if loaded.ranker is not None else [],
            record_texts(loaded.predictor, warm_up.texts),
        )
