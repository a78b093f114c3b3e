"""Search of a graph under a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.schema import Float32
from retrieval.index.faiss_search import find, scan
from retrieval.index.plan import Plan
from retrieval.index.rows import Int64, Mask


def through_graph(cpu: Any, heads: Float32, keep: int, held: Mask, plan: Plan) -> tuple[Float32, Int64]:
    """Return scores float32 and rows int64 `[q, keep]`: the best allowed among the `plan.ask` nearest of all.

    FAISS can keep the allowed alone while it walks the graph, but then nothing tells a walk that ended before it
    reached the best of them from one that didn't. Where `keep` of the nearest are allowed, they are the best allowed
    ones, as surely as the graph finds the nearest at all; where they aren't, a scan answers.

    Args:
        cpu: the FAISS graph.
        heads: float32 `[q, indexed dim]` queries.
        keep: how many.
        held: bool `[count]` rows that are allowed, at least `keep`.
        plan: how many of all rows to ask for, and the breadth.
    """
    scores, rows = find(cpu, "hnsw", heads, plan.ask, plan.effort)
    shut = (rows < 0) | ~held[rows]
    order = np.argsort(shut, axis=1, kind="stable")[:, :keep]  # allowed ones first, in FAISS's order
    short = np.flatnonzero((~shut).sum(axis=1) < keep)
    scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    if len(short):
        scores[short], rows[short] = scan(cpu, "hnsw", heads[short], keep, held)
    return scores, rows
