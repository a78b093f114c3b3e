from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from retrieval.encoder.data import CutData, TrainingData, TrainingDataError, cut_data


def test_frames_become_rows_of_the_cuts_users() -> None:
    purchase = pl.DataFrame({"user": [7, 3, 9, 3], "item": [1, 2, 0, 0], "label": [1, 1, 1, 1]})
    churn = pl.DataFrame({"user": [7], "label": [1]})
    cut = cut_data(
        [3, 7], ["a", "b"], pairs={"purchase": purchase}, user_labels={"churn": churn},
        universe={"purchase": np.array([False, True, True])},
    )  # fmt: skip
    # User 9 is not of the cut and item 0 not in the universe: (3, 2) and (7, 1) are left, as rows 0 and 1.
    assert cut.pairs["purchase"].user.tolist() == [0, 1]
    assert cut.pairs["purchase"].item.tolist() == [2, 1]
    assert np.isnan(cut.user_labels["churn"][0])
    assert cut.user_labels["churn"][1] == 1.0


def test_contradictions_are_named(world: TrainingData) -> None:
    with pytest.raises(TrainingDataError, match="popularity: expected 40 values"):
        dataclasses.replace(world, popularity=np.ones(3))
    with pytest.raises(TrainingDataError, match="at least one training cut"):
        dataclasses.replace(world, train=())
    with pytest.raises(TrainingDataError, match="distinct names"):
        dataclasses.replace(world, tasks=world.tasks + world.tasks[:1])
    short: CutData = dataclasses.replace(world.validation, user_texts=["one"])
    with pytest.raises(TrainingDataError, match="cut 2: expected one text for each of 32 users"):
        dataclasses.replace(world, validation=short)
    narrow = dataclasses.replace(world.validation, universe={})
    with pytest.raises(TrainingDataError, match="task retrieval: expected a universe of 40 flags"):
        dataclasses.replace(world, validation=narrow)
