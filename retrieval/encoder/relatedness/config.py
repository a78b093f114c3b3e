"""What a workspace declares of how its tasks relate, and how far each source of it is trusted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.errors import InvalidInputError, unknown_name

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CooccurrenceConfig(_Part):
    """Lift of labels on shared rows.

    Attributes:
        weight: in the priors' mean; 0 leaves the prior out.
        min_rows: shared rows below which a pair is unknown.
    """

    weight: Weight = 1.0
    min_rows: int = Field(100, ge=1)


class TopicConfig(_Part):
    """Cosine of what the tasks' positive rows speak of.

    Attributes:
        weight: in the priors' mean; 0 leaves the prior out.
    """

    weight: Weight = 1.0


class HierarchyConfig(_Part):
    """A tree of tasks.

    Attributes:
        weight: in the priors' mean.
        paths: task -> names from the root, joined by slashes ("commerce/purchase/repurchase").
    """

    weight: Weight = 1.0
    paths: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _named(self) -> Self:
        for task, path in self.paths.items():
            if not all(path.split("/")):
                raise ValueError(f"path of {task}: expected names joined by single slashes, found {path!r}")
        return self


class Edge(_Part):
    """An undirected edge.

    Attributes:
        between: its two ends, tasks or concepts.
        length: the further, the less related.
    """

    between: tuple[str, str]
    length: float = Field(1.0, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _two_ends(self) -> Self:
        if self.between[0] == self.between[1]:
            raise ValueError(f"expected an edge between two different names, found {self.between[0]!r} twice")
        return self


class GraphConfig(_Part):
    """A knowledge graph.

    Attributes:
        weight: in the priors' mean.
        edges: each pair once.
        concepts: ends of edges that are no tasks; declared, so that a mistyped task isn't taken for one.
    """

    weight: Weight = 1.0
    edges: tuple[Edge, ...] = Field(min_length=1)
    concepts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen: set[frozenset[str]] = set()
        for edge in self.edges:
            if frozenset(edge.between) in seen:
                raise ValueError(f"expected each edge once, found {' - '.join(edge.between)} again")
            seen.add(frozenset(edge.between))
        return self


class ExpertConfig(_Part):
    """Relatedness as somebody who knows the product puts it.

    Attributes:
        weight: in the priors' mean.
        names: tasks.
        matrix: `[T, T]`, symmetric, 0 (unrelated) to 1 (alike, as on the diagonal); null where nobody knows.
    """

    weight: Weight = 1.0
    names: tuple[str, ...] = Field(min_length=1)
    matrix: tuple[tuple[Share | None, ...], ...]

    @model_validator(mode="after")
    def _symmetric(self) -> Self:
        size = len(self.names)
        if len(set(self.names)) != size:
            raise ValueError(f"expected distinct names, found {', '.join(self.names)}")
        lengths = [len(row) for row in self.matrix]
        if lengths != [size] * size:
            raise ValueError(f"expected {size} rows of {size} values, one a name, found rows of {lengths}")
        for i, name in enumerate(self.names):
            if self.matrix[i][i] != 1:
                raise ValueError(f"expected 1 on the diagonal, found {self.matrix[i][i]} for {name}")
            for j, other in enumerate(self.names[:i]):
                if self.matrix[i][j] != self.matrix[j][i]:
                    found = f"{self.matrix[j][i]} above the diagonal and {self.matrix[i][j]} below"
                    raise ValueError(f"expected a symmetric matrix, found {found} for {other} and {name}")
        return self


class AffinityConfig(_Part):
    """How affinity is measured.

    Attributes:
        rate: of the plain gradient step whose effect is measured. At .001 the packaged backbone's affinities grow with
            the rate; at .01 steps overshoot, and at .0001 rounding shows in the losses.
        batches: to average over; 0 leaves the measurement out.
    """

    rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    batches: int = Field(8, ge=0)


class GroupConfig(_Part):
    """How groups are proposed.

    Attributes:
        choice: of the number of groups: `silhouette` (the best mean silhouette; one group where no split has a
            positive one) or `limit` (as few groups as `limit` allows).
        limit: mean similarity of two groups below which they are never joined; 0 parts tasks that harm each other.
        max_groups: encoders that can be afforded; wins over `limit`.
    """

    choice: Literal["silhouette", "limit"] = "silhouette"
    limit: float = Field(0.0, allow_inf_nan=False)
    max_groups: int | None = Field(None, ge=1)


class RelatednessConfig(_Part):
    """Sources of task relatedness, and what is made of them.

    Attributes:
        cooccurrence: prior from labels.
        topics: prior from texts.
        hierarchy: prior from a declared tree.
        graph: prior from declared edges.
        expert: prior declared outright.
        affinity: the measurement.
        groups: the proposal.
    """

    cooccurrence: CooccurrenceConfig = CooccurrenceConfig()
    topics: TopicConfig = TopicConfig()
    hierarchy: HierarchyConfig | None = None
    graph: GraphConfig | None = None
    expert: ExpertConfig | None = None
    affinity: AffinityConfig = AffinityConfig()
    groups: GroupConfig = GroupConfig()

    def check(self, tasks: Iterable[str]) -> None:
        """Check every task that this config names against the workspace's tasks.

        Raises:
            InvalidInputError: an unknown task, with the nearest one named.
        """
        known = list(tasks)
        if self.hierarchy is not None:
            _check("hierarchy.paths", "task", self.hierarchy.paths, known)
        if self.graph is not None:
            ends = [end for edge in self.graph.edges for end in edge.between]
            _check("graph.edges", "task or concept", ends, [*known, *self.graph.concepts])
        if self.expert is not None:
            _check("expert.names", "task", self.expert.names, known)


def _check(where: str, kind: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise InvalidInputError(f"relatedness.{where}: {unknown_name(kind, name, known)}")
