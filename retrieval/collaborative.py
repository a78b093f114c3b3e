"""Collaborative filtering: implicit ALS and item-kNN, fitted by `implicit`, scored by numpy.

ALS minimises sum c_ui (p_ui - x_u y_i)^2 + reg (|x|^2 + |y|^2) with c_ui = 1 + alpha w_ui (Hu, Koren, Volinsky 2008);
`implicit` reads a matrix of c, so a bare weight below 1 would count as *less* than no purchase. Item-kNN sums, over the
user's history j, w_uj * similarity(j, i), with similarities of BM25-, TF-IDF- or length-normalised columns.

Chosen on Complete Journey at the cut 2017-10-09, 28 days, 22,265 items, a quarter of the households (NDCG@10 over all
items / over never-bought-before ones):
ALS on 90-day decayed weights, 64 factors, alpha 2 .2054 / .0422 in 4 s on two busy cores; 128 factors .1961 / .0408 in
10 s; alpha 1 .2010 / .0396, alpha 10 .1591 / .0356; on counts .1860 / .0367.
BM25 kNN (K=200, k1 1.2, b .75) fitted on purchase counts, history weighted by its 90-day decay .2860 / .0353 in 7 s;
history weighted by counts .2725 / .0324; fitted on decayed weights .2590 / .0171; cosine on counts .2442 / .0404.
Peak memory of both fits stays below 0.5 GB.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from features.schema import Float32, Int32
from infra.errors import InvalidInputError
from infra.files import atomic_directory
from retrieval.layout import ALS_ITEMS, ALS_USERS, COLLABORATIVE_META, KNN_DATA, KNN_INDICES, KNN_INDPTR

log = structlog.get_logger(__name__)

Interactions = sparse.csr_matrix

# Both fits use this many threads: every row is solved by one thread, so the result doesn't depend on it.
_THREADS: Final = 2


class InteractionsError(InvalidInputError):
    """The interaction matrix isn't one that can be fitted."""


class AlsConfig(BaseModel):
    """How ALS is fitted.

    Attributes:
        factors: length of a user's and an item's vector.
        iterations: passes over users and items.
        regularization: weight of the squared norms.
        alpha: confidence per unit of weight.
        min_users: an item that fewer users touched keeps a zero vector and costs nothing.
        seed: of the initial vectors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: int = Field(64, ge=1)
    iterations: int = Field(10, ge=1)
    regularization: float = Field(1.0, ge=0)
    alpha: float = Field(2.0, gt=0)
    min_users: int = Field(5, ge=1)
    seed: int = 0


class KnnConfig(BaseModel):
    """How item-kNN is fitted.

    Attributes:
        weighting: of the matrix before the product of its columns.
        neighbours: kept per item, the item itself among them.
        k1: BM25: how slowly repeated purchases saturate.
        b: BM25: how far an item's popularity is normalised away.
        min_users: an item that fewer users touched has no neighbours and is nobody's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weighting: Literal["bm25", "cosine", "tfidf"] = "bm25"
    neighbours: int = Field(200, ge=1)
    k1: float = Field(1.2, gt=0)
    b: float = Field(0.75, ge=0, le=1)
    min_users: int = Field(5, ge=1)


class CollaborativeMeta(BaseModel):
    """What `meta.json` says: sizes, and what folding in a user needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    users: int
    items: int
    als: AlsConfig
    knn: KnnConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Als:
    """Fitted vectors: float32 `[n_users, factors]` and `[n_items, factors]`, zero for what was never seen."""

    users: Float32
    items: Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class Knn:
    """CSR rows of neighbours: indptr int64 `[n_items + 1]`, indices int32 and data float32 `[entries]`."""

    indptr: npt.NDArray[np.int64]
    indices: Int32
    data: Float32


def fit_als(interactions: Interactions, config: AlsConfig) -> Als:
    """Fit ALS.

    Args:
        interactions: CSR float32 `[n_users, n_items]`, weights >= 0; 90-day decayed purchase counts did best.
        config: see there.

    Raises:
        InteractionsError: no item has enough users, or a weight is negative or not finite.
    """
    # Fitting only: serving installs neither.
    from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415

    columns, active = _active(interactions, config.min_users)
    confidence = active.copy()
    confidence.data = 1 + np.float32(config.alpha) * confidence.data
    # implicit runs its own threads over rows and warns unless the BLAS below it keeps to one.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=config.factors,
            iterations=config.iterations,
            regularization=config.regularization,
            num_threads=_THREADS,
            random_state=config.seed,
        )
        model.fit(confidence, show_progress=False)
    items = np.zeros((interactions.shape[1], config.factors), np.float32)
    items[columns] = model.item_factors
    users = np.asarray(model.user_factors, np.float32)
    users[np.diff(active.indptr) == 0] = 0
    log.info("als_fitted", users=len(users), items=len(columns), entries=active.nnz, factors=config.factors)
    return Als(users=users, items=items)


def fit_knn(interactions: Interactions, config: KnnConfig) -> Knn:
    """Fit item-kNN.

    Args:
        interactions: CSR float32 `[n_users, n_items]`, weights >= 0; plain purchase counts did best.
        config: see there.

    Raises:
        InteractionsError: no item has enough users, or a weight is negative or not finite.
    """
    from implicit import nearest_neighbours as nn  # noqa: PLC0415 - fitting only; serving doesn't install it

    columns, active = _active(interactions, config.min_users)
    if config.weighting == "bm25":
        weighted = nn.bm25_weight(active.T, config.k1, config.b).T
    else:
        weighted = nn.normalize(active.T if config.weighting == "cosine" else nn.tfidf_weight(active.T)).T
    model = nn.ItemItemRecommender(K=config.neighbours, num_threads=_THREADS)
    model.fit(sparse.csr_matrix(weighted), show_progress=False)
    similarity = model.similarity
    similarity.sort_indices()
    lengths = np.zeros(interactions.shape[1], np.int64)
    lengths[columns] = np.diff(similarity.indptr)
    log.info("knn_fitted", items=len(columns), entries=similarity.nnz, weighting=config.weighting)
    return Knn(
        indptr=np.concatenate([[0], np.cumsum(lengths)]),
        indices=columns[similarity.indices].astype(np.int32),
        data=similarity.data.astype(np.float32),
    )


def _active(interactions: Interactions, min_users: int) -> tuple[npt.NDArray[np.int64], Interactions]:
    """Return the positions of items with at least `min_users` users, and CSR float32 `[n_users, active]`."""
    if not np.all(np.isfinite(interactions.data)) or np.any(interactions.data < 0):
        raise InteractionsError("interactions: expected finite weights >= 0, found others")
    matrix = sparse.csr_matrix(interactions, dtype=np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    users = np.bincount(matrix.indices, minlength=matrix.shape[1])
    columns = np.flatnonzero(users >= min_users)
    if not len(columns):
        raise InteractionsError(
            f"interactions [{matrix.shape[0]}, {matrix.shape[1]}]: expected an item with at least {min_users} users, "
            f"found at most {users.max(initial=0)}"
        )
    return columns, sparse.csr_matrix(matrix[:, columns])


@dataclass(frozen=True, kw_only=True, eq=False)
class Collaborative:
    """ALS and item-kNN of one release. A user or item that it never saw scores zero."""

    meta: CollaborativeMeta
    als: Als
    knn: Knn

    @classmethod
    def of(cls, als: Als, knn: Knn, als_config: AlsConfig, knn_config: KnnConfig) -> Self:
        """Join what the two fits returned."""
        if len(als.items) != len(knn.indptr) - 1:
            raise InteractionsError(f"ALS holds {len(als.items)} items, item-kNN {len(knn.indptr) - 1}")
        meta = CollaborativeMeta(users=len(als.users), items=len(als.items), als=als_config, knn=knn_config)
        return cls(meta=meta, als=als, knn=knn)

    def user_vector(self, user: int | None) -> Float32:
        """Return float32 `[factors]` of the user at position `user`; zeros for None or one newer than the fit."""
        if user is None or not 0 <= user < self.meta.users:
            return np.zeros(self.meta.als.factors, np.float32)
        vector: Float32 = self.als.users[user]
        return vector

    def fold_in(self, items: Int32, weights: Float32) -> Float32:
        """Return float32 `[factors]`: the ALS vector of a user with this history, items held fixed.

        Solves (Y'Y + Y'(C - I)Y + reg I) x = Y'C p (Hu, Koren, Volinsky 2008, eq. 4) over the history's rows of Y.

        Args:
            items: int32 `[n]` positions.
            weights: float32 `[n]`, as in the matrix that ALS was fitted on.
        """
        items, weights = self._known(items, weights)
        if not len(items):
            return np.zeros(self.meta.als.factors, np.float32)
        rows = self.als.items[items]
        extra = self.meta.als.alpha * weights
        system = self._gram + (rows * extra[:, None]).T @ rows
        solved: Float32 = np.linalg.solve(system, rows.T @ (1 + extra)).astype(np.float32)
        return solved

    @cached_property
    def _gram(self) -> Float32:
        gram = self.als.items.T @ self.als.items
        regularised: Float32 = gram + np.float32(self.meta.als.regularization) * np.eye(len(gram), dtype=np.float32)
        return regularised

    def als_scores(self, user: int | None, items: Int32) -> Float32:
        """Return float32 `[n]` ALS scores of `items` (int32 `[n]`) for the user at position `user`."""
        known = items < self.meta.items
        if known.all():
            return self.als.items[items] @ self.user_vector(user)
        scores = np.zeros(len(items), np.float32)
        scores[known] = self.als_scores(user, items[known])
        return scores

    def als_all(self, user: int | None) -> Float32:
        """Return float32 `[n_items]` ALS scores of every item."""
        return self.als.items @ self.user_vector(user)

    def knn_scores(self, history_items: Int32, weights: Float32, items: Int32) -> Float32:
        """Return float32 `[n]` kNN scores of `items` (int32 `[n]`); see `knn_all`."""
        every = self.knn_all(history_items, weights)
        return np.where(items < len(every), every[np.minimum(items, len(every) - 1)], np.float32(0))

    def knn_all(self, history_items: Int32, weights: Float32) -> Float32:
        """Return float32 `[n_items]`: sum over the history of weight * similarity.

        Args:
            history_items: int32 `[h]` positions; one newer than the fit counts for nothing.
            weights: float32 `[h]`, such as the 90-day decayed counts.
        """
        history_items, weights = self._known(history_items, weights)
        scores: Float32 = self._similarity[history_items].T @ weights.astype(np.float32, copy=False)
        return scores

    @cached_property
    def _similarity(self) -> sparse.csr_array:
        """The kNN rows as one matrix over the same memory: 300 rows of 200 gather and sum in 0.4 ms."""
        shape = (self.meta.items, self.meta.items)
        return sparse.csr_array((self.knn.data, self.knn.indices, self.knn.indptr), shape=shape)

    def _known(self, items: Int32, weights: Float32) -> tuple[Int32, Float32]:
        """Drop history of items that came after the fit: the online store may be newer than the release."""
        known = (items >= 0) & (items < self.meta.items)
        return (items, weights) if known.all() else (items[known], weights[known])

    def grown(self, items: int) -> Self:
        """Return the same models over a catalogue of `items` items: the appended ones have no vector and no neighbour.

        Raises:
            InteractionsError: the catalogue is smaller than the one fitted on.
        """
        new = items - self.meta.items
        if new < 0:
            raise InteractionsError(f"expected a catalogue of at least {self.meta.items} items, found {items}")
        return type(self)(
            meta=self.meta.model_copy(update={"items": items}),
            als=Als(users=self.als.users, items=np.pad(self.als.items, ((0, new), (0, 0)))),
            knn=Knn(indptr=np.pad(self.knn.indptr, (0, new), "edge"), indices=self.knn.indices, data=self.knn.data),
        )

    def save(self, directory: Path) -> None:
        """Write the arrays and `meta.json` into `directory`, atomically."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            ALS_USERS: self.als.users,
            ALS_ITEMS: self.als.items,
            KNN_INDPTR: self.knn.indptr,
            KNN_INDICES: self.knn.indices,
            KNN_DATA: self.knn.data,
        }
        with atomic_directory(directory, replace=True) as folder:
            for name, array in arrays.items():
                np.save(folder / name, array)
            (folder / COLLABORATIVE_META).write_text(self.meta.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote, memory-mapped: processes on one machine share the pages.

        Raises:
            InteractionsError: the arrays are not of the sizes that `meta.json` names.
        """
        meta = CollaborativeMeta.model_validate_json((directory / COLLABORATIVE_META).read_text(encoding="utf-8"))
        users, items, indptr, indices, data = (
            np.asarray(np.load(directory / name, mmap_mode="r", allow_pickle=False))
            for name in (ALS_USERS, ALS_ITEMS, KNN_INDPTR, KNN_INDICES, KNN_DATA)
        )
        found = (len(users), len(items), len(indptr) - 1)
        if found != (meta.users, meta.items, meta.items):
            raise InteractionsError(f"{directory}: expected {meta.users} users and {meta.items} items, found {found}")
        return cls(meta=meta, als=Als(users=users, items=items), knn=Knn(indptr=indptr, indices=indices, data=data))
