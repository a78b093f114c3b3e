"""The workspace: one folder with one `polyrank.yaml`, composed of each component's own config.

Choices of method stand here; URIs, ports, keys and timeouts are `infra.settings`. Everything that flows write lies
below `.polyrank/` in the folder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from features.rules import ValidationConfig
from features.sources import SourceConfig
from features.splits import SplitConfig
from features.tasks import TaskSpec, check_tables, check_tasks
from features.texts import TextConfig
from features.transforms import FeatureConfig
from flows.document import DocumentError, parse_document, read_document
from flows.folder import WorkspaceFolder
from flows.gate import GateConfig
from flows.monitor.config import MonitorConfig
from flows.parts import Parts
from flows.stages.audit import AuditConfig
from flows.stages.collaborative import CollaborativeConfig
from flows.stages.data import EligibleConfig
from flows.tune.config import TuneConfig
from infra.errors import InvalidInputError, unknown_name
from ranking.fit import RankingConfig
from ranking.reply.config import ReplyConfig
from retrieval.config import RetrievalConfig
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.task_names import check_task_names
from retrieval.index import IndexConfig, MilvusConfig
from retrieval.sequence.config import SequenceConfig


def _index_kind(section: Any) -> str:
    kind = section.get("type") if isinstance(section, dict) else getattr(section, "type", None)
    return "milvus" if kind == "milvus" else "faiss"


class WorkspaceConfig(BaseModel):
    """The content of `polyrank.yaml`.

    Attributes:
        name: the workspace's name, as reports show it.
        source: where items, users, events and texts come from.
        validation: what happens to rows that break a rule.
        features: which events and columns the features are made of.
        time: label windows and folds.
        eligible: which items may be recommended.
        texts: what the encoder reads of items and users.
        tasks: what is learnt and served.
        encoder: backbone and joint training.
        index: the vector index.
        collaborative: ALS and item-kNN.
        sequence: what comes next in a user's history, one more source of candidates; None trains no such model.
        candidates: sources and quotas of retrieval.
        ranking: trees, blend, calibration, objectives and rules.
        reply: how texts are replied to; None serves no replies.
        audit: which groups of users and items an evaluation compares.
        gate: what a report must show before its release is published.
        monitor: which texts are watched, and when an alert is raised; None watches nothing.
        tune: which options of the encoder a search may change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    source: SourceConfig
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    validation: ValidationConfig = ValidationConfig()
    features: FeatureConfig = FeatureConfig()
    time: SplitConfig = SplitConfig()
    eligible: EligibleConfig = EligibleConfig()
    texts: TextConfig = TextConfig()
    encoder: EncoderConfig = EncoderConfig()
    index: Annotated[
        Annotated[IndexConfig, Tag("faiss")] | Annotated[MilvusConfig, Tag("milvus")], Discriminator(_index_kind)
    ] = IndexConfig()
    collaborative: CollaborativeConfig = CollaborativeConfig()
    sequence: SequenceConfig | None = None
    candidates: RetrievalConfig = RetrievalConfig()
    ranking: RankingConfig = RankingConfig()
    reply: ReplyConfig | None = None
    audit: AuditConfig = AuditConfig()
    gate: GateConfig = GateConfig()
    monitor: MonitorConfig | None = None
    tune: TuneConfig = TuneConfig()

    @property
    def parts(self) -> Parts:
        """What the source and the tasks make of the workspace."""
        return Parts.of(self.source.declared, self.tasks)


@dataclass(frozen=True, kw_only=True)
class Workspace(WorkspaceFolder):
    """A workspace folder and its checked configuration.

    Attributes:
        config: the content of its file.
    """

    config: WorkspaceConfig

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read and check `<folder>/polyrank.yaml`.

        Raises:
            DocumentNotFoundError: no such file.
            DocumentError: not YAML, or content that the sections don't accept; lines, paths and nearest names given.
        """
        place = WorkspaceFolder.find(folder)
        config = parse_document(read_document(place.file), WorkspaceConfig)
        try:
            check_tasks(config.tasks)
            check_tables(config.tasks, config.source.declared)
            config.parts.check_sections(config.model_fields_set)
            for key in ("trending_by", "campaigns"):
                if getattr(config.candidates, key) and not config.parts.events:
                    raise InvalidInputError(f"candidates.{key}: expected events in the source, found none")
            if config.parts.ranking:
                config.ranking.check(config.tasks)
            if config.reply is not None:
                config.reply.check(config.tasks)
            if config.monitor is not None:
                config.monitor.check(config.tasks)
            names = [task.name for task in config.tasks]
            check_task_names(config.encoder, names)
            config.gate.check_names(config.audit.users, config.audit.items, config.tasks)
        except InvalidInputError as error:
            raise DocumentError(f"{place.file}: {error}") from error
        return cls(folder=place.folder, config=config)

    def config_hash(self, *sections: str) -> str:
        """Return a sha256 over sections of the config, defaults included: a step's key part.

        Args:
            sections: names of `WorkspaceConfig`'s fields.

        Raises:
            InvalidInputError: no section of that name.
        """
        content = {}
        for section in sorted(set(sections)):
            if section not in WorkspaceConfig.model_fields:
                raise InvalidInputError(unknown_name("section", section, WorkspaceConfig.model_fields))
            value = getattr(self.config, section)
            parts = value if isinstance(value, tuple) else (value,)
            content[section] = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
