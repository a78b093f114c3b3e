"""ALS and item-kNN: hand-derived scores, folding in, determinism, and what lies outside the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from retrieval.collaborative import (
    Als,
    AlsConfig,
    Collaborative,
    InteractionsError,
    Knn,
    KnnConfig,
    fit_als,
    fit_knn,
)


@pytest.fixture(scope="module")
def counts(world: Any) -> sparse.csr_matrix:
    return world.counts


@pytest.fixture(scope="module")
def model(counts: sparse.csr_matrix) -> Collaborative:
    als, knn = AlsConfig(factors=8, min_users=2, iterations=30), KnnConfig(neighbours=300, min_users=2)
    return Collaborative.of(fit_als(counts, als), fit_knn(counts, knn), als, knn)


def tiny() -> Collaborative:
    # Item 0 resembles 0 (1.0) and 2 (.5); item 1 only itself (2.0); item 2 nothing.
    knn = Knn(
        indptr=np.array([0, 2, 3, 3]),
        indices=np.array([0, 2, 1], np.int32),
        data=np.array([1.0, 0.5, 2.0], np.float32),
    )
    als = Als(users=np.array([[1, 2]], np.float32), items=np.array([[1, 0], [0, 1], [3, -1]], np.float32))
    return Collaborative.of(als, knn, AlsConfig(factors=2, alpha=4, regularization=0.5), KnnConfig())


def test_scores_by_hand() -> None:
    model = tiny()
    # 1*1 + 2*0 = 1; 1*0 + 2*1 = 2; 1*3 + 2*(-1) = 1
    np.testing.assert_allclose(model.als_all(0), [1, 2, 1])
    np.testing.assert_allclose(model.als_scores(0, np.array([2, 1], np.int32)), [1, 2])
    history, weights = np.array([0, 1], np.int32), np.array([2, 0.25], np.float32)
    # item 0: 2*1; item 1: .25*2; item 2: 2*.5
    np.testing.assert_allclose(model.knn_all(history, weights), [2, 0.5, 1])
    np.testing.assert_allclose(model.knn_scores(history, weights, np.array([2, 2, 0], np.int32)), [1, 1, 2])


def test_what_the_fit_never_saw_scores_zero() -> None:
    model = tiny()
    for user in (None, -1, 1, 99):
        np.testing.assert_array_equal(model.als_all(user), np.zeros(3))
    history = np.array([7, 1, -1], np.int32)
    np.testing.assert_allclose(model.knn_all(history, np.ones(3, np.float32)), [0, 2, 0])
    np.testing.assert_array_equal(model.knn_all(history[:0], np.empty(0, np.float32)), np.zeros(3))
    np.testing.assert_array_equal(model.fold_in(history[:1], np.ones(1, np.float32)), np.zeros(2))


def test_fold_in_by_hand() -> None:
    # Y'Y = [[1+9, -3], [-3, 1+1]]; one purchase of item 0, y = (1, 0), weight .5: c - 1 = 4 * .5 = 2, c = 3.
    # (Y'Y + 2 y y' + .5 I) x = 3 y: [[12.5, -3], [-3, 2.5]] x = [3, 0]; det = 31.25 - 9 = 22.25;
    # x = (2.5 * 3, 3 * 3) / 22.25
    found = tiny().fold_in(np.array([0], np.int32), np.array([0.5], np.float32))
    np.testing.assert_allclose(found, [7.5 / 22.25, 9 / 22.25], rtol=1e-5)


def test_fold_in_returns_the_fitted_user(model: Collaborative, counts: sparse.csr_matrix) -> None:
    # After 30 iterations a user's vector solves nearly the same equations that folding in solves.
    for user in range(5):
        row = counts[user]
        folded = model.fold_in(row.indices.astype(np.int32), row.data)
        fitted = model.user_vector(user)
        assert folded @ fitted / np.linalg.norm(folded) / np.linalg.norm(fitted) > 0.99


def test_fits_prefer_the_users_groups(model: Collaborative, counts: sparse.csr_matrix) -> None:
    seen = np.asarray((counts > 0).sum(axis=0)).ravel() >= 2
    for user in range(10):
        row = counts[user]
        liked = np.bincount(row.indices % 6, minlength=6).argsort()[-2:]
        inside = np.isin(np.arange(counts.shape[1]) % 6, liked)
        for scores in (model.als_all(user), model.knn_all(row.indices.astype(np.int32), row.data)):
            assert scores[inside & seen].mean() > 2 * scores[~inside & seen].mean()


def test_fits_are_deterministic(counts: sparse.csr_matrix) -> None:
    config = AlsConfig(factors=8, min_users=2)
    np.testing.assert_array_equal(fit_als(counts, config).items, fit_als(counts, config).items)
    assert not np.array_equal(
        fit_als(counts, config).items, fit_als(counts, config.model_copy(update={"seed": 1})).items
    )
    first, second = (fit_knn(counts, KnnConfig(min_users=2, neighbours=20)) for _ in range(2))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.data, second.data)


def test_cosine_neighbours_are_the_cosines(counts: sparse.csr_matrix) -> None:
    dense = counts.toarray().astype(np.float64)
    users = (dense > 0).sum(axis=0)
    dense[:, users < 3] = 0
    norms = np.linalg.norm(dense, axis=0)
    cosine = dense.T @ dense / np.maximum(norms[:, None] * norms[None], 1e-12)
    knn = fit_knn(counts, KnnConfig(weighting="cosine", neighbours=300, min_users=3))
    found = sparse.csr_array((knn.data, knn.indices, knn.indptr), shape=cosine.shape).toarray()
    np.testing.assert_allclose(found, cosine, atol=1e-5)


@pytest.mark.parametrize("weighting", ["bm25", "cosine", "tfidf"])
def test_neighbours_are_bounded(counts: sparse.csr_matrix, weighting: Any) -> None:
    knn = fit_knn(counts, KnnConfig(weighting=weighting, neighbours=7, min_users=5))
    users = np.asarray((counts > 0).sum(axis=0)).ravel()
    assert np.diff(knn.indptr).max() == 7
    assert not np.diff(knn.indptr)[users < 5].any()
    assert (users[knn.indices] >= 5).all()
    assert np.isfinite(knn.data).all()


def test_rare_items_get_zero_vectors(counts: sparse.csr_matrix) -> None:
    als = fit_als(counts, AlsConfig(factors=4, min_users=5))
    users = np.asarray((counts > 0).sum(axis=0)).ravel()
    assert als.items.dtype == als.users.dtype == np.float32
    np.testing.assert_array_equal(als.items.any(axis=1), users >= 5)


def test_round_trip(model: Collaborative, counts: sparse.csr_matrix, tmp_path: Path) -> None:
    model.save(tmp_path / "cf")
    model.save(tmp_path / "cf")
    loaded = Collaborative.load(tmp_path / "cf")
    row = counts[3]
    assert loaded.meta == model.meta
    np.testing.assert_array_equal(loaded.als_all(3), model.als_all(3))
    np.testing.assert_array_equal(
        loaded.knn_all(row.indices.astype(np.int32), row.data), model.knn_all(row.indices.astype(np.int32), row.data)
    )
    np.save(tmp_path / "cf" / "als_items.npy", model.als.items[:-1])
    with pytest.raises(InteractionsError, match="expected 40 users and 300 items"):
        Collaborative.load(tmp_path / "cf")


def test_mistakes_are_named(counts: sparse.csr_matrix) -> None:
    with pytest.raises(InteractionsError, match="at least 41 users"):
        fit_als(counts, AlsConfig(min_users=41))
    with pytest.raises(InteractionsError, match="finite weights >= 0"):
        fit_knn(-counts, KnnConfig())
    with pytest.raises(InteractionsError, match="found at most 0"):
        fit_als(sparse.csr_matrix((3, 4), dtype=np.float32), AlsConfig())


def test_a_grown_catalogue_scores_old_items_alike_and_new_ones_zero(tmp_path: Path) -> None:
    tiny().grown(5).save(tmp_path / "grown")
    grown = Collaborative.load(tmp_path / "grown")
    np.testing.assert_allclose(grown.als_all(0), [1, 2, 1, 0, 0])
    history, weights = np.array([0, 1, 4], np.int32), np.array([2, 0.25, 9], np.float32)
    np.testing.assert_allclose(grown.knn_all(history, weights), [2, 0.5, 1, 0, 0])
    with pytest.raises(InteractionsError, match="at least 3 items, found 2"):
        tiny().grown(2)
