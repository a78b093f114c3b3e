"""Pruning removes what is old, and never what a service, a rollback or the next refresh stands on."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from flows.current_tables import latest_tables, refresh_tables
from flows.prune import prune
from flows.steps import STEP_FILE, StepStore
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore
from retrieval.index import build_index
from retrieval.index.milvus import MilvusIndex
from retrieval.layout import INDEX_DIR

WORKSPACE = """\
name: shop
source:
  type: tables
  items: {type: csv, path: items.csv, text_columns: [item_id]}
  events: {type: csv, path: events.csv, text_columns: [user_id, item_id]}
texts: {title: "{title}", item: "{title}"}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    (tmp_path / "polyrank.yaml").write_text(WORKSPACE)
    (tmp_path / "items.csv").write_text("item_id,title\n1,Milk\n2,Bread\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,event,timestamp\na,1,purchase,2020-01-01T00:00:00Z\n")
    return Workspace.load(tmp_path)


def test_old_releases_and_unused_steps_go(shop: Workspace) -> None:
    steps = StepStore(shop.runs)
    tables = refresh_tables(shop, steps)
    used, unused = (steps.run("features", [n], lambda out: out.touch()) for n in range(2))
    long_ago = time.time() - 20 * 86_400
    for step in (tables, unused):
        os.utime(step / STEP_FILE, (long_ago, long_ago))
    store = ReleaseStore(shop.releases)
    for name in ("a", "b", "c"):
        with store.create(name, as_of=datetime(2020, 1, 1, tzinfo=UTC)) as writer:
            (writer.path / "model").write_text(name)
    store.publish("a")
    removed = prune(str(shop.folder), releases=1, unused_days=14)
    assert removed.releases == ("b",)  # a is in service, c the newest
    assert removed.steps == (unused,)
    assert used.is_dir()
    # the next refresh still continues the positions of these tables, however old
    assert latest_tables(shop) == tables


@pytest.mark.parametrize("start", [".polyrank/releases/b", ".polyrank/releases/b/encoder"])
def test_what_training_starts_from_stays_with_its_parents(shop: Workspace, start: str) -> None:
    store = ReleaseStore(shop.releases)
    for name, parent in (("a", None), ("b", "a"), ("c", None), ("d", None), ("e", None)):
        with store.create(name, as_of=datetime(2020, 1, 1, tzinfo=UTC), parent=parent) as writer:
            (writer.path / "model").write_text(name)
    shop.file.write_text(f"{WORKSPACE}encoder: {{start: {start}}}\n")
    assert set(prune(str(shop.folder), releases=1, unused_days=14).releases) == {"c", "d"}
    shop.file.write_text(f"{WORKSPACE}encoder: {{start: elsewhere}}\n")
    assert set(prune(str(shop.folder), releases=1, unused_days=14).releases) == {"a", "b"}


def test_a_negative_age_is_refused(shop: Workspace) -> None:
    with pytest.raises(InvalidInputError, match="unused days >= 0, found -1"):
        prune(str(shop.folder), releases=1, unused_days=-1)


def test_collections_that_nothing_names_go(shop: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRANK_MILVUS_URI", str(tmp_path / "lite.db"))
    monkeypatch.setenv("POLYRANK_TIMEOUT_S", "60")
    (shop.folder / "polyrank.yaml").write_text(f"{WORKSPACE}index: {{type: milvus, kind: FLAT}}\n")
    shop = Workspace.load(shop.folder)
    vectors = np.eye(8, dtype=np.float32)
    indices = [
        build_index(vectors, np.arange(size, dtype=np.int32), shop.config.index, owner="shop") for size in (3, 4, 5)
    ]
    names = [index.meta.collection for index in indices if isinstance(index, MilvusIndex)]
    store = ReleaseStore(shop.releases)
    for name, index in (("old", indices[0]), ("new", indices[1])):
        with store.create(name) as writer:
            index.save(writer.path / INDEX_DIR)
    store.publish("new")
    step = StepStore(shop.runs).run("scene", ["key"], lambda out: indices[2].save(out / INDEX_DIR))
    removed = prune(str(shop.folder), releases=1, unused_days=1)
    assert removed.releases == ("old",)
    assert removed.collections == (names[0],)
    assert prune(str(shop.folder), releases=1, unused_days=1).collections == ()
    # Not while a step is built, whose collection is filled before it is named.
    shutil.rmtree(step)
    meanwhile: list[tuple[str, ...]] = []

    def build(_: Path) -> None:
        meanwhile.append(prune(str(shop.folder), releases=1, unused_days=1).collections)

    StepStore(shop.runs).run("ranking", ["key"], build)
    assert meanwhile == [()]
    assert prune(str(shop.folder), releases=1, unused_days=1).collections == (names[2],)
