"""The least effort that reaches the target, stored with what was measured."""

from __future__ import annotations

import pytest

from features.schema import Float32, Int32
from retrieval.index import IndexConfig, VectorIndex, recall_against_exact


def test_probes_reach_the_target(vectors: Float32, positions: Int32) -> None:
    low = VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8", recall_target=0.5))
    high = VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8", recall_target=0.98))
    assert low.meta.probes < high.meta.probes <= high.meta.lists
    assert low.meta.slack < high.meta.slack
    assert high.meta.recall is not None
    assert high.meta.recall >= 0.98
    assert recall_against_exact(high, vectors, vectors[:200], 100) >= 0.97


def test_fixed_efforts_are_kept(vectors: Float32, positions: Int32) -> None:
    probes = VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8", probes=3))
    assert probes.meta.probes == 3
    breadth = VectorIndex.build(vectors, positions, IndexConfig(type="hnsw", ef_search=300, links=8))
    assert breadth.meta.ef_search == 300
    assert probes.meta.recall is not None
    assert probes.meta.recall < 0.99


def test_coarser_codes_take_more_candidates(indices: dict[str, VectorIndex]) -> None:
    widths = {name: index.meta.widen for name, index in indices.items()}
    assert widths["flat"] == widths["flat_fp16"] == 1
    assert 1 <= widths["ivf_sq8"] <= 2
    assert widths["ivf_pq"] >= 2
    assert widths["ivf_sq8_prefix"] >= 2


@pytest.mark.parametrize("name", ["ivf_sq8", "ivf_pq", "hnsw", "ivf_sq8_prefix", "flat_fp16_prefix"])
def test_what_is_stored_was_reached(indices: dict[str, VectorIndex], name: str) -> None:
    meta = indices[name].meta
    assert meta.recall is not None
    assert meta.recall >= 0.985
    assert meta.doubt > 0
    assert (meta.slack > 0) == name.startswith("ivf")


def test_scanned_types_are_not_measured(indices: dict[str, VectorIndex]) -> None:
    assert indices["flat_fp16"].meta.recall is None


def test_the_same_data_give_the_same_index(vectors: Float32, positions: Int32, indices: dict[str, VectorIndex]) -> None:
    assert VectorIndex.build(vectors, positions, IndexConfig(type="ivf_sq8")).meta == indices["ivf_sq8"].meta
