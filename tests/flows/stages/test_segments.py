"""What trends by segment is of purchases in the last four weeks before the cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from features.tables import Tables, encode
from features.texts import TextConfig
from features.transforms import FeatureConfig
from flows.stages.data import Data, EligibleConfig
from flows.stages.segments import trending_segments
from infra.errors import InvalidInputError

CUT = datetime(2024, 6, 1, tzinfo=UTC)
# u0 and u1 are young, u2 is old, u3 has no age. Young buyers: b twice, a once; old: c, which is too long ago, and a.
ROWS = [
    ("u0", "b", "purchase", 1), ("u1", "b", "purchase", 28), ("u1", "a", "purchase", 3), ("u1", "a", "purchase", 2),
    ("u2", "c", "purchase", 29), ("u2", "a", "purchase", 5), ("u2", "c", "view", 1), ("u3", "c", "purchase", 0),
]  # fmt: skip


@pytest.fixture
def data() -> Data:
    columns = list(zip(*ROWS, strict=True))
    events = pl.DataFrame(
        {
            "user_id": columns[0],
            "item_id": columns[1],
            "event": columns[2],
            "timestamp": [CUT - timedelta(days=day) for day in columns[3]],
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    tables = Tables(
        items=pl.DataFrame({"item_id": ["a", "b", "c"]}),
        users=pl.DataFrame({"user_id": ["u0", "u1", "u2", "u3"], "age": ["young", "young", "old", None]}),
        events=events,
    )
    return Data(
        tables=tables,
        events=encode(tables),
        features=FeatureConfig(category_column=None),
        texts=TextConfig(),
        eligibility=EligibleConfig(),
    )


def test_each_segment_counts_its_buyers_of_the_window(data: Data) -> None:
    """Sorted, old is segment 0 and young segment 1. Old: a; young: b, then a; c was bought at the cut or too early."""
    found = trending_segments(data, CUT, np.ones(3, bool), "age", 0)
    assert found.of_user.tolist() == [1, 1, 0, -1]
    assert found.items.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert trending_segments(data, CUT, np.array([False, True, True]), "age", 0).items.tolist() == [[1, 2], [1, 2]]


def test_an_unknown_column_is_named(data: Data) -> None:
    with pytest.raises(InvalidInputError, match="table users: unknown column 'ages'; did you mean 'age'"):
        trending_segments(data, CUT, np.ones(3, bool), "ages", 0)
