"""How far a list, or a code, may understate an answer: measured, not assumed.

A masked search leaves out what can't be among the k best by these two margins. With s_k the exact k-th score, an answer
in list l is found if `slack` is at least (s_k - scale_l * q.c_l) / spread_l, and it is among the candidates if the
last of them scores at least `doubt` below s_k by its code and the answer less than that. So the quantile of either
figure over exact answers is the margin that finds that share of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np

from features.schema import Float32, Int32
from retrieval.index.config import IndexType
from retrieval.index.lists import Lists
from retrieval.index.rows import Rows, shortened

_faiss: Any = faiss

_DEPTHS: Final = (10, 100)  # the k-th score stands higher for a smaller k


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Exact answers of some queries, as the index sees them.

    Attributes:
        heads: float32 `[q, indexed dim]` the queries.
        held: float32 `[q, k, indexed dim]` the answers, best first.
        best: float32 `[q, k]` their exact scores.
    """

    heads: Float32
    held: Float32
    best: Float32

    @classmethod
    def of(cls, rows: Rows, queries: Float32, nearest: Int32, best: Float32) -> Answers:
        """Return the answers at positions `nearest` (int32 `[q, k]`) to whole `queries` (float32 `[q, dim]`)."""
        k = min(_DEPTHS[-1], nearest.shape[1])
        held = shortened(rows.vectors[nearest[:, :k].ravel()], rows.prefix)
        return cls(heads=shortened(queries, rows.prefix), held=held.reshape(len(queries), k, -1), best=best[:, :k])

    def slack(self, lists: Lists, target: float) -> float:
        """Return the least slack that finds the share `target` of the answers, at the worst depth."""
        own = lists.nearest(self.held.reshape(-1, self.held.shape[2])).reshape(self.best.shape)
        scores = np.einsum("qd,qkd->qk", self.heads, self.held)
        expected = lists.scale[own] * np.einsum("qd,qkd->qk", self.heads, lists.centroids[own])
        # A prefix orders otherwise than the whole: its own least score is what a search compares with.
        lasts = [scores[:, :k].min(axis=1, keepdims=True) for k in _DEPTHS]
        return _worst(
            [(last - expected[:, :k]) / lists.spread[own[:, :k]] for k, last in zip(_DEPTHS, lasts, strict=True)],
            target,
        )

    def doubt(self, cpu: Any, kind: IndexType, target: float) -> float:
        """Return the least doubt that keeps the share `target` of the answers among the candidates, likewise."""
        codec = _faiss.downcast_index(cpu.storage) if kind == "hnsw" else cpu
        decoded = codec.sa_decode(codec.sa_encode(self.held.reshape(-1, self.held.shape[2])))
        scores = np.einsum("qd,qkd->qk", self.heads, decoded.reshape(self.held.shape))
        return _worst([self.best[:, :k].min(axis=1, keepdims=True) - scores[:, :k] for k in _DEPTHS], target)


def _worst(needed: Sequence[Float32], target: float) -> float:
    """Return the largest quantile, at least zero."""
    return max(0.0, *(float(np.quantile(figures, target)) for figures in needed))
