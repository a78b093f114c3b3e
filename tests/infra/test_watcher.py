from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.manifest import POINTER, NoCurrentReleaseError, ReleaseCorruptError
from infra.releases import ReleaseStore
from infra.watcher import ReleaseWatcher

SOON_S = 10.0


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases")


def make(store: ReleaseStore, name: str, text: str | None = None) -> None:
    with store.create(name) as writer:
        (writer.path / "value").write_text(text or name)


def load(directory: Path) -> str:
    text = (directory / "value").read_text()
    if text == "bad":
        raise ZeroDivisionError("the loader's own fault")
    return text


def watch(store: ReleaseStore, interval_s: float = 0.0) -> ReleaseWatcher[str]:
    return ReleaseWatcher(store, load, interval_s)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)


def test_nothing_published(store: ReleaseStore) -> None:
    watcher = watch(store)
    with pytest.raises(NoCurrentReleaseError, match="published"):
        watcher.load_initial()
    assert watcher.poll() is False
    assert watcher.release_id is None
    assert watcher.failures == 0
    with pytest.raises(NoCurrentReleaseError, match="found none yet"):
        _ = watcher.value


def test_each_swap_is_told(store: ReleaseStore) -> None:
    serving: list[str | None] = []
    watcher = ReleaseWatcher(store, load, 0.0, lambda: serving.append(watcher.release_id))
    make(store, "a")
    make(store, "b", "bad")
    store.publish("a")
    watcher.load_initial()
    store.publish("b")
    watcher.poll()
    assert serving == ["a"]


def test_a_value_is_changed_in_place(store: ReleaseStore) -> None:
    watcher = watch(store)
    assert not watcher.update(lambda value: value + "!")
    make(store, "a")
    make(store, "b")
    store.publish("a")
    watcher.load_initial()
    before = watcher.loaded
    assert watcher.update(lambda value: value + "!")
    assert (watcher.release_id, watcher.value, before.value) == ("a", "a!", "a")
    assert not watcher.update(lambda _: None)
    with pytest.raises(ZeroDivisionError):
        watcher.update(lambda _: str(1 / 0))
    assert watcher.value == "a!"
    # Of the next release it is the loader's business to know what changed.
    store.publish("b")
    assert watcher.poll()
    assert watcher.value == "b"


def test_load_then_follow_forward_and_back(store: ReleaseStore) -> None:
    make(store, "a")
    make(store, "b")
    store.publish("a")
    watcher = watch(store)
    assert watcher.load_initial() == "a"
    assert watcher.poll() is False
    store.publish("b")
    assert watcher.poll() is True
    assert (watcher.loaded.release_id, watcher.value) == ("b", "b")
    store.rollback()
    assert watcher.poll() is True
    assert watcher.value == "a"


def test_a_loader_that_fails_keeps_the_old_value(store: ReleaseStore) -> None:
    make(store, "a")
    make(store, "b", "bad")
    store.publish("a")
    watcher = watch(store)
    watcher.load_initial()
    store.publish("b")
    assert watcher.poll() is False
    assert (watcher.value, watcher.release_id, watcher.failures) == ("a", "a", 1)
    assert watcher.last_error == "release b: ZeroDivisionError: the loader's own fault"
    store.rollback()
    assert watcher.poll() is False
    assert watcher.last_error is None  # the release that the pointer names is in service again


def test_an_altered_release_is_never_given_to_the_loader(store: ReleaseStore) -> None:
    make(store, "a")
    make(store, "b")
    store.publish("a")
    given: list[str] = []

    def note(directory: Path) -> str:
        given.append(directory.name)
        return load(directory)

    watcher = ReleaseWatcher(store, note, 0.0)
    watcher.load_initial()
    store.publish("b")
    value = store.path("b") / "value"
    value.chmod(stat.S_IRUSR | stat.S_IWUSR)
    value.write_text("x")
    assert watcher.poll() is False
    assert given == ["a"]
    assert "expected sha256" in (watcher.last_error or "")
    with pytest.raises(ReleaseCorruptError):
        watch(store).load_initial()


def test_a_torn_pointer_keeps_the_old_value(store: ReleaseStore) -> None:
    make(store, "a")
    store.publish("a")
    watcher = watch(store)
    watcher.load_initial()
    (store.root / POINTER).write_text("{")
    assert watcher.poll() is False
    assert watcher.value == "a"
    assert POINTER in (watcher.last_error or "")


def test_failures_are_tried_again_ever_more_rarely(store: ReleaseStore) -> None:
    make(store, "a", "bad")
    store.publish("a")
    watcher = watch(store, interval_s=1000.0)
    for _ in range(3):
        watcher.poll()
    assert watcher.failures == 1  # the next try is due in 1000 s
    make(store, "b")
    store.publish("b")
    assert watcher.poll() is True  # another release does not wait
    assert watcher.last_error is None


def test_the_thread_survives_failures_and_swaps_without_a_gap(store: ReleaseStore) -> None:
    make(store, "a")
    make(store, "b", "bad")
    make(store, "c")
    store.publish("a")
    with watch(store, interval_s=0.005) as watcher:
        eventually(lambda: watcher.release_id == "a")
        stop, seen = threading.Event(), set[str]()

        def read() -> None:
            while not stop.is_set():
                loaded = watcher.loaded
                assert loaded.release_id == loaded.value
                seen.add(loaded.value)

        reader = threading.Thread(target=read)
        reader.start()
        store.publish("b")
        eventually(lambda: watcher.failures >= 2)
        store.publish("c")
        eventually(lambda: watcher.release_id == "c")
        eventually(lambda: "c" in seen)
        stop.set()
        reader.join()
    assert seen == {"a", "c"}


def test_close_ends_the_thread(store: ReleaseStore) -> None:
    before = threading.active_count()
    watcher = watch(store, interval_s=100.0).start()
    assert threading.active_count() == before + 1
    watcher.close()
    assert threading.active_count() == before


def test_close_does_not_wait_for_a_slow_load(store: ReleaseStore) -> None:
    make(store, "a")
    store.publish("a")
    entered, leave = threading.Event(), threading.Event()

    def slow(_directory: Path) -> str:
        entered.set()
        leave.wait(SOON_S)
        return "late"

    watcher = ReleaseWatcher(store, slow, 0.0).start()
    assert entered.wait(SOON_S)
    watcher.close(timeout_s=0.01)
    assert watcher.release_id is None
    leave.set()
    eventually(lambda: watcher.release_id == "a")
