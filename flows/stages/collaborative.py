"""Collaborative filtering as of a cut: the interaction matrices and the fit."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from features.schema import ITEM, USER
from features.transforms import FeatureConfig, as_of
from retrieval.collaborative import AlsConfig, Collaborative, KnnConfig, fit_als, fit_knn
from retrieval.layout import COLLABORATIVE_DIR

_DECAYED: Final = "decayed_90"
_COUNT: Final = "count"


class CollaborativeConfig(BaseModel):
    """Both collaborative models.

    Attributes:
        als: matrix factorisation, on purchases that fade over 90 days.
        knn: item neighbours, on counts of purchases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    als: AlsConfig = AlsConfig()
    knn: KnnConfig = KnnConfig()


def fit_collaborative(
    events: pl.DataFrame,
    cut: datetime,
    eligible: npt.NDArray[np.bool_],
    n_users: int,
    features: FeatureConfig,
    config: CollaborativeConfig,
    out: Path,
) -> None:
    """Fit both models on purchases of eligible items before the cut, and write them below `out`.

    Args:
        events: encoded events.
        cut: only events strictly before it count.
        eligible: bool `[n_items]`.
        n_users: rows of the users table.
        features: names of the events.
        config: both models.
        out: a scene's folder.
    """
    pairs = as_of(events, cut, features).pairs.filter(pl.lit(pl.Series(eligible)).gather(pl.col(ITEM)))
    place = (pairs[USER].to_numpy(), pairs[ITEM].to_numpy())
    shape = (n_users, len(eligible))

    def matrix(column: str) -> sparse.csr_matrix:
        return sparse.csr_matrix((pairs[column].cast(pl.Float32).to_numpy(), place), shape=shape)

    als = fit_als(matrix(_DECAYED), config.als)
    knn = fit_knn(matrix(_COUNT), config.knn)
    Collaborative.of(als, knn, config.als, config.knn).save(out / COLLABORATIVE_DIR)
