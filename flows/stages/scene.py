"""A scene: everything retrieval knows as of one cut, laid out like the retrieval part of a release.

Training cuts and the serving cut are built by this one function, so the ranker learns on candidates and signals that
came about exactly as those of a request; a release takes the serving cut's scene over, file by file. Without events it
is items alone: their vectors, index and attributes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from features.rows import ITEM_STATS_COLUMNS
from features.schema import CATEGORY, ITEM_ID, ITEM_STATS, USER_ID, Float32
from flows.stages.campaigns import audiences
from flows.stages.collaborative import CollaborativeConfig, fit_collaborative
from flows.stages.data import Data, Mask
from flows.stages.segments import trending_segments
from infra.files import write_atomic
from retrieval import layout
from retrieval.catalogue import CatalogueConfig
from retrieval.collaborative import Collaborative
from retrieval.config import RetrievalConfig
from retrieval.index import AnyIndexConfig, build_index
from retrieval.rows import mapped
from retrieval.sequence.runtime import SequenceModel
from retrieval.snapshot import ELIGIBLE, TITLE, ItemSnapshot


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What a scene is built by: the workspace's name and sections, and how its items were made."""

    collaborative: CollaborativeConfig
    owner: str
    index: AnyIndexConfig
    retrieval: RetrievalConfig
    catalogue: CatalogueConfig


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What users did before the cut, as earlier steps tell it.

    Attributes:
        item_stats: one column per ITEM_STATS_COLUMNS, by item position, as of the cut.
        user_vectors: folder that `embed_users` wrote.
        sequence: folder that `fit_sequence` wrote; None where nothing asks for it.
        kept: folder of a release whose collaborative and sequence models are taken over instead, items since then
            appended.
    """

    item_stats: pl.DataFrame
    user_vectors: Path
    sequence: Path | None = None
    kept: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SceneParts:
    """What earlier steps made.

    Attributes:
        item_vectors: folder that `embed_items` wrote.
        events: what users did; None where there are none.
    """

    item_vectors: Path
    events: Behaviour | None


def build_scene(out: Path, data: Data, cut: datetime, parts: SceneParts, config: SceneConfig) -> None:
    """Write the scene of a cut into `out`.

    Args:
        out: empty folder.
        data: the catalogue and events; those at or after the cut are not read.
        cut: the time.
        parts: what earlier steps made.
        config: how.
    """
    eligible = data.eligible(cut)
    events = parts.events
    _snapshot(data, cut, eligible, None if events is None else events.item_stats).save(out / layout.SNAPSHOT)
    (out / layout.VECTORS_DIR).mkdir(exist_ok=True)
    os.link(parts.item_vectors / layout.ITEM_VECTORS, out / layout.ITEM_VECTORS)
    positions = np.flatnonzero(eligible).astype(np.int32)
    queries = None if events is None else _users_with_text(events.user_vectors / layout.USER_VECTORS)
    vectors = mapped(out / layout.ITEM_VECTORS)
    build_index(vectors, positions, config.index, queries, owner=config.owner).save(out / layout.INDEX_DIR)
    write_atomic(out / layout.RETRIEVAL_CONFIG, config.retrieval.model_dump_json(indent=1).encode())
    write_atomic(out / layout.CATALOGUE, config.catalogue.model_dump_json(indent=1).encode())
    if events is None:
        return
    os.link(events.user_vectors / layout.USER_VECTORS, out / layout.USER_VECTORS)
    write_atomic(out / layout.USER_IDS, json.dumps(data.tables.users[USER_ID].to_list()).encode())
    wanted = config.retrieval
    if wanted.trending_by is not None:
        segments = trending_segments(data, cut, eligible, wanted.trending_by, wanted.trending_smoothing)
        segments.save(out / layout.SEGMENTS)
    addressed = audiences(wanted.campaigns, data.tables.users)
    if addressed.members:
        addressed.save(out / layout.AUDIENCES)
    if events.kept is not None:
        _take_over(events.kept, vectors, out)
        return
    fit_collaborative(data.events, cut, eligible, data.n_users, data.features, config.collaborative, out)
    if events.sequence is not None:
        link_tree(events.sequence / layout.SEQUENCE_DIR, out / layout.SEQUENCE_DIR)


def _take_over(release: Path, vectors: Float32, out: Path) -> None:
    """Write a release's models of behaviour below `out`, over the catalogue of float32 `[n_items, dim]` vectors."""
    Collaborative.load(release / layout.COLLABORATIVE_DIR).grown(len(vectors)).save(out / layout.COLLABORATIVE_DIR)
    if (release / layout.SEQUENCE_DIR).exists():
        SequenceModel.load(release / layout.SEQUENCE_DIR).grown(vectors).save(out / layout.SEQUENCE_DIR)


def link_tree(source: Path, target: Path, *, skip: Sequence[str] = ()) -> None:
    """Hard-link every file below `source` to the same place below `target`, but for top entries named in `skip`."""
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and relative.parts[0] not in skip:
            place = target / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)


def _snapshot(data: Data, cut: datetime, eligible: Mask, stats: pl.DataFrame | None) -> ItemSnapshot:
    """Return the items as of the cut; without statistics, which only events give, each of theirs is missing."""
    items = data.tables.items
    # A filter that names a statistic means that, not a column called like it.
    attributes = [name for name in items.columns if name not in (ITEM_ID, *ITEM_STATS)]
    frame = items.select(ITEM_ID).with_columns(
        *(
            (pl.lit(None, pl.Float32) if stats is None else pl.lit(stats[column])).alias(name)
            for name, column in zip(ITEM_STATS, ITEM_STATS_COLUMNS, strict=True)
        ),
        pl.Series(CATEGORY, data.categories, dtype=pl.Int32),
        pl.Series(ELIGIBLE, eligible),
        data.titles.alias(TITLE),
    )
    # Apart from the frame, whose own title, category code and mark of the eligible may be called like a column.
    return replace(ItemSnapshot.from_frame(frame, as_of=cut), attributes=items.select(attributes))


def _users_with_text(path: Path) -> Float32:
    """Return float32 `[m, dim]`: the vectors of those users who have one, which is what the index will be asked by."""
    vectors = mapped(path)
    return vectors[vectors.any(axis=1)]
