"""Proposed groups: tasks clustered by how related they are, or by what they were measured to do to each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import silhouette_score

from retrieval.encoder.relatedness.config import GroupConfig
from retrieval.encoder.relatedness.matrix import Affinity, Float64, Int64, Relatedness
from retrieval.encoder.relatedness.report import ProposedGroups, TaskGroup

Bool = npt.NDArray[np.bool_]


def propose_groups(evidence: Relatedness | Affinity, config: GroupConfig) -> ProposedGroups:
    """Cluster tasks by average linkage on 1 - similarity, and choose where to cut the tree.

    An affinity's similarity is the mean of its two directions, or the one that is known. Pairs that nothing is known of
    count as 0: unrelated, or without effect on each other.

    Args:
        evidence: on at least one task.
        config: how the number of groups is chosen.

    Returns:
        The groups; a tie of silhouettes gives the fewest.
    """
    similarity = _similarity(evidence.matrix)
    distance = 1 - np.nan_to_num(similarity)
    np.fill_diagonal(distance, 0.0)
    cuts = _cuts(distance)
    most = config.max_groups or len(evidence.names)
    affordable = [(height, labels) for height, labels in cuts if labels.max() <= most]
    allowed = [labels for height, labels in affordable if height <= 1 - config.limit] or [affordable[-1][1]]
    chosen = allowed[0] if config.choice == "limit" else max(allowed, key=lambda labels: _silhouette(distance, labels))
    firsts = {label: position for position, label in reversed(list(enumerate(chosen.tolist())))}
    return ProposedGroups(
        basis="affinity" if isinstance(evidence, Affinity) else "prior",
        groups=tuple(
            _group(evidence.names, similarity, chosen == label) for label in sorted(firsts, key=firsts.__getitem__)
        ),
        silhouette=_silhouette(distance, chosen),
    )


def _similarity(matrix: Float64) -> Float64:
    """Return the mean of both directions `[T, T]`, with NaN on the diagonal and where neither is known."""
    there, back = np.isnan(matrix), np.isnan(matrix.T)
    similarity = np.where(there, matrix.T, np.where(back, matrix, (matrix + matrix.T) / 2))
    np.fill_diagonal(similarity, np.nan)
    return similarity


def _cuts(distance: Float64) -> list[tuple[float, Int64]]:
    """Return the height and the labels `[T]` (from 1) of every cut, from one group to each task by itself."""
    apart = (0.0, np.arange(1, len(distance) + 1))
    if len(distance) == 1:
        return [apart]
    tree = linkage(squareform(distance), method="average")
    heights = np.unique(tree[:, 2])[::-1].tolist()
    return [*((height, fcluster(tree, height, criterion="distance").astype(np.int64)) for height in heights), apart]


def _silhouette(distance: Float64, labels: Int64) -> float:
    """Return the mean silhouette (Rousseeuw, 1987), 0 where all tasks or none share a group."""
    if labels.max() in (1, len(labels)):
        return 0.0
    return float(silhouette_score(distance, labels, metric="precomputed"))


def _group(names: tuple[str, ...], similarity: Float64, member: Bool) -> TaskGroup:
    return TaskGroup(
        tasks=tuple(name for name, inside in zip(names, member, strict=True) if inside),
        within=_mean(similarity[np.ix_(member, member)]),
        between=_mean(similarity[np.ix_(member, ~member)]),
    )


def _mean(values: Float64) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
