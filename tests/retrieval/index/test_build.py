"""An index holds what it was given, in order, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from features.schema import Float32, Int32
from retrieval.index.build import fill
from retrieval.index.config import IndexConfig
from retrieval.index.faiss_search import find, scan
from retrieval.index.rows import Rows

from .conftest import TYPES


@pytest.mark.parametrize("name", TYPES)
def test_every_row_finds_itself(vectors: Float32, positions: Int32, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.index.rows._BLOCK", 1_000)
    rows = Rows.checked(vectors, positions[:1_500], None)
    config = IndexConfig(type=name, code_bytes=24 if name == "ivf_pq" else None)
    index = fill(config.type, rows, config)  # type: ignore[arg-type]
    assert (index.ntotal, index.d) == (1_500, vectors.shape[1])
    asked = np.arange(0, 1_500, 100)
    _, found = scan(index, name, rows.take(asked), 1, np.ones(1_500, bool))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[:, 0], asked)
    held = np.zeros(1_500, bool)
    held[asked] = True
    _, found = find(index, name, rows.take(asked), 1, 2_000, held)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[:, 0], asked)
