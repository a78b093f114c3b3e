"""The evaluated release beside the current one, or why the two can't be compared.

The window is the candidate's: what came after its as-of time, which taught neither. Where the current release has seen
later data, its figures there would be memory, not foresight; the comparison is void then, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from features.schema import ITEM_ID
from features.tables import Tables
from flows.beside.texts import lacking_texts, text_rows
from flows.beside.users import Side, lacking, ranking_rows, recoded, task_rows
from flows.build import CANDIDATES, Build
from flows.document import parse_document, read_document
from flows.lineage import seen_until
from flows.report import BesideCurrent, BesideRow
from flows.stages.findings import Window
from flows.stages.rankings import K
from flows.stages.text_tasks import HeldOutTexts
from flows.words import format_day
from flows.workspace import WorkspaceConfig
from infra.errors import PolyrankError
from infra.manifest import Manifest
from infra.releases import ReleaseStore
from ranking.answers import LoadedRelease
from retrieval.layout import WORKSPACE


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """The release that is evaluated, and what it is measured on.

    Attributes:
        build: as of the release's time.
        release_id: its name.
        loaded: its parts.
        window: what users did afterwards; None where nothing came or it ranks nothing.
        tables: texts that evaluations may read, among them those held out.
        held: the held-out texts, encoded by it; None without any.
    """

    build: Build
    release_id: str
    loaded: LoadedRelease
    window: Window | None
    tables: Tables
    held: HeldOutTexts | None


def beside_current(evaluated: Evaluated) -> BesideCurrent | None:
    """Return the comparison; None where no release is current, or it is the evaluated one."""
    store = ReleaseStore(evaluated.build.workspace.releases)
    current = store.current()
    if current is None or current == evaluated.release_id:
        return None
    manifest = store.manifest(current)
    shown = BesideCurrent(release_id=current, as_of=manifest.as_of, k=K)
    reason = _seen(evaluated.build.as_of, manifest, store.manifest(evaluated.release_id)) or _other_features(
        evaluated.build, store.path(current)
    )
    if reason is not None:
        return shown.model_copy(update={"void": reason})
    try:
        loaded = LoadedRelease.load(store.path(current))
    except PolyrankError as error:
        # Whatever part of it this version can't read.
        return shown.model_copy(update={"void": f"the current release can't be loaded: {error}"})
    if not _same_places(loaded, evaluated):
        return shown.model_copy(update={"void": "the current release holds its items in other places"})
    rows = (*_of_users(evaluated, loaded, store.path(current)), *_of_texts(evaluated, loaded))
    return shown.model_copy(
        update={"rows": rows, "lacking": _lacking(evaluated, loaded), "note": _note(evaluated, loaded)}
    )


def _seen(cut: datetime, current: Manifest, candidate: Manifest) -> str | None:
    """Return why one of the two may know the window by heart; None where neither does."""
    for whose, manifest in (("current", current), ("evaluated", candidate)):
        seen = seen_until(manifest)
        if seen is None:
            return f"the manifest of the {whose} release doesn't tell up to when its models have seen data"
        if seen > cut:
            return (
                f"the {whose} release has seen data up to {format_day(seen)}, the window begins on {format_day(cut)}: "
                "what it says of it is no forecast"
            )
    return None


def _other_features(build: Build, release: Path) -> str | None:
    """Return why the users' features of now aren't what a release was trained on; None where they are."""
    if build.features is None:
        return None
    try:
        config = parse_document(read_document(release / WORKSPACE), WorkspaceConfig)
    except PolyrankError as error:
        return f"the workspace file of the current release can't be read: {error}"
    if config.features == build.workspace.config.features:
        return None
    return "the section features has changed since the current release: it would read other features than it learnt by"


def _same_places(current: LoadedRelease, evaluated: Evaluated) -> bool:
    """Return whether the current release's items are the first ones of the tables, each in its place."""
    if current.retriever is None:
        return True
    own = current.retriever.snapshot.item_ids
    return own == evaluated.tables.items[ITEM_ID].head(len(own)).to_list()


def _of_users(evaluated: Evaluated, loaded: LoadedRelease, release: Path) -> Iterator[BesideRow]:
    window, ranker = evaluated.window, evaluated.loaded.ranker
    if window is None or ranker is None or loaded.ranker is None:
        return
    candidate = Side(
        release=ReleaseStore(evaluated.build.workspace.releases).path(evaluated.release_id),
        ranker=ranker,
        users=window.users,
    )
    codes = loaded.ranker.retriever.snapshot.category_codes
    current = Side(release=release, ranker=loaded.ranker, users=recoded(window.users, window.data.categories, codes))
    yield from ranking_rows(candidate, current, window)
    yield from task_rows(candidate, current, window, CANDIDATES)


def _of_texts(evaluated: Evaluated, loaded: LoadedRelease) -> Iterator[BesideRow]:
    if evaluated.held is None:
        return
    held = HeldOutTexts.of(evaluated.tables, evaluated.build.as_of, loaded.predictor)
    if held is not None:
        yield from text_rows(evaluated.loaded.predictor, evaluated.held, loaded.predictor, held)


def _lacking(evaluated: Evaluated, loaded: LoadedRelease) -> tuple[str, ...]:
    ranker = evaluated.loaded.ranker
    of_users = () if ranker is None else lacking(ranker, loaded.ranker)
    return (*of_users, *lacking_texts(evaluated.loaded.predictor, loaded.predictor))


def _note(evaluated: Evaluated, loaded: LoadedRelease) -> str:
    """Return how far the catalogues differ, in one sentence; nothing where they don't."""
    first, second = evaluated.loaded.retriever, loaded.retriever
    if first is None or second is None:
        return ""
    ours, theirs = (
        {side.snapshot.item_ids[item] for item in side.snapshot.eligible_positions.tolist()} for side in (first, second)
    )
    if ours == theirs:
        return ""
    return (
        f"{len(ours - theirs):,} items may be recommended by this release alone, {len(theirs - ours):,} by the current "
        "one alone; they count for whoever may."
    )
