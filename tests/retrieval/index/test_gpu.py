"""A GPU is used where this FAISS has one and the type has a form for it."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from features.schema import Float32
from retrieval.index import IndexConfig, VectorIndex
from retrieval.index.gpu import GpuIndex

GPUS = getattr(faiss, "get_num_gpus", int)()


def test_never_means_never_and_a_graph_has_none(indices: dict[str, VectorIndex]) -> None:
    assert GpuIndex.of(indices["flat"].cpu, indices["flat"].meta, IndexConfig(gpu="never")) is None
    assert GpuIndex.of(indices["hnsw"].cpu, indices["hnsw"].meta, IndexConfig()) is None
    assert (indices["flat"].gpu is None) == (GPUS == 0)


def test_its_limits_are_faiss_own(indices: dict[str, VectorIndex]) -> None:
    found = GpuIndex(index=indices["ivf_sq8"].cpu, inverted=True)
    assert found.takes(2_048, 2_048)
    assert not found.takes(2_049, 1)
    assert not found.takes(1, 2_049)


def test_searches_take_turns_with_their_own_probes(indices: dict[str, VectorIndex], vectors: Float32) -> None:
    """Through the same calls the CPU's index has, which is all that a GPU's copy differs in."""
    found = GpuIndex(index=indices["ivf_sq8"].cpu, inverted=True)
    _, few = found.find(vectors[:20], 500, 1)
    _, many = found.find(vectors[:20], 500, 40)
    assert (few < 0).sum() > (many < 0).sum() == 0


@pytest.mark.skipif(GPUS == 0, reason="needs a GPU and its FAISS")
@pytest.mark.parametrize("name", ["flat", "flat_fp16", "ivf_sq8", "ivf_pq"])
def test_the_gpu_finds_what_the_cpu_does(indices: dict[str, VectorIndex], vectors: Float32, name: str) -> None:
    index = indices[name]
    found, _ = index.search(vectors[:50], 20)
    alone, _ = VectorIndex(
        meta=index.meta, positions=index.positions, vectors=vectors, cpu=index.cpu, lists=index.lists
    ).search(vectors[:50], 20)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found, alone, strict=True)]) > 0.98
