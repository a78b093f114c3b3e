"""Named properties of every prior, and what tests read a matrix with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from retrieval.encoder.relatedness.matrix import Relatedness

Check = Callable[[Relatedness], None]


def _assert_relatedness(found: Relatedness) -> None:
    """Symmetric, 1 on the diagonal, elsewhere in [0, 1] or unknown."""
    size = len(found.names)
    assert found.matrix.shape == (size, size)
    assert found.matrix.dtype == np.float64
    assert np.array_equal(found.matrix, found.matrix.T, equal_nan=True)
    assert np.array_equal(np.diagonal(found.matrix), np.ones(size))
    known = found.matrix[~np.isnan(found.matrix)]
    assert ((known >= 0) & (known <= 1)).all()


@pytest.fixture(scope="session")
def assert_relatedness() -> Check:
    return _assert_relatedness
