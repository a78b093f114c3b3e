"""`/v1/items` on the retrieval service, with a real log, releases and their pointer."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from features.item_changes import ItemChangeError
from features.item_log import ItemChange, ItemLog
from infra.errors import ConflictError, InvalidInputError, NotFoundError
from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.watcher import ReleaseWatcher
from retrieval import layout
from retrieval.client import RetrievalClient
from retrieval.engine import Retriever
from retrieval.live.follow import ItemFollower
from retrieval.service import create_app
from retrieval.warmup import load_ready
from tests.retrieval.conftest import GroupEncoder, World
from tests.retrieval.live.conftest import CATALOGUE
from tests.retrieval.test_service import InProcess

DELI = {"department": "DELI", "brand": "Own", "organic": True, "size": 3}


@dataclass
class Service:
    """One running service of a workspace."""

    client: RetrievalClient
    http: TestClient
    watcher: ReleaseWatcher[Retriever]


@pytest.fixture
def store(release: Path, tmp_path: Path) -> ReleaseStore:
    releases = ReleaseStore(tmp_path / "releases")
    for name, sequence in (("first", 0), ("second", 1)):
        with releases.create(name) as writer:
            shutil.copytree(release, writer.path, dirs_exist_ok=True)
            catalogue = CATALOGUE.model_copy(update={"item_sequence": sequence})
            (writer.path / layout.CATALOGUE).write_text(catalogue.model_dump_json())
    with releases.create("old") as writer:
        shutil.copytree(release, writer.path, dirs_exist_ok=True)
    releases.publish("first")
    return releases


@pytest.fixture
def start(store: ReleaseStore, world: World, tmp_path: Path) -> Iterator[Callable[[], Service]]:
    """Return what starts one more service of the same workspace."""
    opened: list[TestClient] = []

    def load(release: Path) -> Retriever:
        retriever = load_ready(release)
        retriever.texts.load = lambda: GroupEncoder(world.directions)
        return retriever

    def started() -> Service:
        # Patient: how soon answers know a change is the machine's affair.
        items = ItemFollower[Retriever](
            ItemLog(tmp_path / "items.sqlite"), lambda found: found, lambda _, changed: changed.retriever, 0.02, 60.0
        )
        watcher = ReleaseWatcher(store, items.loader(load), 60.0)
        watcher.load_initial()
        http = TestClient(create_app(watcher, None, Settings(max_batch=1_000), Metrics(), items.follow(watcher)))
        opened.append(http.__enter__())
        return Service(RetrievalClient("http://testserver", transport=InProcess(http)), http, watcher)

    yield started
    for http in opened:
        http.__exit__(None, None, None)


def deli(service: Service, k: int = 3) -> list[str]:
    return [candidate.item_id for candidate in service.client.candidates(text="DELI", k=k).candidates]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does within moments; the test's time limit ends a wait in vain."""
    while not condition():
        threading.Event().wait(0.01)


def test_added_changed_removed(start: Callable[[], Service]) -> None:
    service = start()
    answer = service.client.send_items([ItemChange(item_id="a/b", values=DELI)])
    assert (answer.accepted, answer.sequence, answer.searchable) == (1, 1, True)
    assert deli(service)[0] == "a/b"
    item = service.client.item("a/b")
    assert (item.title, item.eligible, item.available) == ("DELI Own, of DELI", True, True)
    assert item.attributes["size"] == 3
    service.client.send_items([ItemChange(item_id="a/b", values={"department": "MEAT"})])
    assert "a/b" not in deli(service, 60)
    assert service.client.item("a/b").title == "MEAT Own, of MEAT"
    assert service.client.remove_item("a/b").searchable
    gone = service.client.item("a/b")
    assert not gone.available
    assert gone.attributes["available_to"] is not None
    meat = service.client.candidates(text="MEAT", k=500).candidates
    assert "a/b" not in {candidate.item_id for candidate in meat}


def test_an_item_of_any_columns_is_shown(start: Callable[[], Service]) -> None:
    """Values that JSON lacks, which a catalogue may hold."""
    service = start()
    columns = {
        "packed": date(2026, 3, 1), "weight": float("nan"), "price": Decimal("1.50"), "tags": ["a", "b"], "life": None,
    }  # fmt: skip

    def with_columns(retriever: Retriever) -> Retriever:
        own = retriever.snapshot
        extra = [pl.Series(name, [value] * len(own)) for name, value in columns.items()]
        snapshot = dataclasses.replace(own, attributes=own.attributes.with_columns(extra))
        return dataclasses.replace(retriever, snapshot=snapshot)

    assert service.watcher.update(with_columns)
    found = service.client.item("item-1").attributes
    assert {name: found[name] for name in columns} == {
        "packed": "2026-03-01", "weight": None, "price": "1.50", "tags": ["a", "b"], "life": None,
    }  # fmt: skip


def test_other_services_and_restarts_know_it_too(start: Callable[[], Service]) -> None:
    one, other = start(), start()
    one.client.send_items([ItemChange(item_id="olives", values=DELI)])
    until(lambda: deli(other)[0] == "olives")
    assert deli(start())[0] == "olives"


def test_a_swap_keeps_what_the_release_lacks(start: Callable[[], Service], store: ReleaseStore) -> None:
    """The second release says that it holds the first change, which it doesn't: only the later one is laid over it."""
    service = start()
    for name in ("olives", "capers"):
        service.client.send_items([ItemChange(item_id=name, values=DELI)])
    store.publish("second")
    assert service.watcher.poll()
    assert service.client.candidates(text="DELI").release == "second"
    assert deli(service)[0] == "capers"
    assert "olives" not in deli(service, 60)
    # Rolled back, the release of before is brought up to date again.
    store.publish("first")
    assert service.watcher.poll()
    assert set(deli(service, 2)) == {"olives", "capers"}


def test_what_does_not_fit_is_refused_before_it_is_logged(start: Callable[[], Service], tmp_path: Path) -> None:
    service = start()
    good = ItemChange(item_id="olives", values=DELI)
    with pytest.raises(InvalidInputError, match="item 'x', column 'size': expected"):
        service.client.send_items([good, ItemChange(item_id="x", values={"size": "large"})])
    with pytest.raises(InvalidInputError, match="did you mean 'brand'"):
        service.client.send_items([ItemChange(item_id="x", values={"brnad": "Own"})])
    with pytest.raises(InvalidInputError, match="at most 1000 items, found 1001"):
        service.client.send_items([good] * 1_001)
    with pytest.raises(NotFoundError, match="'nothing'"):
        service.client.remove_item("nothing")
    with pytest.raises(NotFoundError, match="'nothing'"):
        service.client.item("nothing")
    assert ItemLog(tmp_path / "items.sqlite").last_sequence() == 0


def test_a_release_that_can_take_none_says_so(start: Callable[[], Service], store: ReleaseStore) -> None:
    store.publish("old")
    with pytest.raises(ConflictError, match=r"catalogue\.json"):
        start().client.send_items([ItemChange(item_id="olives", values=DELI)])


def test_a_change_that_another_catalogue_took_is_told_not_lost(start: Callable[[], Service], tmp_path: Path) -> None:
    log = ItemLog(tmp_path / "items.sqlite")
    now = datetime.now(UTC)
    log.append([ItemChange(item_id="olives", values={**DELI, "shelf": 4})], now)
    with capture_logs() as logs:
        service = start()
    assert deli(service)[0] == "olives"
    (refused,) = [entry for entry in logs if entry["event"] == "item_value_refused"]
    assert "shelf" in refused["reason"]
    assert ItemChangeError.status == 422


def test_requests_go_on_while_many_items_come(start: Callable[[], Service]) -> None:
    """Eight hundred items in batches; each answer is whole, and the items that were there before never vanish."""
    service = start()
    service.client.send_items([ItemChange(item_id="olives", values={**DELI, "brand": "First"})])
    stop, faults, asked = threading.Event(), [], [0]

    def ask() -> None:
        while not stop.is_set():
            found = service.client.candidates(text="DELI", k=20, filter='brand == "First"').candidates
            asked[0] += 1
            if [candidate.item_id for candidate in found] != ["olives"]:
                faults.append(found)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for first in range(0, 800, 200):
            items = [ItemChange(item_id=f"new-{n}", values=DELI) for n in range(first, first + 200)]
            assert service.client.send_items(items).searchable
    finally:
        stop.set()
        thread.join()
    assert not faults
    assert asked[0] > 0
    found = service.client.candidates(text="DELI", k=1_000, filter='brand == "Own"').candidates
    assert {candidate.item_id for candidate in found} == {f"new-{n}" for n in range(800)}
