"""A masked search of an inverted file looks into lists until none can hold a better answer."""

from __future__ import annotations

import numpy as np

from features.schema import Float32, Int32
from retrieval.index import VectorIndex
from retrieval.index.build import fill
from retrieval.index.config import IndexConfig
from retrieval.index.faiss_search import selector
from retrieval.index.lists import Lists
from retrieval.index.rows import Rows

from .conftest import brute_force


def test_figures_describe_the_lists(indices: dict[str, VectorIndex], vectors: Float32) -> None:
    index = indices["ivf_sq8"]
    lists = index.lists
    assert lists is not None
    members = [lists.members(number) for number in range(len(lists.centroids))]
    np.testing.assert_array_equal(np.sort(np.concatenate(members)), np.arange(len(index)))
    # The mean inner product with a centroid of length 1 is the length of the mean along it; a sample of 64 or more.
    largest = max(range(len(members)), key=lambda number: len(members[number]))
    held = vectors[index.positions[members[largest]]]
    np.testing.assert_allclose(lists.scale[largest], (held @ lists.centroids[largest]).mean(), atol=0.03)
    off = held - lists.scale[largest] * lists.centroids[largest]
    np.testing.assert_allclose(lists.spread[largest], np.sqrt((off**2).mean()), rtol=0.15)
    np.testing.assert_array_equal(Lists.of(index.cpu, lists.figures).spread, lists.spread)


def test_without_slack_bounds_end_the_search_early_and_with_much_it_sees_all(
    indices: dict[str, VectorIndex], vectors: Float32, positions: Int32
) -> None:
    index = indices["ivf_sq8"]
    assert index.lists is not None
    held = np.ones(len(index), bool)
    exact = set(np.searchsorted(positions, brute_force(vectors, positions, vectors[3], 100)).tolist())
    found = {}
    for slack in (-100.0, 100.0):
        scores, rows = index.lists.search(vectors[3], 100, 150, slack, selector(held), 1.0)
        assert np.all(np.diff(scores) <= 0)
        found[slack] = len(exact & set(rows.tolist()))
    assert found[-100.0] < 95
    assert found[100.0] == 100


def test_fewer_allowed_than_kept(indices: dict[str, VectorIndex], vectors: Float32) -> None:
    index = indices["ivf_pq"]
    assert index.lists is not None
    held = np.zeros(len(index), bool)
    held[[10, 2_000, 4_000]] = True
    _, rows = index.lists.search(vectors[3], 3, 8, 5.0, selector(held), 3 / len(index))
    assert sorted(rows.tolist()) == [-1, -1, -1, -1, -1, 10, 2_000, 4_000]


def test_empty_lists_have_no_say(vectors: Float32) -> None:
    """Nine distinct vectors in seven lists, one of them 292 times."""
    copies = np.repeat(vectors[:1], 300, axis=0)
    copies[:8] = vectors[1:9]
    rows = Rows.checked(copies, np.arange(300, dtype=np.int32), None)
    lists = Lists.measure(fill("ivf_sq8", rows, IndexConfig(lists=7)), rows)
    assert np.isfinite(lists.figures).all()
    assert (lists.spread > 0).all()
