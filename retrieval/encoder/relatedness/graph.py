"""Prior from a declared knowledge graph: tasks that a short path joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from retrieval.encoder.relatedness.config import Edge
from retrieval.encoder.relatedness.matrix import Relatedness


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """1 / (1 + d), d the length of the shortest path; tasks that no path joins are unrelated.

    Attributes:
        edges: undirected, between tasks or concepts, each pair once.
    """

    edges: Sequence[Edge]

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness; a task without an edge is unknown."""
        nodes = sorted({end for edge in self.edges for end in edge.between})
        place = {node: position for position, node in enumerate(nodes)}
        known = [name for name in names if name in place]
        if not known:
            return Relatedness.among(names, (), np.empty((0, 0)))
        left, right = np.array([[place[end] for end in edge.between] for edge in self.edges]).T
        lengths = np.array([edge.length for edge in self.edges])
        graph = coo_array((lengths, (left, right)), shape=(len(nodes), len(nodes))).tocsr()
        wanted = [place[name] for name in known]
        distance = dijkstra(graph, directed=False, indices=wanted)[:, wanted]
        # Summed from either end, the lengths of one path may differ in their last bit.
        return Relatedness.among(names, known, 1 / (1 + np.minimum(distance, distance.T)))
