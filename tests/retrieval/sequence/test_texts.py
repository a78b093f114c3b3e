"""Text vectors less their middle."""

from __future__ import annotations

import numpy as np

from retrieval.sequence.texts import TextScale


def test_the_middle_goes_and_the_spread_becomes_one() -> None:
    texts = np.array([[1.0, 10.0], [5.0, 10.0]], np.float32)
    scale = TextScale.of(texts)
    # Means 3 and 10; what is left is -2, 0, 2, 0: deviation sqrt(8 / 4).
    np.testing.assert_allclose(scale.mean, [3, 10])
    assert scale.deviation == np.float32(np.sqrt(2))
    np.testing.assert_allclose(scale.standardised(texts), [[-np.sqrt(2), 0], [np.sqrt(2), 0]], atol=1e-6)


def test_no_texts_have_no_middle() -> None:
    scale = TextScale.of(np.empty((3, 0), np.float32))
    assert (len(scale.mean), scale.deviation) == (0, 1.0)
    assert scale.standardised(np.empty((2, 0), np.float32)).shape == (2, 0)
