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
from retrieval.sequence.config import SequenceConfig


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

    def sequence(self, cut: datetime, encoder: Path) -> Path | None:
        """Return the sequence model as of a cut; None where the workspace has no such section."""
        config = self.workspace.config.sequence
        if config is None:
            return None
        assert self.features is not None
        vectors = self.item_vectors(encoder)
        sections = self.workspace.config_hash("sequence", "features", "eligible")
        code = source_hash("features", "retrieval.sequence", "flows.stages")
        return self.steps.run(
            "sequence",
            [cut, vectors, self.features.seen, sections, code],
            lambda out: self._train_sequence(cut, vectors, config, out),
        )

    def _train_sequence(self, cut: datetime, vectors: Path, config: SequenceConfig, out: Path) -> None:
        # torch takes seconds to import, and only training needs it.
        from flows.stages.sequence import fit_sequence  # noqa: PLC0415

        fit_sequence(self.data, cut, vectors, config, out)

    def scene(self, cut: datetime, encoder: Path, kept: Path | None = None, *, served: bool = False) -> Path:
        """Return everything retrieval knows as of a cut.

        Args:
            cut: the time.
            encoder: folder of the exported encoder.
            kept: folder of a release whose models of behaviour are taken over instead of fitting them.
            served: a release will be made of it; those that only train need no index beyond this machine.
        """
        config = self._config(served=served)
        sections, code = ["eligible", "texts", "index", "candidates"], ["retrieval", "flows.stages"]
        vectors, users, sequence = self.item_vectors(encoder), None, None
        key: list[KeyPart] = [cut, vectors, config.index.model_dump_json()]
        if self.features is not None:
            sections, code = [*sections, "features", "collaborative"], [*code, "features"]
            users = self.user_vectors(cut, encoder)
            sequence = self.sequence(cut, encoder) if kept is None else None
            key += [self.features.frames(cut), users, sequence if kept is None else identity(kept)]
        return self.steps.run(
            "scene",
            [*key, self.workspace.config_hash(*sections), source_hash(*code)],
            lambda out: build_scene(
                out,
                self.data,
                cut,
                SceneParts(item_vectors=vectors, events=self._behaviour(cut, users, sequence, kept)),
                config,
            ),
        )

    def _behaviour(
        self, cut: datetime, users: Path | None, sequence: Path | None, kept: Path | None
    ) -> Behaviour | None:
        if self.features is None or users is None:
            return None
        stats = self.features.item_stats(cut)
        return Behaviour(item_stats=stats, user_vectors=users, sequence=sequence, kept=kept)

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
