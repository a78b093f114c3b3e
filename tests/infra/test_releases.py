from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.errors import InvalidInputError
from infra.files import TargetExistsError
from infra.manifest import (
    POINTER,
    NoCurrentReleaseError,
    NoPreviousReleaseError,
    PointerMovedError,
    ReleaseCorruptError,
    ReleaseNotFoundError,
)
from infra.releases import ReleaseStore


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases")


def make(store: ReleaseStore, name: str, files: dict[str, str] | None = None) -> str:
    with store.create(name) as writer:
        for relative, text in (files or {"model/weights": name}).items():
            path = writer.path / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return name


def alter(path: Path, text: str) -> None:
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    path.write_text(text)


def test_a_release_holds_what_was_written(store: ReleaseStore) -> None:
    as_of = datetime(2026, 1, 2, tzinfo=UTC)
    make(store, "a")
    with store.create(parent="a", as_of=as_of, metadata={"ndcg": 0.5}) as writer:
        (writer.path / "x").write_text("1")
    manifest = store.verify(writer.release_id)
    assert (manifest.parent, manifest.as_of, manifest.metadata) == ("a", as_of, {"ndcg": 0.5})
    assert list(manifest.files) == ["x"]
    assert (store.path(writer.release_id) / "x").read_text() == "1"


def test_released_files_are_read_only(store: ReleaseStore) -> None:
    make(store, "a")
    assert stat.S_IMODE((store.path("a") / "model/weights").stat().st_mode) == 0o444


def test_a_failed_build_leaves_no_release(store: ReleaseStore) -> None:
    with pytest.raises(RuntimeError), store.create("a") as writer:  # noqa: PT012
        (writer.path / "x").write_text("1")
        raise RuntimeError
    assert list(store.root.iterdir()) == []


def test_wrong_arguments_fail_before_the_work(store: ReleaseStore) -> None:
    make(store, "a")
    with pytest.raises(TargetExistsError), store.create("a"):
        pytest.fail("the body must not run")
    with pytest.raises(ReleaseNotFoundError, match="did you mean 'a'"), store.create(parent="aa"):
        pytest.fail("the body must not run")
    with pytest.raises(InvalidInputError, match="as_of"), store.create(as_of=datetime(2026, 1, 2)):
        pytest.fail("the body must not run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aA", r"release a: model/weights: expected 1 bytes, found 2"),
        ("b", f"model/weights: expected sha256 {'.' * 64}, found {'.' * 64}"),
    ],
)
def test_verify_names_the_altered_file(store: ReleaseStore, text: str, message: str) -> None:
    make(store, "a")
    alter(store.path("a") / "model/weights", text)
    with pytest.raises(ReleaseCorruptError, match=message):
        store.verify("a")


def test_verify_names_missing_and_extra_files(store: ReleaseStore) -> None:
    make(store, "a")
    (store.path("a") / "extra").write_text("")
    with pytest.raises(ReleaseCorruptError, match=r"found \['extra'\]"):
        store.verify("a")
    (store.path("a") / "model/weights").unlink()
    with pytest.raises(ReleaseCorruptError, match=r"model/weights: expected sha256 .* found no file"):
        store.verify("a")


def test_sharing_links_files_and_folders(store: ReleaseStore) -> None:
    make(store, "a", {"model/x": "1", "model/y/z": "2", "model.txt": "3", "index": "4"})
    with store.create("b", parent="a") as writer:
        writer.share("a", "model")
        writer.share("a", "index")
    assert sorted(store.verify("b").files) == ["index", "model/x", "model/y/z"]
    assert (store.path("b") / "model/x").samefile(store.path("a") / "model/x")


def test_sharing_copies_where_links_are_not_allowed(store: ReleaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file system that cannot link is the seam; two devices are not at hand in a test.
    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    make(store, "a")
    with store.create("b") as writer:
        writer.share("a", "model/weights")
    assert store.verify("b").files == store.verify("a").files


def test_sharing_what_is_not_there(store: ReleaseStore) -> None:
    make(store, "a")
    with pytest.raises(InvalidInputError, match="file or folder 'mod'"), store.create("b") as writer:
        writer.share("a", "mod")


def test_sharing_a_corrupt_file_does_not_bless_it(store: ReleaseStore) -> None:
    make(store, "a")
    alter(store.path("a") / "model/weights", "b")
    with pytest.raises(ReleaseCorruptError, match="shared file model/weights"), store.create("b") as writer:
        writer.share("a", "model")


def test_publish_and_roll_back(store: ReleaseStore) -> None:
    assert store.current() is None
    with pytest.raises(NoCurrentReleaseError):
        store.rollback()
    for name in ("a", "b", "c"):
        make(store, name)
        store.publish(name)
    store.publish("c")  # again: nothing changes
    pointer = store.pointer()
    assert pointer is not None
    assert (pointer.release_id, pointer.previous) == ("c", "b")
    assert [store.rollback(), store.rollback()] == ["b", "a"]
    with pytest.raises(NoPreviousReleaseError, match="found none"):
        store.rollback()
    assert store.current() == "a"


def test_the_pointer_moves_only_from_where_it_was_seen(store: ReleaseStore) -> None:
    for name in ("a", "b"):
        make(store, name)
    store.publish("a", over=None)
    with pytest.raises(PointerMovedError, match="release b: expected none to be current, found a"):
        store.publish("b", over=None)
    store.publish("b", over="a")
    store.publish("b", over="a")  # it is current already
    assert store.current() == "b"


def test_rolling_back_passes_over_what_cannot_be_loaded(store: ReleaseStore) -> None:
    for name in ("a", "b", "c", "d"):
        make(store, name)
        store.publish(name)
    alter(store.path("c") / "model/weights", "x")
    for path in sorted(store.path("b").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.path("b").rmdir()
    assert store.rollback() == "a"


def test_a_corrupt_release_is_not_published(store: ReleaseStore) -> None:
    make(store, "a")
    store.publish("a")
    make(store, "b")
    alter(store.path("b") / "model/weights", "x")
    with pytest.raises(ReleaseCorruptError):
        store.publish("b")
    with pytest.raises(ReleaseNotFoundError, match="known: a, b"):
        store.publish("zzz")
    assert store.current() == "a"


def test_a_torn_pointer_is_named(store: ReleaseStore) -> None:
    store.root.mkdir()
    (store.root / POINTER).write_text("{")
    with pytest.raises(ReleaseCorruptError, match=POINTER):
        store.current()


def test_list_is_newest_first_and_skips_the_unreadable(store: ReleaseStore) -> None:
    assert store.list() == ()
    for name in ("c", "b", "a"):
        make(store, name, {"x": "12345"})
    store.publish("c")
    store.publish("b")
    alter(store.path("a") / "manifest.json", "{")
    infos = store.list()
    assert [(info.release_id, info.current, info.previous) for info in infos] == [
        ("b", True, False),
        ("c", False, True),
    ]
    assert infos[0].total_bytes == 5


def test_prune_keeps_current_previous_and_newest(store: ReleaseStore) -> None:
    for name in ("a", "b", "c", "d", "e"):
        make(store, name)
    store.publish("a")
    store.publish("b")
    assert store.prune(1) == ("d", "c")
    assert [info.release_id for info in store.list()] == ["e", "b", "a"]
    with pytest.raises(InvalidInputError, match="keep >= 0"):
        store.prune(-1)


def test_shared_files_outlive_the_pruned_release(store: ReleaseStore) -> None:
    make(store, "a")
    with store.create("b", parent="a") as writer:
        writer.share("a", "model")
    store.publish("b")
    assert store.prune(0) == ("a",)
    store.verify("b")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(["a", "b", "c", "back"]), max_size=12))
def test_rollback_is_the_inverse_of_publish(tmp_path_factory: pytest.TempPathFactory, moves: list[str]) -> None:
    store = ReleaseStore(tmp_path_factory.mktemp("root"))
    for name in ("a", "b", "c"):
        make(store, name)
    trail: list[str] = []
    for move in moves:
        if move == "back":
            if len(trail) > 1:
                store.rollback()
                trail.pop()
        else:
            store.publish(move)
            if not trail or trail[-1] != move:
                trail.append(move)
        assert store.current() == (trail[-1] if trail else None)


def test_two_stores_on_one_root_take_turns(store: ReleaseStore) -> None:
    names = [make(store, f"r{number}") for number in range(6)]

    def publish(chosen: list[str]) -> None:
        for name in chosen:
            ReleaseStore(store.root).publish(name)

    threads = [threading.Thread(target=publish, args=(part,)) for part in (names[:3], names[3:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pointer = store.pointer()
    assert pointer is not None
    assert sorted([pointer.release_id, *pointer.trail]) == names  # no move was lost


# One process imports and then forks a builder for each seed it is given, so that ten kills cost one start-up.
LAUNCHER = """
import os, random, sys
from pathlib import Path
from infra.releases import ReleaseStore

def build(seed):
    store, draw = ReleaseStore(Path(sys.argv[1])), random.Random(seed)
    while True:
        parent = store.current()
        with store.create(parent=parent) as writer:
            (writer.path / "part").mkdir()
            for number in range(3):
                (writer.path / "part" / str(number)).write_bytes(draw.randbytes(draw.randrange(200_000)))
            if parent:
                writer.share(parent, "kept")
            else:
                (writer.path / "kept").write_text("kept")
        store.publish(writer.release_id)
        if draw.random() < 0.3 and store.pointer().previous:
            store.rollback()
        if draw.random() < 0.3:
            store.prune(2)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        build(int(line))
    print(child, file=sys.stderr, flush=True)
    os.waitpid(child, 0)
    print("dead", file=sys.stderr, flush=True)
"""


def test_a_kill_at_any_moment_leaves_the_current_release_loadable(store: ReleaseStore) -> None:
    draw = random.Random(0)
    published: set[str] = set()
    command = [sys.executable, "-c", LAUNCHER, str(store.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stderr=pipe, stdout=subprocess.DEVNULL) as launcher:
        assert launcher.stdin is not None
        assert launcher.stderr is not None
        for seed in range(10):
            launcher.stdin.write(f"{seed}\n")
            launcher.stdin.flush()
            builder = int(launcher.stderr.readline())
            time.sleep(draw.uniform(0.01, 0.3))
            os.kill(builder, signal.SIGKILL)
            assert launcher.stderr.readline() == "dead\n"
            current = store.current()
            if current is not None:
                store.verify(current)
                published.add(current)
        launcher.stdin.close()
    assert len(published) > 1
    kept = make(store, "after")
    store.publish(kept)
    store.prune(1)
    assert list(store.root.glob(".tmp-*")) == []
    store.verify(kept)
