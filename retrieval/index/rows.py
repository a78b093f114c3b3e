"""The vectors as the index holds them: the items at some positions, in blocks, perhaps their first dimensions alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32
from retrieval.index.errors import VectorIndexError

Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BLOCK: Final = 65_536  # rows copied at a time: 100 MB at d=384
_MOST: Final = 2**31 - 1  # positions are int32 throughout the house


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Row i of an index is the item at `positions[i]`.

    Attributes:
        vectors: float32 `[n_items, dim]` all item vectors (may be memory-mapped).
        positions: int32 `[count]` items held, ascending and distinct.
        prefix: how many dimensions are indexed; None for all.
    """

    vectors: Float32
    positions: Int32
    prefix: int | None = None

    @classmethod
    def checked(cls, vectors: Float32, positions: Int32, prefix: int | None) -> Rows:
        """Return the rows, or raise `VectorIndexError` where a shape, an order, a position or the prefix is wrong."""
        if vectors.ndim != 2:
            raise VectorIndexError(f"index: expected vectors [n_items, dim], found shape {list(vectors.shape)}")
        if len(vectors) > _MOST:
            raise VectorIndexError(f"index: expected at most {_MOST} items (positions are int32), found {len(vectors)}")
        if len(positions) and (np.any(np.diff(positions) <= 0) or positions[0] < 0 or positions[-1] >= len(vectors)):
            raise VectorIndexError(f"index: expected ascending distinct positions in [0, {len(vectors)}), found others")
        if prefix is not None and prefix > vectors.shape[1]:
            raise VectorIndexError(f"index: expected a prefix of at most {vectors.shape[1]} dimensions, found {prefix}")
        whole = prefix is None or prefix == vectors.shape[1]
        return cls(vectors=vectors, positions=positions.astype(np.int32), prefix=None if whole else prefix)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def dim(self) -> int:
        """Dimensions that are indexed."""
        return self.prefix or self.vectors.shape[1]

    def take(self, rows: Int64 | slice) -> Float32:
        """Return float32 `[m, self.dim]` as FAISS is given the rows (int64 `[m]`, or a slice of them)."""
        return shortened(self.vectors[self.positions[rows]], self.prefix)

    def whole(self, rows: Int64 | slice) -> Float32:
        """Return float32 `[m, dim]` the rows' whole vectors."""
        return np.ascontiguousarray(self.vectors[self.positions[rows]], np.float32)

    def parts(self) -> Iterator[slice]:
        """Yield all rows in order, a block at a time, so that nobody makes a second copy of the vectors."""
        for start in range(0, len(self), _BLOCK):
            yield slice(start, start + _BLOCK)

    def sample(self, size: int, seed: int) -> Int64:
        """Return int64 `[min(size, count)]` distinct rows, ascending (a mapped file is read in one direction)."""
        rng = np.random.default_rng(seed)
        return np.sort(rng.choice(len(self), min(size, len(self)), replace=False))


def shortened(vectors: Float32, prefix: int | None) -> Float32:
    """Return the first `prefix` dimensions of `vectors` (float32 `[m, dim]`), scaled to the length of the whole.

    So an inner product of prefixes estimates the whole one, as a cosine for vectors of length 1 (Kusupati et al. 2022,
    Matryoshka representation learning) and with its length otherwise.
    """
    if prefix is None:
        return np.ascontiguousarray(vectors, dtype=np.float32)
    head = np.ascontiguousarray(vectors[:, :prefix], dtype=np.float32)
    short = np.linalg.norm(head, axis=1, keepdims=True)
    scaled: Float32 = head * np.divide(
        np.linalg.norm(vectors, axis=1, keepdims=True), short, where=short > 0, out=short
    )
    return scaled


def check_asked(queries: Float32, allowed: Mask | None, dim: int, items: int) -> None:
    """Raise `VectorIndexError` where queries aren't `[q, dim]`, or a mask isn't `[items]`."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise VectorIndexError(f"index: expected queries [q, {dim}], found shape {list(queries.shape)}")
    if allowed is not None and allowed.shape != (items,):
        raise VectorIndexError(f"index: expected a mask [{items}], found shape {list(allowed.shape)}")
