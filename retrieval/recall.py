"""What candidates hold of a user's later purchases: each source by itself, and their merge as a request gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import Int32, UserFeatures
from retrieval.engine import Retriever

Float64 = npt.NDArray[np.float64]

MERGED: Final = "merged"
# By who named them (a source, or `MERGED`) and how many were asked for: an answer per user, int32 positions.
Answers = Mapping[tuple[str, int], Sequence[Int32]]


def source_answers(retriever: Retriever, users: Sequence[UserFeatures], ks: Sequence[int]) -> Answers:
    """Return what each of the release's sources names alone and what their merge does, for requests of several sizes.

    Args:
        retriever: of the release.
        users: who ask, with their features.
        ks: how many candidates they ask for.
    """
    found: dict[tuple[str, int], list[Int32]] = {(name, k): [] for name in (*retriever.sources, MERGED) for k in ks}
    for user in users:
        for name in retriever.sources:
            # One source's shorter answer is the head of its longer one; the merge has other quotas for each size.
            longest = retriever.candidates(user, max(ks), sources=[name])
            # What trends stands in for a source that has nothing: that isn't the source's own.
            own = () if "sources_empty" in longest.degraded else longest.candidates.items
            for k in ks:
                found[name, k].append(np.asarray(own[:k], np.int32))
        for k in ks:
            found[MERGED, k].append(retriever.candidates(user, k).candidates.items)
    return found


def recall(answers: Sequence[Int32], relevant: Sequence[Int32]) -> Float64:
    """Return the share of each user's relevant items that the answer names.

    Args:
        answers: per user, distinct item positions.
        relevant: per user, distinct item positions, at least one.

    Returns:
        float64 `[users]`.
    """
    pairs = zip(answers, relevant, strict=True)
    return np.array([np.isin(truth, answer).mean() for answer, truth in pairs], np.float64)
