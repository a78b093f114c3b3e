from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra import files
from infra.files import (
    PARTIAL_PREFIX,
    TargetExistsError,
    atomic_directory,
    clean_partial,
    remove_directory,
    sha256_file,
    write_atomic,
)


def partials(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{PARTIAL_PREFIX}*"))


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target"
    with atomic_directory(target) as partial:
        (partial / "nested").mkdir()
        (partial / "nested" / "a").write_text("1")
        assert not target.exists()
    assert (target / "nested" / "a").read_text() == "1"
    assert partials(target.parent) == []


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), atomic_directory(tmp_path / "target") as partial:  # noqa: PT012
        (partial / "a").write_text("1")
        raise KeyError("a")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_refused_and_unharmed(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(TargetExistsError, match="found one"), atomic_directory(tmp_path / "target"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]


@pytest.mark.parametrize("content", ["", "x"])
def test_a_target_made_meanwhile_wins(tmp_path: Path, content: str) -> None:
    target = tmp_path / "target"
    with pytest.raises(TargetExistsError, match="meanwhile"), atomic_directory(target) as partial:  # noqa: PT012
        (partial / "a").write_text("mine")
        target.mkdir()
        (target / "a").write_text(content)
    assert (target / "a").read_text() == content
    assert partials(tmp_path) == []


def test_replace_takes_the_place_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for content in ("old", "new"):
        with atomic_directory(target, replace=True) as partial:
            (partial / content).write_text(content)
    assert [entry.name for entry in target.iterdir()] == ["new"]
    assert partials(tmp_path) == []


def test_replace_without_the_exchange_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel is the seam here: a system without renameat2 answers "no such call".
    monkeypatch.setattr(files, "_exchange", lambda _first, _second: False)
    test_replace_takes_the_place_of_the_old(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_a_reader_never_misses_a_replaced_directory(tmp_path: Path) -> None:
    target = tmp_path / "target"
    done = threading.Event()
    missed: list[float] = []

    def read() -> None:
        while not done.is_set():
            if not target.is_dir():
                missed.append(time.monotonic())

    with atomic_directory(target) as partial:
        (partial / "a").write_text("0")
    reader = threading.Thread(target=read)
    reader.start()
    for version in range(30):
        with atomic_directory(target, replace=True) as partial:
            (partial / "a").write_text(str(version))
    done.set()
    reader.join()
    assert missed == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(versions=st.lists(st.binary(max_size=4096), min_size=1, max_size=4))
def test_write_atomic_holds_the_last_bytes(tmp_path: Path, versions: list[bytes]) -> None:
    path = tmp_path / "folder" / "file"
    for data in versions:
        write_atomic(path, data)
    assert path.read_bytes() == versions[-1]
    assert list(path.parent.iterdir()) == [path]


def test_write_atomic_keeps_the_old_when_the_rename_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()  # a file cannot take a directory's place
    with pytest.raises(IsADirectoryError):
        write_atomic(path, b"new")
    assert list(tmp_path.iterdir()) == [path]


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_living_writers_work_is_left_alone(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "target") as partial:
        (partial / "a").write_text("1")
        assert clean_partial(tmp_path) == []
    assert (tmp_path / "target" / "a").read_text() == "1"


def test_a_killed_writers_work_is_cleaned(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom infra.files import atomic_directory\n"
        "with atomic_directory(Path(sys.argv[1]) / 'target') as partial:\n"
        "    (partial / 'a').write_text('1')\n    print('writing', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert clean_partial(tmp_path) == []
        os.kill(writer.pid, signal.SIGKILL)
    left = partials(tmp_path)
    assert len(left) == 1
    assert clean_partial(tmp_path) == left
    assert list(tmp_path.iterdir()) == []


def test_clean_partial_of_files_and_of_no_directory(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL_PREFIX}file-1").write_text("x")
    (tmp_path / "kept").write_text("x")
    assert [path.name for path in clean_partial(tmp_path)] == [f"{PARTIAL_PREFIX}file-1"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert clean_partial(tmp_path / "absent") == []


def test_remove_directory(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "a").write_text("1")
    remove_directory(tmp_path / "target")
    assert list(tmp_path.iterdir()) == []
