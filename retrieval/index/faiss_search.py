"""One call into FAISS: rows and its own scores, whatever the type."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from features.schema import Float32
from retrieval.index.config import IndexType
from retrieval.index.meta import INVERTED
from retrieval.index.rows import Int64, Mask

_faiss: Any = faiss


def find(
    cpu: Any, kind: IndexType, queries: Float32, k: int, effort: int = 1, held: Mask | None = None
) -> tuple[Float32, Int64]:
    """Return scores float32 and rows int64 `[q, k]`, best first; a row is -1 where fewer are found.

    Args:
        cpu: the FAISS index.
        kind: its type.
        queries: float32 `[q, indexed dim]`.
        k: how many.
        effort: probes of an inverted file, breadth of a graph; a scan has none.
        held: bool `[count]` rows that may be found; None for all.
    """
    sel = None if held is None else selector(held)
    if kind in INVERTED:
        params = _faiss.SearchParametersIVF(sel=sel, nprobe=effort)
    elif kind == "hnsw":
        params = _faiss.SearchParametersHNSW(sel=sel, efSearch=max(effort, k))
    else:
        params = _faiss.SearchParameters(sel=sel)
    return cpu.search(queries, k, params=params)  # type: ignore[no-any-return]


def scan(cpu: Any, kind: IndexType, queries: Float32, k: int, held: Mask) -> tuple[Float32, Int64]:
    """Return as `find` does, from a scan of every row that `held` allows: of a graph, of the vectors below it."""
    if kind == "hnsw":
        return find(_faiss.downcast_index(cpu.storage), "flat", queries, k, held=held)
    return find(cpu, kind, queries, k, effort=cpu.nlist if kind in INVERTED else 1, held=held)


def selector(held: Mask) -> Any:
    """Return FAISS's selector of the rows that `held` (bool `[count]`) allows."""
    return _faiss.IDSelectorBitmap(np.packbits(held, bitorder="little"))
