"""The same index on a GPU, where this FAISS has one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Final

import faiss
import structlog

from features.schema import Float32
from retrieval.index.config import IndexConfig
from retrieval.index.meta import INVERTED, IndexMeta
from retrieval.index.rows import Int64

log = structlog.get_logger(__name__)
_faiss: Any = faiss

_MOST: Final = 2_048  # results and probes of one search on a GPU (FAISS's own limit)


@dataclass(kw_only=True, eq=False)
class GpuIndex:
    """A copy of a FAISS index on the first GPU, for searches without a mask: its IVF-PQ takes no selector."""

    index: Any
    inverted: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, cpu: Any, meta: IndexMeta, config: IndexConfig) -> GpuIndex | None:
        """Return a copy of `cpu`, or None where there is no GPU, or the type has no form for it (HNSW)."""
        if config.gpu == "never" or meta.type == "hnsw" or getattr(_faiss, "get_num_gpus", int)() == 0:
            return None
        options = _faiss.GpuClonerOptions()
        options.useFloat16 = meta.type == "ivf_pq"  # its lookup tables outgrow a block's memory beyond 48 bytes
        copy = _faiss.index_cpu_to_gpu(_faiss.StandardGpuResources(), 0, cpu, options)
        log.info("index_on_gpu", type=meta.type, count=meta.count)
        return cls(index=copy, inverted=meta.type in INVERTED)

    def takes(self, k: int, effort: int) -> bool:
        """Whether `k` results and `effort` probes are within its limits."""
        return k <= _MOST and effort <= _MOST

    def find(self, queries: Float32, k: int, effort: int) -> tuple[Float32, Int64]:
        """Return scores float32 and rows int64 `[q, k]`, as `faiss_search.find` does."""
        with self._lock:  # scratch memory and the number of probes are the index's own
            if self.inverted:
                self.index.nprobe = effort
            return self.index.search(queries, k)  # type: ignore[no-any-return]
