"""Files say what they are, and are checked when read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from features.schema import Float32
from retrieval import layout
from retrieval.index import IndexConfig, VectorIndex, VectorIndexError


def test_a_scanned_index_of_the_first_version_is_read(
    indices: dict[str, VectorIndex], vectors: Float32, tmp_path: Path
) -> None:
    for name in ("flat_fp16", "ivf_sq8"):
        indices[name].save(tmp_path / name)
        meta = indices[name].meta
        first = {"version": 1, "type": name, "dim": meta.dim, "count": meta.count, "probes": 4, "ef_search": 256}
        (tmp_path / name / layout.INDEX_META).write_text(json.dumps(first))
    loaded = VectorIndex.load(tmp_path / "flat_fp16", vectors)
    np.testing.assert_array_equal(loaded.search(vectors[:3], 10)[0], indices["flat_fp16"].search(vectors[:3], 10)[0])
    with pytest.raises(
        VectorIndexError, match=r"expected version 2 of a ivf_sq8 index, found 1.*polyrank refresh index"
    ):
        VectorIndex.load(tmp_path / "ivf_sq8", vectors)


def test_a_mapped_index_reads_the_file_in_place(vectors: Float32, tmp_path: Path) -> None:
    """60,000 rows of 256 halves are 31 MB, which the process then doesn't hold itself."""
    many = np.tile(vectors[:, :16], (10, 16))
    index = VectorIndex.build(many, np.arange(len(many), dtype=np.int32), IndexConfig(type="flat_fp16"))
    own: dict[str, int] = {}
    loaded: dict[str, VectorIndex] = {}
    for storage in ("mapped", "memory"):
        folder = tmp_path / storage
        dataclasses.replace(index, meta=index.meta.model_copy(update={"storage": storage})).save(folder)
        before = _own_bytes()
        loaded[storage] = VectorIndex.load(folder, many)
        loaded[storage].search(many[:1], 5)
        own[storage] = _own_bytes() - before
        in_place = str(folder / layout.INDEX_FILE) in Path("/proc/self/maps").read_text()
        assert in_place == (storage == "mapped")
    assert own["memory"] - own["mapped"] > 20e6


def _own_bytes() -> int:
    """Return the process's memory that is no file's."""
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


def test_parts_that_disagree_are_named(indices: dict[str, VectorIndex], vectors: Float32, tmp_path: Path) -> None:
    indices["flat"].save(tmp_path / "index")
    path = tmp_path / "index" / layout.INDEX_META
    path.write_text(path.read_text().replace('"dim": 24', '"dim": 25'))
    with pytest.raises(VectorIndexError, match=r"index.json says \d+ x 25 of 25, the index holds \d+ x 24"):
        VectorIndex.load(tmp_path / "index", vectors)
