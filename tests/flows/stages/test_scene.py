"""A scene without events: items as they are, under whatever names their columns have."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from features.tables import Tables, encode
from features.texts import TextConfig
from features.transforms import FeatureConfig
from flows.stages.collaborative import CollaborativeConfig
from flows.stages.data import Data, EligibleConfig
from flows.stages.scene import SceneConfig, SceneParts, build_scene
from retrieval.catalogue import CatalogueConfig
from retrieval.contract import Limits
from retrieval.engine import RetrievalConfig, Retriever
from retrieval.index import IndexConfig
from retrieval.layout import ITEM_VECTORS

CUT = datetime(2024, 1, 1, tzinfo=UTC)


def test_every_column_of_the_items_may_be_filtered_by(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["tea", None, "milk"],
            # Called as columns of the snapshot's own, and as a statistic, which a filter means before the column.
            "category_code": ["x", "y", None],
            "eligible": ["perhaps", "no", "yes"],
            "purchases": [7, 8, 9],
        }
    )
    tables = Tables(items=items)
    data = Data(
        tables=tables,
        events=encode(tables),
        features=FeatureConfig(),
        texts=TextConfig(),
        eligibility=EligibleConfig(items='eligible != "no"'),
    )
    (tmp_path / "vectors" / "vectors").mkdir(parents=True)
    np.save(tmp_path / "vectors" / ITEM_VECTORS, np.eye(3, dtype=np.float32))
    out = tmp_path / "scene"
    out.mkdir()
    config = SceneConfig(
        owner="shop",
        collaborative=CollaborativeConfig(),
        index=IndexConfig(),
        retrieval=RetrievalConfig(),
        catalogue=data.catalogue_config(5),
    )
    build_scene(out, data, CUT, SceneParts(item_vectors=tmp_path / "vectors", events=None), config)
    retriever = Retriever.load(out)
    snapshot = retriever.snapshot
    assert snapshot.attributes.to_dict(as_series=False) == items.drop("item_id", "purchases").to_dict(as_series=False)
    # What people are shown of an item without a title is its id.
    assert snapshot.titles == ["tea", "b", "milk"]
    assert snapshot.eligible.tolist() == [True, False, True]
    assert snapshot.category_codes.tolist() == [-1, -1, -1]

    def named(filter_: str) -> list[int]:
        return sorted(retriever.nearest(np.ones(3, np.float32), 3, Limits(filter=filter_)).items.tolist())

    assert named('title == "milk"') == [2]
    assert named("category_code is missing") == [2]
    assert named('eligible == "perhaps"') == [0]
    assert named("purchases is missing") == [0, 2]
    expected = CatalogueConfig(texts=TextConfig(), eligible_items='eligible != "no"', item_sequence=5)
    assert CatalogueConfig.load(out) == expected
