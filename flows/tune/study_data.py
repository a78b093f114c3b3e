"""What the runs of a study share: the training data with its test part, the configuration, and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from flows.build import Build
from flows.stages.encode import training_data
from flows.steps import StepStore
from flows.tune.runs import attempt
from flows.tune.space import Point, configured
from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.pretrain.pretrain import pretrain
from retrieval.encoder.state_store import Memory
from retrieval.encoder.trial import Trial, run_trial, with_parents

_BACKBONE: Final = "backbone"


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """The data of a study and what runs on it.

    Attributes:
        data: with a part that no run reads.
        encoder: the workspace's configuration; its backbone has read the texts already where it pretrains.
        tasks: that the study is about.
        memory: of its runs.
    """

    data: TrainingData
    encoder: EncoderConfig
    tasks: tuple[str, ...]
    memory: Memory = field(default_factory=Memory, repr=False)

    @classmethod
    def load(cls, build: Build, tasks: Sequence[str], folder: Path) -> Self:
        """Read the data of a build, and pretrain once in the study's folder where the workspace asks for it."""
        data, encoder = study_data(build), build.workspace.config.encoder
        return cls(
            data=data,
            encoder=encoder.model_copy(update={"backbone": _pretrained(data, encoder, folder), "pretrain": None}),
            tasks=tuple(tasks),
        )

    def trained(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Return tasks with the parents that they are trained with, in the workspace's order."""
        return tuple(task.name for task in with_parents(self.data.tasks, tasks))

    def attempt(self, config: EncoderConfig, tasks: tuple[str, ...]) -> Trial | str:
        """Train these tasks, or return why that failed."""
        return attempt(lambda: self.run(config, tasks), tasks)

    def attempt_point(self, encoder: EncoderConfig, point: Point, tasks: tuple[str, ...]) -> Trial | str:
        """Train these tasks at a point of a search; that its values contradict each other is a failure as well."""
        return attempt(lambda: self.run(configured(encoder, point), tasks), tasks)

    def run(self, config: EncoderConfig, tasks: Sequence[str]) -> Trial:
        """Train these tasks and measure them."""
        return run_trial(self.data, config, tasks, memory=self.memory)


def study_data(build: Build) -> TrainingData:
    """Return a build's training data with the part that no run of a study reads.

    Half of what stops training is held out anew: texts of split `test` are for evaluations, and no study reads them.
    """
    plan, encoder = build.plan, build.workspace.config.encoder
    frames = build.frames((*plan.encoder_training, plan.encoder_validation, plan.encoder_end))
    return training_data(build.data, build.tasks, plan, frames, groups=encoder.group_columns, study=True)


def chosen_tasks(build: Build, names: Sequence[str] | None, *, least: int) -> tuple[str, ...]:
    """Return the tasks that a study is about, in the workspace's order; None takes all.

    Raises:
        InvalidInputError: an unknown task, or fewer than `least`.
    """
    known = [task.name for task in build.tasks]
    wanted = known if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise InvalidInputError(f"tasks: {unknown_name('task', name, known)}")
    found = tuple(name for name in known if name in wanted)
    if len(found) < least:
        raise InvalidInputError(f"tasks: expected at least {least} to compare, found {', '.join(found) or 'none'}")
    return found


def study_folder(build: Build, kind: str, tasks: Sequence[str], *sections: str) -> Path:
    """Return where a study's runs lie: named by its data, its code, and the sections that it is made from."""
    workspace = build.workspace
    key = [*build.encoder_key, workspace.config_hash(*sections) if sections else None, *tasks]
    return StepStore(workspace.state / kind).path("study", key)


def _pretrained(data: TrainingData, encoder: EncoderConfig, folder: Path) -> BackboneConfig:
    if encoder.pretrain is None:
        return encoder.backbone
    target = folder / _BACKBONE
    if not target.exists():
        pretrain(encoder.backbone, [*data.item_texts, *data.texts.texts], encoder.pretrain, target)
    # It lies there whole or not at all; the configured digest is that of what it started from.
    return encoder.backbone.model_copy(update={"name": str(target), "sha256": None})
