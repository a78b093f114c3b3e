"""The whole study of how tasks relate: every prior that has a weight, what was measured, the groups that follow."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.encoder.relatedness.config import RelatednessConfig
from retrieval.encoder.relatedness.expert import Expert
from retrieval.encoder.relatedness.graph import KnowledgeGraph
from retrieval.encoder.relatedness.groups import propose_groups
from retrieval.encoder.relatedness.hierarchy import Hierarchy
from retrieval.encoder.relatedness.matrix import Affinity, Prior, combine
from retrieval.encoder.relatedness.report import RelatednessReport


def study(
    names: Sequence[str],
    config: RelatednessConfig,
    *,
    cooccurrence: Prior | None = None,
    topics: Prior | None = None,
    affinity: Affinity | None = None,
) -> RelatednessReport:
    """Combine the priors and propose groups, by affinity where any pair was measured and by the priors elsewhere.

    Args:
        names: the tasks, at least one.
        config: declared priors, weights, choice of groups.
        cooccurrence: the prior from labels, where there are rows to read it from.
        topics: the prior from texts or vectors, likewise.
        affinity: over the same names, if measured.

    Returns:
        The report.

    Raises:
        InvalidInputError: the config names an unknown task.
    """
    config.check(names)
    weighted: list[tuple[Prior, float]] = []
    if cooccurrence is not None:
        weighted.append((cooccurrence, config.cooccurrence.weight))
    if topics is not None:
        weighted.append((topics, config.topics.weight))
    weighted.extend(_declared(config))
    prior = combine(names, [(source.relate(names), weight) for source, weight in weighted])
    measured = affinity is not None and affinity.has_pairs
    groups = propose_groups(affinity if affinity is not None and measured else prior, config.groups)
    return RelatednessReport.of(prior, affinity, groups)


def _declared(config: RelatednessConfig) -> list[tuple[Prior, float]]:
    found: list[tuple[Prior, float]] = []
    if config.hierarchy is not None:
        found.append((Hierarchy(config.hierarchy.paths), config.hierarchy.weight))
    if config.graph is not None:
        found.append((KnowledgeGraph(config.graph.edges), config.graph.weight))
    if config.expert is not None:
        found.append((Expert(config.expert), config.expert.weight))
    return found
