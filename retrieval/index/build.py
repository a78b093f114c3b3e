"""An index is trained on a sample and filled block by block."""

from __future__ import annotations

from typing import Any, Final

import faiss

from retrieval.index.config import IndexConfig, IndexType
from retrieval.index.errors import VectorIndexError
from retrieval.index.rows import Rows

# The stubs of faiss 1.15 know neither the Python constructors nor the GPU build.
_faiss: Any = faiss

_PER_LIST: Final = 40  # vectors k-means sees a list; FAISS asks for 39
_RANGE_SAMPLE: Final = 65_536  # for the range of each dimension
# Vectors a product quantiser learns from: 64 for each of its 256 centroids.
_PQ_SAMPLE: Final = 16_384
_PQ_ROUNDS: Final = 10


def fill(kind: IndexType, rows: Rows, config: IndexConfig) -> Any:
    """Return a FAISS index of `kind` that holds `rows`.

    Raises:
        VectorIndexError: `code_bytes` doesn't divide the dimensions.
    """
    index = _trained(kind, rows, config)
    for part in rows.parts():
        index.add(rows.take(part))
    return index


def _trained(kind: IndexType, rows: Rows, config: IndexConfig) -> Any:
    """Return an empty index, trained where it needs that."""
    dim, metric = rows.dim, _faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return _faiss.IndexFlatIP(dim)
    if kind == "flat_fp16":
        return _faiss.IndexScalarQuantizer(dim, _faiss.ScalarQuantizer.QT_fp16, metric)
    if kind == "hnsw":
        # Over 8-bit codes, at d=384: half the time to build and to search of fp32 at the same recall once candidates
        # are scored again, and a quarter of the vectors' memory (tests/benchmarks/index.py).
        graph = _faiss.IndexHNSWSQ(dim, _faiss.ScalarQuantizer.QT_8bit, config.links, metric)
        graph.hnsw.efConstruction = config.ef_construction
        graph.train(rows.take(rows.sample(_RANGE_SAMPLE, config.seed)))
        return graph
    lists = config.list_count(len(rows))
    if kind == "ivf_sq8":
        inverted = _faiss.index_factory(dim, f"IVF{lists},SQ8", metric)
        sample = max(_PER_LIST * lists, _RANGE_SAMPLE)
    else:
        inverted = _product_quantised(dim, lists, len(rows), config)
        sample = max(_PER_LIST * lists, _PQ_SAMPLE)
    inverted.cp.seed = config.seed + 1  # zero would mean "from the clock"
    inverted.cp.max_points_per_centroid = max(_PER_LIST, sample // lists)
    inverted.train(rows.take(rows.sample(sample, config.seed)))
    return inverted


def _product_quantised(dim: int, lists: int, count: int, config: IndexConfig) -> Any:
    size = config.pq_bytes(dim)
    if dim % size:
        raise VectorIndexError(f"index: expected code_bytes to divide {dim} dimensions, found {size}")
    # FAISS warns below 39 vectors a centroid: fewer than 10,000 vectors take fewer bits.
    bits = min(8, max(4, (count // 39).bit_length() - 1))
    # "np": without the annealing for Hamming distances, which nothing here uses: it took 110 of 124 s.
    inverted = _faiss.index_factory(dim, f"IVF{lists},PQ{size}x{bits}np", _faiss.METRIC_INNER_PRODUCT)
    inverted.pq.cp.max_points_per_centroid = max(1, _PQ_SAMPLE >> bits)
    inverted.pq.cp.niter = _PQ_ROUNDS
    inverted.pq.cp.seed = config.seed + 1
    return inverted
