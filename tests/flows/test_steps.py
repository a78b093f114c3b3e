"""Steps are whole or absent, keyed by all they depend on, and resumed after any interruption."""

from __future__ import annotations

import io
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from flows.stage_lines import Stages
from flows.steps import STEP_FILE, KeyPart, StepStore, contents, read_step, source_hash
from infra.files import PARTIAL_PREFIX


def builder(calls: list[str]) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        calls.append("done")
        (folder / "out.txt").write_text("done")

    return build


def test_a_finished_step_is_reused(tmp_path: Path) -> None:
    calls: list[str] = []
    first = StepStore(tmp_path / "runs").run("features", ["a", 1], builder(calls))
    again = StepStore(tmp_path / "runs")
    assert again.run("features", ["a", 1], builder(calls)) == first
    assert calls == ["done"]
    assert (first / "out.txt").read_text() == "done"
    assert [(stage.name, stage.reused) for stage in again.stages] == [("features", True)]


def test_a_line_per_step_and_none_for_asking_twice(tmp_path: Path) -> None:
    out = io.StringIO()
    cut = datetime(2017, 12, 4, tzinfo=UTC)
    store = StepStore(tmp_path, Stages(Console(file=out, width=100, color_system=None)))
    store.run("scene_of_cut", [cut], builder([]))
    store.run("scene_of_cut", [cut], builder([]))
    again = StepStore(tmp_path, Stages(Console(file=out, width=100, color_system=None)))
    again.run("scene_of_cut", [cut], builder([]))
    again.run("scene_of_cut", [cut], builder([]))
    lines = [re.sub(r"\d\.\d s", "N s", line) for line in out.getvalue().splitlines()]
    assert lines == [
        "... scene of cut 2017-12-04",
        "✓ scene of cut 2017-12-04 N s",
        "✓ scene of cut 2017-12-04 reused, built in N s",
    ]
    assert len(store.stages) == len(again.stages) == 1


def test_step_records_key_time_and_memory(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    folder = store.run("encoder_training", ["a", 2, None, True], lambda _: time.sleep(0.05))
    record = read_step(folder)
    assert record.key == ("a", 2, None, True)
    assert 0.05 <= record.seconds < 5
    assert record.peak_rss_bytes > 10_000_000  # an interpreter with pydantic is well above 10 MB
    assert store.stages[0].name == "encoder training"
    assert not store.stages[0].reused


def test_peak_memory_is_the_step_s_own(tmp_path: Path) -> None:
    store = StepStore(tmp_path)

    def wasteful(folder: Path) -> None:
        held = b"x" * 300_000_000
        time.sleep(0.1)  # the peak is sampled every 20 ms where the process was larger before
        (folder / "size").write_text(str(len(held)))

    heavy = read_step(store.run("heavy", [], wasteful)).peak_rss_bytes
    light = read_step(store.run("light", [], lambda _: None)).peak_rss_bytes
    assert heavy - light > 250_000_000


def test_a_failed_build_leaves_nothing_and_its_error_passes(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError("no more memory")

    store = StepStore(tmp_path)
    with pytest.raises(RuntimeError, match="no more memory"):
        store.run("index", [], fail)
    assert list(tmp_path.iterdir()) == []
    assert store.stages == ()


def test_a_step_without_its_record_is_built_anew(tmp_path: Path) -> None:
    calls: list[str] = []
    store = StepStore(tmp_path)
    folder = store.run("index", [], builder(calls))
    (folder / STEP_FILE).unlink()
    (folder / "stray").write_text("x")
    store.run("index", [], builder(calls))
    assert calls == ["done", "done"]
    assert not (folder / "stray").exists()


def test_an_earlier_step_s_hash_reaches_later_ones(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    first, second = store.path("features", ["cut 1"]), store.path("features", ["cut 2"])
    assert store.path("index", [first]) != store.path("index", [second])
    moved = StepStore(tmp_path / "elsewhere")
    assert store.path("index", [first]).name == moved.path("index", [moved.path("features", ["cut 1"])]).name


def test_moments_are_keyed_by_instant_and_need_a_zone(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    noon = datetime(2017, 12, 4, 12, tzinfo=UTC)
    same = noon.astimezone(timezone(timedelta(hours=8)))
    assert store.path("a", [noon]) == store.path("a", [same])
    assert store.path("a", [noon]) != store.path("a", [noon + timedelta(microseconds=1)])
    with pytest.raises(ValueError, match="with a zone"):
        store.path("a", [noon.replace(tzinfo=None)])


@pytest.mark.parametrize("name", ["", "Has Space", "../up", "a-b", "a/b"])
def test_name_is_a_plain_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected a step name"):
        StepStore(tmp_path).path(name, [])


parts = st.lists(st.none() | st.booleans() | st.integers() | st.text(max_size=6), max_size=4)


@settings(deadline=None)
@given(parts, parts)
def test_different_keys_have_different_folders(first: list[KeyPart], second: list[KeyPart]) -> None:
    store = StepStore(Path("runs"))
    same = [(type(part), part) for part in first] == [(type(part), part) for part in second]
    assert (store.path("a", first) == store.path("a", second)) == same


def test_prune_removes_what_no_run_used(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    calls: list[str] = []
    again, unused, kept, fresh = (store.run("index", [n], builder(calls)) for n in range(4))
    for folder in (again, unused, kept):
        moment = time.time() - 3600
        os.utime(folder / STEP_FILE, (moment, moment))
    StepStore(tmp_path).run("index", [0], builder(calls))  # a later run reuses it
    assert store.prune(datetime.now(UTC) - timedelta(minutes=1), keep=[kept]) == [unused]
    assert sorted(tmp_path.iterdir()) == sorted([again, kept, fresh])


def test_two_builders_of_one_step_both_succeed(tmp_path: Path) -> None:
    meet = threading.Barrier(2)
    found: list[Path] = []

    def build(folder: Path) -> None:
        meet.wait(timeout=20)
        (folder / "out.txt").write_text("done")

    def work() -> None:
        found.append(StepStore(tmp_path).run("index", [], build))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(found) == 2
    assert found[0] == found[1]
    assert [path.name for path in tmp_path.iterdir()] == [found[0].name]


def test_source_hash_follows_the_code() -> None:
    assert source_hash("flows", "infra") == source_hash("infra", "flows")
    assert source_hash("infra") != source_hash("flows")


PIPELINE = """
import sys, time
from pathlib import Path
from flows.stage_lines import Stages
from flows.steps import StepStore

def build(value):
    def fill(folder):
        for part in range(20):
            (folder / f"part{part}").write_text(str(value))
            time.sleep(0.004)
    return fill

store = StepStore(Path(sys.argv[1]))
print("ready", flush=True)
before = None
for number in range(4):
    before = store.run(f"step{number}", [before, number], build(number))
print("finished", flush=True)
"""


def test_killed_at_any_moment_leaves_whole_steps_and_the_next_run_finishes(tmp_path: Path) -> None:
    root, rng = tmp_path / "runs", random.Random(7)
    script = tmp_path / "pipeline.py"
    script.write_text(textwrap.dedent(PIPELINE))
    command = [sys.executable, str(script), str(root)]
    repository = Path(__file__).parents[2]
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=repository, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.0, 0.25))
            process.send_signal(signal.SIGKILL)
        for folder in (path for path in root.glob("*") if not path.name.startswith(PARTIAL_PREFIX)):
            assert_whole(folder)
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, check=True, timeout=60)
    assert done.stdout.endswith("finished\n")
    assert len(list(root.iterdir())) == 4  # the four steps; what the killed runs left is gone
    for folder in root.iterdir():
        assert_whole(folder)


def assert_whole(folder: Path) -> None:
    number = folder.name[len("step")]
    assert [(folder / f"part{part}").read_text() for part in range(20)] == [number] * 20
    assert read_step(folder).name == f"step{number}"


def test_finished_steps_are_found_by_their_first_part_the_latest_first(tmp_path: Path) -> None:
    store = StepStore(tmp_path / "runs")
    assert store.finished("vectors", "mine") == []
    first = store.run("vectors", ["mine", 1], builder([]))
    second = store.run("vectors", ["mine", 2], builder([]))
    store.run("vectors", ["theirs", 1], builder([]))
    store.run("vectors_too", ["mine"], builder([]))
    (store.run("vectors", ["mine", 3], builder([])) / STEP_FILE).unlink()
    assert store.finished("vectors", "mine") == [second, first]


def test_folders_of_one_content_are_told_apart_from_others(tmp_path: Path) -> None:
    def made(name: str, **files: str) -> str:
        for path, text in files.items():
            file = tmp_path / name / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return contents(tmp_path / name, skip=["log"])

    first = made("a", weights="w", more__names="n", log__one="1")
    assert made("b", weights="w", more__names="n", log__two="2") == first
    assert made("c", weights="x", more__names="n") != first
    assert made("d", weights="w", more__other="n") != first
