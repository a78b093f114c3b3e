"""The files of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np

from features.schema import Float32, Int32
from infra.files import atomic_directory
from retrieval.index.errors import VectorIndexError
from retrieval.index.meta import INVERTED, SCANNED, IndexMeta
from retrieval.layout import INDEX_FILE, INDEX_LISTS, INDEX_META, INDEX_POSITIONS

_faiss: Any = faiss


def save(directory: Path, meta: IndexMeta, positions: Int32, cpu: Any, figures: Float32 | None) -> None:
    """Write the FAISS index, `positions`, the lists' `figures` and `index.json` into `directory`, atomically."""
    with atomic_directory(directory, replace=True) as folder:
        _faiss.write_index(cpu, str(folder / INDEX_FILE))
        np.save(folder / INDEX_POSITIONS, positions)
        if figures is not None:
            np.save(folder / INDEX_LISTS, figures)
        (folder / INDEX_META).write_text(meta.model_dump_json(indent=2), encoding="utf-8")


def load(directory: Path, vectors: Float32) -> tuple[IndexMeta, Int32, Any, Float32 | None]:
    """Return what `save` was given; a mapped index is read as it is searched.

    Raises:
        VectorIndexError: the files and `vectors` (float32 `[n_items, dim]`) disagree, or an earlier version wrote them.
    """
    meta = IndexMeta.model_validate_json((directory / INDEX_META).read_text(encoding="utf-8"))
    if meta.version == 1 and meta.type not in SCANNED:
        raise VectorIndexError(
            f"{directory / INDEX_META}: expected version 2 of a {meta.type} index, found 1; build it again "
            "(`polyrank refresh index`)"
        )
    # The flag maps lists, graphs and flat codes alike; nothing is ever written to.
    cpu = _faiss.read_index(str(directory / INDEX_FILE), _faiss.IO_FLAG_MMAP_IFC if meta.storage == "mapped" else 0)
    positions = np.load(directory / INDEX_POSITIONS, allow_pickle=False)
    top = int(positions[-1]) if len(positions) else -1
    said, held = f"{meta.count} x {meta.prefix or meta.dim}", f"{cpu.ntotal} x {cpu.d}"
    if said != held or vectors.shape[1] != meta.dim or top >= len(vectors):
        raise VectorIndexError(
            f"{directory}: {INDEX_META} says {said} of {meta.dim}, the index holds {held} up to position {top}, the "
            f"item vectors are {list(vectors.shape)}"
        )
    figures = np.load(directory / INDEX_LISTS, allow_pickle=False) if meta.type in INVERTED else None
    return meta, positions, cpu, figures
