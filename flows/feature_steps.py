"""The behavioural side of a build: feature frames as of cuts, and the feature store that they go through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from features.event_log import EventLog
from features.events import EventProcessor, UserBase, write_user_base
from features.rows import user_features
from features.schema import ITEM_ID, USER_ID, UserFeatures
from features.store import FeatureStore
from features.transforms import compute
from flows.stages.data import Data
from flows.stages.frames import read_frames, write_frames
from flows.steps import StepStore, source_hash
from flows.workspace import Workspace
from infra.settings import Settings


@dataclass(frozen=True, kw_only=True)
class FeatureSteps:
    """What a workspace's events say of users and items as of a time.

    Attributes:
        workspace: the folder and its config.
        settings: the environment.
        data: the catalogue and the events.
        seen: a hash of both.
        steps: where finished steps lie.
    """

    workspace: Workspace
    settings: Settings
    data: Data
    seen: str
    steps: StepStore = field(repr=False)

    def frames(self, cut: datetime) -> Path:
        """Return the feature frames of a cut."""
        data = self.data
        return self.steps.run(
            "features",
            [self.seen, cut, self.workspace.config_hash("features"), source_hash("features")],
            lambda out: write_frames(
                out, compute(data.events, data.categories, cut, n_users=data.n_users, config=data.features)
            ),
        )

    def store(self, cuts: Sequence[datetime]) -> FeatureStore:
        """Apply the Feast repository, write the frames of the cuts to its offline store, and return it."""
        store = FeatureStore(self.workspace.feast, self.settings)
        store.apply()
        for cut in cuts:
            frames = read_frames(self.frames(cut), cut)
            store.write_snapshot(frames, self.data.tables.users[USER_ID], self.data.tables.items[ITEM_ID])
        return store

    def users(self, cut: datetime) -> list[UserFeatures]:
        """Return every user's features as of a cut, by Feast's point-in-time join, by user position."""
        ids = self.data.tables.users[USER_ID].to_list()
        return user_features(self.store([cut]).historical_users(ids, [cut] * len(ids)))

    def item_stats(self, cut: datetime) -> pl.DataFrame:
        """Return every item's statistics as of a cut, by Feast's point-in-time join, by item position."""
        ids = self.data.tables.items[ITEM_ID]
        times = pl.repeat(cut, len(ids), dtype=pl.Datetime("us", "UTC"), eager=True)
        return self.store([cut]).historical_items(ids, times)

    def materialise(self, as_of: datetime, logged_until: int) -> None:
        """Bring the features of every user as of a time online, then those that events since have changed.

        Args:
            as_of: the time.
            logged_until: sequence number of the newest logged event that the data holds.
        """
        data, workspace = self.data, self.workspace
        store = self.store([as_of])
        store.materialize(as_of)
        write_user_base(workspace.user_base, data.tables, data.categories, as_of, logged_until)
        log = EventLog(workspace.event_log)
        EventProcessor(log, store, UserBase.load(workspace.user_base), data.features).replay()
