"""The ranker: one release's models, answering for one user's items. No Feast, HTTP or torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from features.schema import Float32, Int32, UserFeatures
from features.tasks import TaskSpec
from ranking.assemble import assemble, assemble_user
from ranking.blend import BlendInputs, Float64
from ranking.explain import Explanation, explanations
from ranking.layout import RANK
from ranking.models import RankingModels
from ranking.objective import Candidates, check_objectives, order, score
from ranking.rules.apply import Listed, apply
from ranking.rules.catalogue import Catalogue
from ranking.rules.config import Rules
from ranking.signals import HeadSides, compute_signals, user_logits
from ranking.spaces import Bool, Spaces, among, load_tasks
from ranking.terms import Terms, terms_of
from retrieval.encoder.head_runtime import Heads
from retrieval.filters import ItemColumns
from retrieval.layout import ENCODER_DIR, ENCODER_HEADS, TASKS
from retrieval.rows import ItemRows

if TYPE_CHECKING:
    from ranking.rules.config import RuleName
    from ranking.signals import Signals
    from retrieval.collaborative import Collaborative
    from retrieval.engine import Retriever
    from retrieval.sequence.source import SequenceSource


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """A user's items, best first.

    Attributes:
        items: int32 `[n]` distinct positions.
        scores: float64 `[n]`: the objective, NaN where its formula has no value.
        tasks: task -> calibrated probability, float64 `[n]`, NaN where the task doesn't apply.
        explanations: one per item, if asked for.
        moved: the rules that moved each item; None where no rule was set.
    """

    items: Int32
    scores: Float64
    tasks: Mapping[str, Float64]
    explanations: Sequence[Explanation] | None = None
    moved: Sequence[Sequence[RuleName]] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A user's items in the caller's order, with everything the scores came from."""

    items: Int32
    features: Float32
    signals: Signals
    inputs: BlendInputs
    tasks: Mapping[str, Float64]


@dataclass(frozen=True, eq=False)
class ReleaseSource:
    """The release's models as a source of signals."""

    retriever: Retriever
    sides: HeadSides | None

    @property
    def collaborative(self) -> Collaborative:
        """The factorisation and the neighbours."""
        assert self.retriever.collaborative is not None, "whatever ranks for users knows what they did"
        return self.retriever.collaborative

    @property
    def sequence(self) -> SequenceSource | None:
        """The sequence model over the items of now."""
        return self.retriever.following

    @property
    def item_vectors(self) -> ItemRows:
        """Float32 `[n_items, d]`."""
        return self.retriever.item_vectors

    def user_vector(self, user_id: str) -> Float32 | None:
        """Return the user's vector, or None."""
        return self.retriever.user_vector(user_id)

    def user_position(self, user_id: str) -> int | None:
        """Return the user's row, or None."""
        return self.retriever.user_position(user_id)


class Ranker:
    """One loaded release; safe to use from many threads.

    Attributes:
        models: trees, blend, calibration and what they were fitted on.
        retriever: the same release's retriever; shares its snapshot, vectors and collaborative model.
        tasks: the release's task specs.
        heads: of the encoder; None in a release without one.
    """

    def __init__(
        self, models: RankingModels, retriever: Retriever, tasks: Sequence[TaskSpec], heads: Heads | None
    ) -> None:
        self.models = models
        self.tasks = tuple(tasks)
        self.heads = heads
        self._schema = models.schema.signals
        self._use(retriever, None if heads is None else HeadSides(heads, np.asarray(retriever.item_vectors)))

    @classmethod
    def load(cls, release: Path, retriever: Retriever) -> Self:
        """Load the ranking parts of a release.

        Raises:
            FeatureMismatchError: its models were fitted on other features than this code computes.
            NamedItemsError: a rule's filter doesn't fit the items.
            RuleError: a rule's attribute doesn't.
            ObjectiveError: an objective's names don't.
        """
        heads = Heads.load(release / ENCODER_DIR) if (release / ENCODER_HEADS).exists() else None
        return cls(RankingModels.load(release), retriever, load_tasks(release / TASKS), heads)

    def over(self, retriever: Retriever, encoded: Int32) -> Self:
        """Return the same models over other items.

        Args:
            retriever: as this one's, but for items that have changed or are new.
            encoded: int32, positions of those whose vector is new.
        """
        other, sides = copy.copy(self), self._source.sides
        other._use(retriever, None if sides is None else sides.over(retriever.item_vectors, encoded))
        return other

    def _use(self, retriever: Retriever, sides: HeadSides | None) -> None:
        self.retriever = retriever
        self._source = ReleaseSource(retriever, sides)
        self._spaces = Spaces.of(self.tasks, retriever.snapshot)
        self._catalogue = Catalogue(
            snapshot=retriever.snapshot, matching=retriever.matching, vectors=retriever.item_vectors
        )
        self._columns = ItemColumns(retriever.snapshot)
        schema = self.models.schema
        self._catalogue.check(schema.rules)
        check_objectives(schema.objectives, self.pair_tasks, self._columns, schema.features)

    @property
    def pair_tasks(self) -> tuple[str, ...]:
        """Tasks that have a probability per item."""
        return tuple(task for task in self._spaces.allowed if task in self.models.blend.tasks)

    @property
    def user_tasks(self) -> tuple[str, ...]:
        """Tasks that have a blended probability per user."""
        return tuple(task.name for task in self.tasks if task.on == "user" and task.name in self.models.blend.tasks)

    def score(self, user: UserFeatures, items: Int32) -> Scored:
        """Return every task's probability for the user's items, int32 `[n]`, in their order."""
        signals = compute_signals(self._source, self._schema, user, items)
        features = assemble(user, items, self.retriever.snapshot, signals)
        applies = self._spaces.applies(user, items)
        inputs = self.models.pair_inputs(features, signals, applies)
        return Scored(
            items=items,
            features=features,
            signals=signals,
            inputs=inputs,
            tasks=self.models.probabilities(inputs, applies),
        )

    def rank(
        self,
        user: UserFeatures,
        items: Int32,
        *,
        k: int | None = None,
        asked: str | None = None,
        rules: Rules | None = None,
        shown: Mapping[str, int] | None = None,
        explain: bool = False,
        sources: Sequence[Sequence[str]] | None = None,
    ) -> Ranked:
        """Return the user's items by an objective, best first.

        Args:
            user: her features.
            items: int32 `[n]` distinct positions.
            k: how many to return; None for all.
            asked: a declared objective, or a formula; None for the default.
            rules: in place of the release's.
            shown: item id -> how often it was shown to her of late without an answer, for a rule on frequency.
            explain: whether to explain the returned items (TreeSHAP: up to 10 ms an item and model of trees).
            sources: the candidate sources of each item, for the explanations.

        Raises:
            ObjectiveError: no such objective, and no formula over what is known.
            NamedItemsError: a rule's filter doesn't fit the items.
            RuleError: a rule's attribute doesn't.
        """
        scored = self.score(user, items)
        return self.order(
            user,
            scored,
            k=k,
            asked=asked,
            rules=rules,
            shown=shown,
            explain=explain,
            sources=sources,
        )

    def order(
        self,
        user: UserFeatures,
        scored: Scored,
        *,
        k: int | None = None,
        asked: str | None = None,
        rules: Rules | None = None,
        shown: Mapping[str, int] | None = None,
        explain: bool = False,
        sources: Sequence[Sequence[str]] | None = None,
    ) -> Ranked:
        """Return scored items by an objective, best first; arguments and errors as for `rank`."""
        items = scored.items
        scores = score(self.models.schema.objectives, asked, self._candidates(scored))
        rows = order(scores, items)
        moved = None
        if rules is None:
            rules = self.models.schema.rules
        if rules.are_set:
            bought = among(items, user.items)
            listed = Listed(items=items, scores=scores, order=rows, bought=bought, shown=shown or {})
            found = apply(rules, listed, self._catalogue, k)
            rows, moved = found.rows, found.moved
        rows = rows[:k]
        return Ranked(
            items=items[rows],
            scores=scores[rows],
            tasks={task: values[rows] for task, values in scored.tasks.items()},
            explanations=self._explain(scored, rows, sources) if explain else None,
            moved=moved,
        )

    def terms(self, scored: Scored, rows: npt.NDArray[np.intp], task: str) -> Terms:
        """Return the parts of a pair task's logit for rows (intp `[m]`) of what was scored."""
        models = self.models
        inputs = BlendInputs(scored.inputs.names, scored.inputs.columns[rows])
        trees = {**models.trees, RANK: models.rank}
        return terms_of(models.blend.tasks[task], inputs, models.schema.features, scored.features[rows], trees)

    def predict_users(self, users: Sequence[UserFeatures]) -> dict[str, Float64]:
        """Return user task -> calibrated probability, float64 `[len(users)]`; NaN for a user nothing is known of."""
        logits = np.stack([user_logits(self._source, self._schema, user.user_id) for user in users])
        rows = np.stack([assemble_user(user, own) for user, own in zip(users, logits, strict=True)])
        inputs = self.models.user_inputs(rows, logits)
        known: Bool = np.array([user.known for user in users])
        return self.models.probabilities(inputs, dict.fromkeys(self.user_tasks, known))

    def _candidates(self, scored: Scored) -> Candidates:
        return Candidates(
            tasks=scored.tasks,
            columns=self._columns,
            items=scored.items,
            names=self.models.schema.features,
            features=scored.features,
        )

    def _explain(
        self, scored: Scored, rows: npt.NDArray[np.intp], sources: Sequence[Sequence[str]] | None
    ) -> list[Explanation]:
        terms = self.terms(scored, rows, self.models.schema.main_task)
        return explanations(terms, scored.features[rows], None if sources is None else [sources[row] for row in rows])
