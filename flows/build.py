"""One release's build: every step in order, each resumed from what an earlier run finished.

`Build` says what each step is made from (its key) and calls the plain function that makes it; `flows.refresh` wraps the
same calls in Prefect flows. Nothing here reads an event at or after the as-of time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import polars as pl
import structlog

from features.event_log import EventLog
from features.events import EventProcessor, UserBase, write_user_base
from features.rows import user_features
from features.schema import ITEM_ID, TIMESTAMP, USER_ID, UserFeatures
from features.splits import TimePlan
from features.store import FeatureStore
from features.tables import EVENTS_TABLE, Tables, read_tables
from features.tasks import TaskSpec
from features.transforms import compute
from flows.stages.ablations import write_ablations
from flows.stages.data import Data, end_of_data
from flows.stages.frames import read_frames, write_frames
from flows.stages.rank import Scene, fit_models
from flows.stages.release import ReleaseParts, write_release
from flows.stages.replay import find_origin, find_start, start_digests
from flows.stages.scene import SceneConfig, SceneParts, build_scene, embed_items
from flows.stages.tables import build_tables, content_hash, fingerprint, logged_until
from flows.stages.unlabelled import encoder_data
from flows.steps import STEP_FILE, KeyPart, StepStore, source_hash
from flows.workspace import Workspace
from infra.files import write_atomic
from infra.releases import ReleaseStore
from infra.settings import Settings
from retrieval.encoder.data import TrainingData
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.runtime import TextEncoder

log = structlog.get_logger(__name__)

# How many candidates a request ranks by default, and so how many each user gets in training.
CANDIDATES: Final = 500
_LATEST: Final = "latest.json"
_WARM_UP_USERS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Build:
    """The steps of a workspace as of a time.

    Attributes:
        workspace: the folder and its config.
        settings: the environment.
        tables: the tables step's folder.
        as_of: nothing at or after it is read.
        steps: where finished steps lie.
    """

    workspace: Workspace
    settings: Settings
    tables: Path
    as_of: datetime
    steps: StepStore = field(repr=False)

    @classmethod
    def start(cls, workspace: Workspace, settings: Settings, as_of: datetime | None) -> Build:
        """Read the source where it changed, and stand at `as_of` (None: just after the latest event)."""
        steps = StepStore(workspace.runs)
        tables = refresh_tables(workspace, steps)
        moment = end_of_data(tables) if as_of is None else as_of
        return cls(workspace=workspace, settings=settings, tables=tables, as_of=moment, steps=steps)

    @cached_property
    def data(self) -> Data:
        """The catalogue and the events before the as-of time."""
        return load_data(self.workspace, self.tables, self.as_of)

    @cached_property
    def plan(self) -> TimePlan:
        """Every cut of the release, checked against the history there is."""
        return self.workspace.config.time.plan(self.as_of, self._first_event)

    @property
    def tasks(self) -> Sequence[TaskSpec]:
        """The workspace's tasks."""
        return self.workspace.config.tasks

    @property
    def _first_event(self) -> datetime:
        first = pl.scan_parquet(self.tables / f"{EVENTS_TABLE}.parquet").select(pl.col(TIMESTAMP).min()).collect()
        moment = first.item()
        assert isinstance(moment, datetime)
        return moment

    @cached_property
    def _seen(self) -> str:
        """What every later step is made from: the catalogue, and the events before the as-of time.

        Not the tables step's name: an event logged since then makes new tables, and leaves an earlier time as it was.
        """
        return content_hash(self._catalogue, self.data.events)

    @cached_property
    def _catalogue(self) -> str:
        return content_hash(self.data.tables.items, self.data.tables.users)

    def _key(self, *sections: str, code: Sequence[str]) -> list[KeyPart]:
        return [self.workspace.config_hash(*sections), source_hash(*code)]

    def frames(self, cut: datetime) -> Path:
        """Return the feature frames of a cut."""
        data = self.data
        return self.steps.run(
            "features",
            [self._seen, cut, *self._key("features", code=["features"])],
            lambda out: write_frames(
                out, compute(data.events, data.categories, cut, n_users=data.n_users, config=data.features)
            ),
        )

    def store_features(self, cuts: Sequence[datetime]) -> FeatureStore:
        """Apply the Feast repository, write the frames of the cuts to its offline store, and return it."""
        store = feature_store(self.workspace, self.settings)
        store.apply()
        for cut in cuts:
            frames = read_frames(self.frames(cut), cut)
            store.write_snapshot(frames, self.data.tables.users[USER_ID], self.data.tables.items[ITEM_ID])
        return store

    def users(self, cut: datetime) -> list[UserFeatures]:
        """Return every user's features as of a cut, by Feast's point-in-time join, by user position."""
        store = self.store_features([cut])
        ids = self.data.tables.users[USER_ID].to_list()
        return user_features(store.historical_users(ids, [cut] * len(ids)))

    def item_stats(self, cut: datetime) -> pl.DataFrame:
        """Return every item's statistics as of a cut, by Feast's point-in-time join, by item position."""
        store = self.store_features([cut])
        ids = self.data.tables.items[ITEM_ID]
        return store.historical_items(ids, pl.repeat(cut, len(ids), dtype=pl.Datetime("us", "UTC"), eager=True))

    def materialise(self) -> None:
        """Bring the as-of features of every user to the online store, then those that events since have changed."""
        data, workspace = self.data, self.workspace
        store = self.store_features([self.as_of])
        store.materialize(self.as_of)
        write_user_base(workspace.user_base, data.tables, data.categories, self.as_of, logged_until(self.tables))
        log = EventLog(workspace.event_log)
        EventProcessor(log, store, UserBase.load(workspace.user_base), data.features).replay()

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
        return Build.start(Workspace.load(origin.workspace), self.settings, origin.as_of)

    def training_data(self) -> TrainingData:
        """Return what the encoder trains on."""
        frames = self._encoder_frames()
        return encoder_data(self.data, self.tasks, self.plan, frames, self.workspace.config.encoder)

    def _encoder_frames(self) -> dict[datetime, Path]:
        cuts = (*self.plan.encoder_training, self.plan.encoder_validation)
        return {cut: self.frames(cut) for cut in cuts}

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

    def item_vectors(self, encoder: Path) -> Path:
        """Return the vectors of every item."""
        data = self.data
        return self.steps.run(
            "item_vectors",
            [_identity(encoder), self._catalogue, self.workspace.config_hash("texts")],
            lambda out: embed_items(out, data, TextEncoder.load(encoder)),
        )

    def scene(self, cut: datetime, encoder: Path, collaborative: Path | None = None) -> Path:
        """Return everything retrieval knows as of a cut."""
        config = self.workspace.config
        sections = ("features", "eligible", "texts", "index", "collaborative", "candidates")
        vectors, frames, data = self.item_vectors(encoder), self.frames(cut), self.data
        shared: list[KeyPart] = [] if collaborative is None else [_identity(collaborative)]
        return self.steps.run(
            "scene",
            [cut, vectors, frames, *self._key(*sections, code=["retrieval", "flows.stages"]), *shared],
            lambda out: build_scene(
                out,
                data,
                cut,
                SceneParts(
                    frames=frames,
                    item_stats=self.item_stats(cut),
                    item_vectors=vectors,
                    encoder=TextEncoder.load(encoder),
                    collaborative=collaborative,
                ),
                SceneConfig(collaborative=config.collaborative, index=config.index, retrieval=config.candidates),
            ),
        )

    def models(self, encoder: Path) -> Path:
        """Return the fitted ranking models."""
        cuts = self.plan.ranker
        scenes = [self.scene(cut, encoder) for cut in cuts]
        code = self._key("tasks", "ranking", "time", code=["features", "retrieval", "ranking", "flows.stages"])
        return self.steps.run(
            "ranking", [encoder, *scenes, self.as_of, *code], lambda out: self._fit(out, scenes, encoder)
        )

    def _fit(self, out: Path, folders: Sequence[Path], encoder: Path) -> None:
        scenes = [
            Scene(cut=cut, folder=folder, users=self.users(cut))
            for cut, folder in zip(self.plan.ranker, folders, strict=True)
        ]
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

    def release(self, encoder: Path, scene: Path, models: Path, parent: str | None = None) -> str:
        """Write a release of these parts, unless it exists, and return its id.

        The id is the as-of day and a hash of the parts, so a run that is repeated finds the release it made.
        """
        store = ReleaseStore(self.workspace.releases)
        parts = ReleaseParts(encoder=encoder, scene=scene, models=models)
        release_id = f"{self.as_of:%Y%m%d}-{_digest(encoder.name, scene.name, models.name, parent)}"
        if release_id in {info.release_id for info in store.list()}:
            log.info("release_reused", release=release_id)
            return release_id
        users = [user for user in self.users(self.as_of) if len(user.items)]
        write_release(
            store,
            release_id,
            parts,
            tasks=self.tasks,
            workspace_file=self.workspace.file,
            plan=self.plan,
            parent=parent,
            warm_up=users[:: max(1, len(users) // _WARM_UP_USERS)][:_WARM_UP_USERS],
        )
        return release_id


def refresh_tables(workspace: Workspace, steps: StepStore) -> Path:
    """Return the tables step of the source as it is now, its positions continuing those of the last refresh."""
    mark = fingerprint(workspace.config.source, workspace.folder)
    logged = EventLog(workspace.event_log).read()
    key: list[KeyPart] = [mark, logged.height, workspace.config_hash("source", "validation"), source_hash("features")]
    previous = latest_tables(workspace)
    if previous is not None and _latest(workspace)["key"] == _digest(*key):
        log.info("tables_unchanged", step=previous.name)
        return previous
    earlier: Tables | None = None if previous is None else read_tables(previous)
    folder = steps.run(
        "tables",
        [*key, *([] if previous is None else [previous])],
        lambda out: build_tables(
            out, workspace.config.source, workspace.folder, logged, earlier, workspace.config.validation
        ),
    )
    workspace.tables.mkdir(parents=True, exist_ok=True)
    pointer = json.dumps({"step": folder.name, "key": _digest(*key)})
    write_atomic(workspace.tables / _LATEST, pointer.encode())
    return folder


def latest_tables(workspace: Workspace) -> Path | None:
    """Return the tables step of the last refresh, whose positions the next one continues; None before the first."""
    if not (workspace.tables / _LATEST).exists():
        return None
    folder = workspace.runs / _latest(workspace)["step"]
    return folder if (folder / f"{EVENTS_TABLE}.parquet").exists() else None


def _latest(workspace: Workspace) -> dict[str, str]:
    found: dict[str, str] = json.loads((workspace.tables / _LATEST).read_bytes())
    return found


def load_data(workspace: Workspace, tables: Path, before: datetime | None) -> Data:
    """Return the stored tables; events at or after `before` are left out."""
    config = workspace.config
    return Data.load(tables, before=before, features=config.features, texts=config.texts, eligibility=config.eligible)


def feature_store(workspace: Workspace, settings: Settings) -> FeatureStore:
    """Return the workspace's feature store."""
    return FeatureStore(workspace.feast, settings)


def _identity(folder: Path) -> KeyPart:
    """Return what tells a folder from others: a step's name carries its hash, a release's part goes by the release."""
    return folder if (folder / STEP_FILE).is_file() else f"{folder.parent.name}/{folder.name}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:12]
