"""The configuration's limits."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from retrieval.sequence.config import SequenceConfig


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="found 3 heads of width 64"):
        SequenceConfig(heads=3)


def test_unknown_keys_fail() -> None:
    with pytest.raises(ValidationError, match="layers"):
        SequenceConfig.model_validate({"layers": 2})
