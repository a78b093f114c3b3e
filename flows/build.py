"""One release's build: every step in order, each resumed from what an earlier run finished.

`Build` says what each step is made from (its key) and calls the plain function that makes it; `flows.refresh` wraps the
same calls in Prefect flows. Nothing here reads an event or text at or after the as-of time, nor a text of split `test`.
Which steps there are is for `flows.parts` to say: without events there are no features, without items no scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import polars as pl
import structlog

from features.schema import TEXT
from features.splits import TimePlan
from features.tables import read_tables
from features.tasks import TaskSpec
from flows.current_tables import changes_before, digest, load_data, refresh_tables
from flows.feature_steps import FeatureSteps
from flows.lineage import Lineage
from flows.replies import read_replies
from flows.scene_steps import SceneSteps
from flows.stages.ablations import write_ablations
from flows.stages.data import Data, end_of_data, start_of_events
from flows.stages.merge import fit_merge
from flows.stages.rank import Scene, fit_models
from flows.stages.release import ReleaseParts, WarmUp, write_release
from flows.stages.replay import find_origin, find_start, start_digests
from flows.stages.tables import content_hash
from flows.stages.unlabelled import encoder_data
from flows.steps import KeyPart, StepStore, source_hash
from flows.table_checks import check_named
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.reply.config import Replies
from retrieval.encoder.data import TrainingData
from retrieval.encoder.head_runtime import Heads

log = structlog.get_logger(__name__)

# How many candidates a request ranks by default, and so how many each user gets in training.
CANDIDATES: Final = 500


@dataclass(frozen=True, kw_only=True)
class Build:
    """The steps of a workspace as of a time.

    Attributes:
        workspace: the folder and its config.
        settings: the environment.
        tables: the tables step's folder.
        as_of: nothing at or after it is read.
        item_sequence: the newest of the logged changes of items that is read; 0 for none.
        steps: where finished steps lie.
    """

    workspace: Workspace
    settings: Settings
    tables: Path
    as_of: datetime
    item_sequence: int
    steps: StepStore = field(repr=False)

    @classmethod
    def start(
        cls, workspace: Workspace, settings: Settings, as_of: datetime | None, item_sequence: int | None = None
    ) -> Build:
        """Read the source where it changed, and stand at a time.

        Args:
            workspace: the folder and its config.
            settings: the environment.
            as_of: the time; None takes the end of the data.
            item_sequence: the newest of the logged changes of items that is read; None takes those received before
                `as_of`, without one all.
        """
        steps = StepStore(workspace.runs)
        tables = refresh_tables(workspace, steps)
        return cls(
            workspace=workspace,
            settings=settings,
            tables=tables,
            as_of=end_of_data(tables) if as_of is None else as_of,
            item_sequence=changes_before(workspace, tables, as_of) if item_sequence is None else item_sequence,
            steps=steps,
        )

    @cached_property
    def data(self) -> Data:
        """The catalogue, and the events and texts before the as-of time; what the workspace names is in them."""
        data = load_data(self.workspace, self.tables, self.as_of, self.item_sequence)
        check_named(self.workspace.config, data.tables)
        return data

    @cached_property
    def plan(self) -> TimePlan:
        """Every cut of the release, checked against the history there is."""
        time = self.workspace.config.time
        if not self.workspace.config.parts.events:
            return time.text_plan(self.as_of)
        return time.plan(self.as_of, start_of_events(self.tables))

    @cached_property
    def features(self) -> FeatureSteps | None:
        """What events say of users and items; None where there are no events."""
        if not self.workspace.config.parts.events:
            return None
        return FeatureSteps(
            workspace=self.workspace, settings=self.settings, data=self.data, seen=self._seen, steps=self.steps
        )

    @cached_property
    def replies(self) -> Replies | None:
        """How texts are replied to, checked against the tables; None where they aren't."""
        if self.workspace.config.reply is None:
            return None
        return read_replies(self.workspace, read_tables(self.tables))

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """The workspace's tasks."""
        return self.workspace.config.tasks

    @cached_property
    def _seen(self) -> str:
        """What every later step is made from: the catalogue, and the events before the as-of time.

        Not the tables step's name: an event logged since then makes new tables, and leaves an earlier time as it was.
        """
        return content_hash(self._catalogue, self.data.events)

    @cached_property
    def _catalogue(self) -> str:
        known = () if self.data.known is None else (pl.DataFrame(self.data.known, schema=["known"]),)
        return content_hash(self.data.tables.items, self.data.tables.users, *known)

    def _key(self, *sections: str, code: Sequence[str]) -> list[KeyPart]:
        return [self.workspace.config_hash(*sections), source_hash(*code)]

    @property
    def encoder_key(self) -> list[KeyPart]:
        """What the encoder is made from: its data and options, and the encoder and data that it goes on from."""
        start: list[KeyPart] = [] if self._start is None else [*start_digests(self._start)]
        old = [] if self._old is None else self._old._learnt_from
        return [*self._learnt_from, source_hash("retrieval.encoder"), *start, *old]

    @property
    def _learnt_from(self) -> list[KeyPart]:
        """What training data is made from; it alone reads the texts table."""
        sections = ("features", "time", "eligible", "texts", "tasks", "encoder")
        code = self._key(*sections, code=["features", "flows.stages"])
        return [self._seen, content_hash(self.data.tables.texts), self.as_of, *code]

    @cached_property
    def _start(self) -> Path | None:
        """The encoder that training starts from."""
        start = self.workspace.config.encoder.start
        return None if start is None else find_start(start, self.workspace.folder)

    @cached_property
    def _old(self) -> Build | None:
        """The build of the data of old: of the workspace whose release holds the start, as of that release."""
        keep = self.workspace.config.encoder.keep
        if not (keep.replay or keep.ewc):
            return None
        origin = find_origin(self._start)
        return Build.start(Workspace.load(origin.workspace), self.settings, origin.as_of, origin.item_sequence)

    def training_data(self) -> TrainingData:
        """Return what the encoder trains on."""
        frames = self._encoder_frames()
        return encoder_data(self.data, self.tasks, self.plan, frames, self.workspace.config.encoder)

    def _encoder_frames(self) -> dict[datetime, Path]:
        return self.frames((*self.plan.encoder_training, self.plan.encoder_validation))

    def frames(self, cuts: Sequence[datetime]) -> dict[datetime, Path]:
        """Return the feature frames of cuts at which the encoder reads users; none where every task is on texts."""
        features = self.features
        if features is None or all(task.on == "text" for task in self.tasks):
            return {}
        return {cut: features.frames(cut) for cut in cuts}

    def encoder(self) -> Path:
        """Return the trained and exported encoder."""
        # Steps of their own, lest their time be the encoder's.
        self._encoder_frames()
        if self._old is not None:
            self._old._encoder_frames()
        return self.steps.run("encoder", self.encoder_key, self._train)

    def _train(self, out: Path) -> None:
        # torch and transformers take seconds to import, and only this step needs them.
        from flows.stages.train import train_encoder  # noqa: PLC0415

        config = self.workspace.config.encoder.model_copy(update={"start": self._start})
        replay = None if self._old is None else self._old.training_data()
        # The folder it is built in has a passing name.
        run = f"{self.workspace.config.name}/{self.steps.path('encoder', self.encoder_key).name}"
        train_encoder(self.training_data(), config, out, replay=replay, trackers=self.settings.trackers, run=run)

    def scene(self, cut: datetime, encoder: Path, kept: Path | None = None) -> Path:
        """Return everything retrieval knows as of a cut; see `SceneSteps.scene`."""
        return self._scenes.scene(cut, encoder, kept, served=True)

    @cached_property
    def _scenes(self) -> SceneSteps:
        return SceneSteps(
            workspace=self.workspace,
            data=self.data,
            catalogue=self._catalogue,
            item_sequence=self.item_sequence,
            features=self.features,
            steps=self.steps,
        )

    def merge(self, encoder: Path) -> Path | None:
        """Return the learnt merge of a user's sources; None where the workspace declines it."""
        config = self.workspace.config.candidates.merge
        if config is None:
            return None
        cut = min(self.plan.ranker)
        scene = self._scenes.scene(cut, encoder)
        key = [self._seen, scene, *self._key("candidates", "time", code=["features", "retrieval", "flows.stages"])]
        return self.steps.run(
            "merge", key, lambda out: fit_merge(self.data, self._at(cut, scene), self.plan.horizon, config, out)
        )

    def _at(self, cut: datetime, folder: Path, merge: Path | None = None) -> Scene:
        assert self.features is not None, "whatever ranks for users knows what they did"
        return Scene(cut=cut, folder=folder, users=self.features.users(cut), merge=merge)

    def models(self, encoder: Path) -> Path:
        """Return the fitted ranking models."""
        scenes = [self._scenes.scene(cut, encoder) for cut in self.plan.ranker]
        merge = self.merge(encoder)
        code = self._key("tasks", "ranking", "time", code=["features", "retrieval", "ranking", "flows.stages"])
        return self.steps.run(
            "ranking", [encoder, *scenes, merge, self.as_of, *code], lambda out: self._fit(out, scenes, encoder, merge)
        )

    def _fit(self, out: Path, folders: Sequence[Path], encoder: Path, merge: Path | None) -> None:
        scenes = [self._at(cut, folder, merge) for cut, folder in zip(self.plan.ranker, folders, strict=True)]
        models, ablations = fit_models(
            self.data,
            scenes,
            Heads.load(encoder),
            self.tasks,
            horizon=self.plan.horizon,
            candidates=CANDIDATES,
            config=self.workspace.config.ranking,
        )
        models.save(out)
        write_ablations(out, ablations)

    def release(self, parts: ReleaseParts, parent: str | None = None) -> str:
        """Write a release of these parts, unless it exists, and return its id.

        The id is the as-of day and a hash of the parts, so a run that is repeated finds the release it made.
        """
        store = ReleaseStore(self.workspace.releases)
        release_id = f"{self.as_of:%Y%m%d}-{digest(*parts.names.values(), parent)}"
        if release_id in {info.release_id for info in store.list()}:
            log.info("release_reused", release=release_id)
            return release_id
        # An encoder lies in its release's folder.
        taken = [store.path(parent)] if parent is not None else [] if self._start is None else [self._start.parent]
        write_release(
            store,
            release_id,
            parts,
            tasks=self.tasks,
            workspace_file=self.workspace.file,
            plan=self.plan,
            lineage=Lineage.of(parent, self.as_of, taken),
            warm_up=WarmUp.of(
                users=[] if self.features is None else self.features.users(self.as_of),
                texts=self.data.tables.texts[TEXT].to_list(),
            ),
        )
        return release_id
