"""The learnt merge of a scene: fitted on who bought what in its window, and used by whoever loads it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.tables import Tables, encode
from features.texts import TextConfig
from features.transforms import FeatureConfig
from flows.stages.data import Data, EligibleConfig
from flows.stages.merge import fit_merge
from flows.stages.rank import Scene
from retrieval.engine import Retriever
from retrieval.learnt_merge import LearntMerge, MergeConfig, MergeRowsError
from tests.flows.stages.small_scene import CUT, user, write_scene

WEEK = timedelta(days=7)


def bought(*rows: tuple[str, str, float]) -> Data:
    """Purchases of (user, item, days after the cut)."""
    times = [CUT + timedelta(days=day) for _, _, day in rows]
    events = pl.DataFrame(
        {"user_id": [row[0] for row in rows], "item_id": [row[1] for row in rows], "timestamp": times},
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    ).with_columns(event=pl.lit("purchase"))
    tables = Tables(
        items=pl.DataFrame({"item_id": list("abcde")}), users=pl.DataFrame({"user_id": ["one", "two"]}), events=events
    )
    return Data(
        tables=tables,
        events=encode(tables),
        features=FeatureConfig(category_column=None),
        texts=TextConfig(),
        eligibility=EligibleConfig(),
    )


BEFORE = (("one", "a", -2.0), ("one", "b", -1.0), ("two", "b", -2.0), ("two", "c", -1.0))


def scene(folder: Path) -> Scene:
    return Scene(cut=CUT, folder=folder, users=[user("one", [1, 0]), user("two", [2, 1])])


def test_the_merge_learns_what_was_bought_of_the_lists(tmp_path: Path) -> None:
    """Both users buy d, which none has, and only d: the fourth of what trends, and never repeated."""
    folder = write_scene(tmp_path / "scene")
    out = tmp_path / "merge"
    out.mkdir()
    data = bought(*BEFORE, ("one", "d", 1.0), ("two", "d", 6.9), ("two", "a", 7.0))
    fit_merge(data, scene(folder), WEEK, MergeConfig(min_data_in_leaf=1, rounds=10), out)
    plain, learnt = Retriever.load(folder), Retriever.load(folder, merge=out)
    assert (plain.merge, type(learnt.merge)) == (None, LearntMerge)
    for who in scene(folder).users:
        assert learnt.candidates(who, 5).candidates.items[0] == 3
        assert plain.candidates(who, 5).candidates.items[0] != 3
        np.testing.assert_array_equal(np.sort(learnt.candidates(who, 5).candidates.items), np.arange(5))


def test_nobody_to_learn_from_is_an_error_that_tells_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(MergeRowsError, match=r"window after 2024-06-01.*candidates\.merge: null"):
        fit_merge(bought(*BEFORE), scene(write_scene(tmp_path)), WEEK, MergeConfig(), tmp_path)
