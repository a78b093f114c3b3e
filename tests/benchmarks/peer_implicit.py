"""Fit a model of implicit and list each user's best items, those of the history removed; see peers.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from peer_lists import LISTED, Asked, Clock, write

SEED = 0
MODELS: Mapping[str, Callable[..., Any]] = {
    "als": lambda **settings: AlternatingLeastSquares(**settings, random_state=SEED),
    "bpr": lambda **settings: BayesianPersonalizedRanking(**settings, random_state=SEED),
    "cosine": CosineRecommender,
    "bm25": BM25Recommender,
}


def main() -> None:
    asked = Asked.of_arguments()
    met = asked.matrix()
    clock = Clock()
    model = MODELS[asked.model](**asked.settings, num_threads=int(os.environ["OMP_NUM_THREADS"]))
    model.fit(met, show_progress=False)
    seconds = clock.seconds()
    items, scores = model.recommend(np.arange(asked.n_users), met, N=LISTED)
    users = np.repeat(np.arange(asked.n_users), items.shape[1])
    # Short lists are filled with item -1, or with items of the history at the lowest score that there is.
    listed = (items.ravel() >= 0) & (scores.ravel() > np.finfo(np.float32).min)
    write(asked, users[listed], items.ravel()[listed], scores.ravel()[listed], seconds)


if __name__ == "__main__":
    main()
