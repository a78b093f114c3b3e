"""Search of an inverted file under a mask, which looks as far as the mask makes it.

How many lists hold the nearest allowed items depends on the mask: filters go with vectors (a category is a cluster),
and a mask that closes a query's neighbourhood leaves answers in far lists. So no number of probes is right; instead
each list gets a bound on what it may hold: with c the centroid, `scale` the length of the list's mean along c and
`spread` the standard deviation of its vectors about that mean in one direction, a list's scores are about
N(scale * q.c, spread^2), and it is left out once `scale * q.c + slack * spread` is below the k-th score found.
`slack` is measured on the data (margins.py). A mask that closes everything near thus ends in a scan of what is
allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import faiss
import numpy as np

from features.schema import Float32
from retrieval.index.rows import Int64, Rows

_faiss: Any = faiss

_MEMBERS: Final = 64  # vectors of a list that its figures are taken from
_GROWTH: Final = 4
_FIRST_LISTS: Final = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Lists:
    """The lists of an inverted file.

    Attributes:
        cpu: the FAISS index.
        centroids: float32 `[lists, indexed dim]`, FAISS's own memory.
        scale: float32 `[lists]`.
        spread: float32 `[lists]`.
    """

    cpu: Any
    centroids: Float32
    scale: Float32
    spread: Float32

    @classmethod
    def of(cls, cpu: Any, figures: Float32) -> Lists:
        """Return the lists of `cpu` with the figures (float32 `[2, lists]`) that `measure` made."""
        quantizer = _faiss.downcast_index(cpu.quantizer)
        centroids = _faiss.rev_swig_ptr(quantizer.get_xb(), cpu.nlist * cpu.d).reshape(cpu.nlist, cpu.d)
        return cls(cpu=cpu, centroids=centroids, scale=figures[0], spread=figures[1])

    @classmethod
    def measure(cls, cpu: Any, rows: Rows) -> Lists:
        """Return the lists of `cpu`, which holds `rows`; an empty list's figures are zero."""
        found = cls.of(cpu, np.zeros((2, cpu.nlist), np.float32))
        for number, centroid in enumerate(found.centroids):
            ids = found.members(number)
            if not len(ids):
                continue
            vectors = rows.take(np.sort(ids[:: max(1, len(ids) // _MEMBERS)]))
            found.scale[number] = (vectors @ centroid).mean() / max(centroid @ centroid, 1e-12)
            off = vectors - found.scale[number] * centroid
            found.spread[number] = np.sqrt(np.einsum("md,md->", off, off) / off.size)
        # A list of copies has no spread of its own, and rounding would then decide.
        np.maximum(found.spread, found.spread.mean() * 1e-2, out=found.spread)
        return found

    @property
    def figures(self) -> Float32:
        """Float32 `[2, lists]`, to save."""
        return np.stack([self.scale, self.spread])

    def members(self, number: int) -> Int64:
        """Return int64 `[m]` rows in one list."""
        size = self.cpu.invlists.list_size(number)
        rows: Int64 = _faiss.rev_swig_ptr(self.cpu.invlists.get_ids(number), size) if size else np.empty(0, np.int64)
        return rows

    def nearest(self, heads: Float32) -> Int64:
        """Return int64 `[m]` the list that each of `heads` (float32 `[m, indexed dim]`) lies in."""
        _, found = self.cpu.quantizer.search(heads, 1)
        return found[:, 0]  # type: ignore[no-any-return]

    def search(self, query: Float32, k: int, keep: int, slack: float, held: Any, share: float) -> tuple[Float32, Int64]:
        """Return scores float32 and rows int64 `[keep]` of one query, best first; -1 where fewer are allowed.

        Args:
            query: float32 `[indexed dim]`.
            k: the k-th score found decides which lists are left out.
            keep: how many to return, at least k.
            slack: see the head of this file.
            held: FAISS selector of the allowed rows.
            share: the share of rows that is allowed, in (0, 1].
        """
        closeness = self.centroids @ query
        bounds = self.scale * closeness + np.float32(slack) * self.spread
        # Lists enough for twice k allowed items, were they spread evenly.
        size = max(_FIRST_LISTS, int(2 * k / (share * self.cpu.ntotal) * len(bounds)))
        chosen = np.argpartition(-bounds, size)[:size] if size < len(bounds) else np.arange(len(bounds))
        open_ = np.ones(len(bounds), bool)
        scores = np.empty(0, np.float32)
        rows = np.empty(0, np.int64)
        while len(chosen):
            open_[chosen] = False
            more_scores, more_rows = self._look_into(query, chosen, closeness, keep, held)
            scores, rows = np.concatenate([scores, more_scores]), np.concatenate([rows, more_rows])
            order = np.argsort(-scores, kind="stable")[:keep]
            scores, rows = scores[order], rows[order]
            rest = np.flatnonzero(open_)
            if rows[k - 1] >= 0:
                chosen = rest[bounds[rest] > scores[k - 1]]
            else:
                size *= _GROWTH
                chosen = rest[np.argpartition(-bounds[rest], size)[:size]] if size < len(rest) else rest
        return scores, rows

    def _look_into(
        self, query: Float32, chosen: Int64, closeness: Float32, keep: int, held: Any
    ) -> tuple[Float32, Int64]:
        """Return the best `keep` allowed rows in the lists `chosen`."""
        scores, rows = np.empty(keep, np.float32), np.empty(keep, np.int64)
        keys, coarse = np.ascontiguousarray(chosen, np.int64), np.ascontiguousarray(closeness[chosen])
        pointer = _faiss.swig_ptr
        # The Python wrapper of search_preassigned takes no parameters, hence no selector.
        self.cpu.search_preassigned_c(
            1, pointer(query), keep, pointer(keys), pointer(coarse), pointer(scores), pointer(rows), False,
            _faiss.SearchParametersIVF(sel=held, nprobe=len(keys)),
        )  # fmt: skip
        return scores, rows
