"""What `index.json` holds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from retrieval.index.meta import IndexMeta


def test_scanned_types_answer_with_their_own_scores_unless_cut() -> None:
    assert not IndexMeta(type="flat_fp16", dim=8, count=1).rescored
    assert IndexMeta(type="flat_fp16", dim=8, count=1, prefix=4).rescored
    assert IndexMeta(type="ivf_sq8", dim=8, count=1).rescored


def test_it_survives_a_round_trip_and_knows_its_fields() -> None:
    meta = IndexMeta(type="ivf_pq", storage="mapped", dim=8, count=1, slack=3.25, doubt=0.1, recall=0.99)
    assert IndexMeta.model_validate_json(meta.model_dump_json()) == meta
    with pytest.raises(ValidationError, match="speed"):
        IndexMeta.model_validate({**meta.model_dump(), "speed": 1})
