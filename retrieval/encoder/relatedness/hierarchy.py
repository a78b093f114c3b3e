"""Prior from a declared tree: tasks that part late on their way from the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from retrieval.encoder.relatedness.matrix import Relatedness


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Similarity by the depth of the lowest common ancestor (Wu and Palmer, 1994): 2 d(ancestor) / (d(i) + d(j)).

    The depth of a path is its number of names, and the root's is 0: tasks without a common first name are unrelated.

    Attributes:
        paths: task -> names from the root, joined by slashes ("commerce/purchase/repurchase").
    """

    paths: Mapping[str, str]

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness; a task without a path is unknown."""
        known = [name for name in names if name in self.paths]
        routes = [self.paths[name].split("/") for name in known]
        values = [[_similarity(left, right) for right in routes] for left in routes]
        return Relatedness.among(names, known, np.asarray(values).reshape(len(known), len(known)))


def _similarity(left: Sequence[str], right: Sequence[str]) -> float:
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
    return 2 * common / (len(left) + len(right))
