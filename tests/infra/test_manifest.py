from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import InvalidInputError
from infra.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    ReleaseCorruptError,
    check_release_id,
    new_release_id,
    relative_files,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(metadata=st.dictionaries(st.text(), JSON, max_size=3), hours=st.integers(-12, 14))
def test_the_digest_survives_the_file(metadata: dict[str, object], hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    manifest = Manifest.model_validate(
        {"release_id": "r", "created_at": NOW, "as_of": NOW.astimezone(zone), "metadata": metadata, "files": {}}
    )
    read = Manifest.model_validate_json(manifest.to_json())
    assert read.digest == manifest.content_digest()
    assert read.as_of == NOW


def write(directory: Path, text: str) -> Path:
    directory.mkdir()
    (directory / MANIFEST).write_text(text)
    return directory


def test_an_altered_manifest_is_corrupt(tmp_path: Path) -> None:
    text = Manifest(release_id="r", created_at=NOW, files={}, metadata={"ndcg": 0.1}).to_json().decode()
    directory = write(tmp_path / "r", text.replace("0.1", "0.9"))
    with pytest.raises(ReleaseCorruptError, match="expected digest"):
        Manifest.read(directory)


def test_a_manifest_without_digest_is_corrupt(tmp_path: Path) -> None:
    directory = write(tmp_path / "r", Manifest(release_id="r", created_at=NOW, files={}).model_dump_json())
    with pytest.raises(ReleaseCorruptError, match="digest ''"):
        Manifest.read(directory)


def test_a_manifest_of_another_release_is_corrupt(tmp_path: Path) -> None:
    directory = write(tmp_path / "r", Manifest(release_id="other", created_at=NOW, files={}).to_json().decode())
    with pytest.raises(ReleaseCorruptError, match="found name 'other'"):
        Manifest.read(directory)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"unknown": 1}'])
def test_a_torn_manifest_is_corrupt(tmp_path: Path, text: str) -> None:
    with pytest.raises(ReleaseCorruptError, match="is not a manifest"):
        Manifest.read(write(tmp_path / "r", text))


def test_a_missing_manifest_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(ReleaseCorruptError, match="found none"):
        Manifest.read(tmp_path)


def test_total_bytes() -> None:
    files = {name: FileEntry(sha256="0" * 64, size=size) for name, size in (("a", 3), ("b", 4))}
    assert Manifest(release_id="r", created_at=NOW, files=files).total_bytes == 7  # 3 + 4


def test_relative_files_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert sorted(relative_files(tmp_path)) == ["a", "b/1", "b/2", "c/d/e"]


@pytest.mark.parametrize("kind", ["file", "folder", "broken"])
def test_links_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "r" / "link").symlink_to(tmp_path / kind)
    with pytest.raises(ReleaseCorruptError, match="expected plain files"):
        list(relative_files(tmp_path / "r"))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".tmp-x", "a\n", "x" * 129, "é"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="expected a release name"):
        check_release_id(name)


def test_made_names_sort_by_time_and_differ() -> None:
    early, late = new_release_id(NOW), new_release_id(NOW + timedelta(seconds=1))
    assert early.startswith("20260102T030405Z-")
    assert early < late
    assert check_release_id(early) != new_release_id(NOW)
