"""The retrieval side of a build: vectors of items and users, and the scenes that they are part of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from flows.feature_steps import FeatureSteps
from flows.stages.data import Data
from flows.stages.release import NOT_RELEASED
from flows.stages.scene import Behaviour, SceneConfig, SceneParts, build_scene
from flows.stages.vectors import embed_items, embed_users
from flows.steps import KeyPart, StepStore, contents, identity, source_hash
from flows.workspace import Workspace
from retrieval.encoder.runtime import TextEncoder


@dataclass(frozen=True, kw_only=True)
class SceneSteps:
    """What retrieval knows of a workspace's items and users.

    Attributes:
        workspace: the folder and its config.
        data: the catalogue and the events.
        catalogue: a hash of the catalogue.
        item_sequence: the newest of the logged changes of items that it holds.
        features: what events say; None where there are none.
        steps: where finished steps lie.
    """

    workspace: Workspace
    data: Data
    catalogue: str
    item_sequence: int
    features: FeatureSteps | None
    steps: StepStore = field(repr=False)
    _encoders: dict[Path, str] = field(default_factory=dict, init=False, repr=False)

    def item_vectors(self, encoder: Path) -> Path:
        """Return the vectors of every item."""
        own = self._own(encoder)
        return self.steps.run(
            "item_vectors",
            [own, self.catalogue, self.workspace.config_hash("texts"), source_hash("features")],
            lambda out: embed_items(
                out, self.data, lambda: TextEncoder.load(encoder), self.steps.finished("item_vectors", own)
            ),
        )

    def user_vectors(self, cut: datetime, encoder: Path) -> Path:
        """Return the vectors of every user as of a cut; there are users only where there are events."""
        assert self.features is not None
        frames = self.features.frames(cut)
        own = self._own(encoder)
        code = source_hash("features", "flows.stages")
        return self.steps.run(
            "user_vectors",
            [own, frames, self.workspace.config_hash("texts"), code],
            lambda out: embed_users(
                out, self.data, frames, lambda: TextEncoder.load(encoder), self.steps.finished("user_vectors", own)
            ),
        )

    def scene(self, cut: datetime, encoder: Path, collaborative: Path | None = None, *, served: bool = False) -> Path:
        """Return everything retrieval knows as of a cut.

        Args:
            cut: the time.
            encoder: folder of the exported encoder.
            collaborative: folder of models fitted before, instead of fitting them.
            served: a release will be made of it; those that only train need no index beyond this machine.
        """
        config = self._config(served=served)
        sections, code = ["eligible", "texts", "index", "candidates"], ["retrieval", "flows.stages"]
        vectors, users = self.item_vectors(encoder), None
        key: list[KeyPart] = [cut, vectors, config.index.model_dump_json()]
        if self.features is not None:
            sections, code = [*sections, "features", "collaborative"], [*code, "features"]
            users = self.user_vectors(cut, encoder)
            key += [self.features.frames(cut), users, *([] if collaborative is None else [identity(collaborative)])]
        return self.steps.run(
            "scene",
            [*key, self.workspace.config_hash(*sections), source_hash(*code)],
            lambda out: build_scene(
                out,
                self.data,
                cut,
                SceneParts(item_vectors=vectors, events=self._behaviour(cut, users, collaborative)),
                config,
            ),
        )

    def _behaviour(self, cut: datetime, users: Path | None, collaborative: Path | None) -> Behaviour | None:
        if self.features is None or users is None:
            return None
        return Behaviour(item_stats=self.features.item_stats(cut), user_vectors=users, collaborative=collaborative)

    def _config(self, *, served: bool) -> SceneConfig:
        config = self.workspace.config
        return SceneConfig(
            collaborative=config.collaborative,
            owner=config.name,
            index=config.index if served else config.index.local,
            retrieval=config.candidates,
            catalogue=self.data.catalogue_config(self.item_sequence),
        )

    def _own(self, encoder: Path) -> str:
        """Return a hash of an encoder: a release's is that of the step which it was taken over from."""
        if encoder not in self._encoders:
            self._encoders[encoder] = contents(encoder, skip=NOT_RELEASED)
        return self._encoders[encoder]
