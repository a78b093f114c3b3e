"""Why a user's list has an item where it has it: `polyrank explain`.

Use:
    why = explain_item(folder, "1228", "819063")
    render_explanation(why, console)           # flows.console_explain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.schema import UserFeatures
from flows.publish import newest
from flows.serve import feature_store
from flows.workspace import Workspace
from infra.errors import InvalidInputError, NotFoundError, unknown_name
from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.watcher import Loaded
from ranking.answers import LoadedRelease, ranker_of
from ranking.candidates import LocalCandidates
from ranking.contract import RecommendRequest
from ranking.explain import reason
from ranking.objective import DEFAULT
from ranking.ranker import Ranker
from ranking.rules.config import RuleName
from retrieval.contract import SourceName


class UnknownUserError(NotFoundError):
    """A user of whom the feature store holds nothing."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one feature adds to the logit.

    Attributes:
        name: of the feature.
        value: what it is for this pair; NaN where missing.
        part: of the logit.
    """

    name: str
    value: float
    part: float


@dataclass(frozen=True, kw_only=True)
class Explained:
    """Why one item stands where it stands in a user's list.

    Attributes:
        release_id: which release says so.
        user_id, item_id, title: about whom and what.
        place: in the order of the candidates, from 1, by objective and rules; None where a rule left it out.
        candidates: how many were ranked, as many as a service ranks unless asked for others, this item among them.
        sources: that named it; empty where none did and it was ranked beside the candidates.
        moved: the rules that moved it.
        formula: of the objective.
        score: by it; NaN where it has no value.
        tasks: task that applies -> calibrated probability.
        task: whose logit is taken apart.
        logit: of the blend, before calibration.
        reason: one line for people.
        groups: group of features -> part of the logit, `base` included; in sum the logit.
        features: every feature with a part, the largest first.
    """

    release_id: str
    user_id: str
    item_id: str
    title: str
    place: int | None
    candidates: int
    sources: Sequence[SourceName]
    moved: Sequence[RuleName]
    formula: str
    score: float
    tasks: Mapping[str, float]
    task: str
    logit: float
    reason: str
    groups: Mapping[str, float]
    features: Sequence[Part]


def explain_item(
    folder: str,
    user_id: str,
    item_id: str,
    *,
    task: str | None = None,
    objective: str | None = None,
    release: str | None = None,
) -> Explained:
    """Explain an item's place and a task's logit for a user as the online store knows her now.

    Args:
        folder: of the workspace.
        user_id: whose list.
        item_id: of the release's items.
        task: of pairs, that applies to this one; None takes the main task.
        objective: a declared one, or a formula; None for the default.
        release: its id; None takes the current one, or the newest where none is published.

    Raises:
        NoReleaseError: there is no release.
        MissingPartError: the release ranks nothing.
        UnknownUserError: the store holds nothing of the user.
        UnknownItemError: the release doesn't hold the item.
        ObjectiveError: neither an objective nor a formula.
        InvalidInputError: no such task, or one that doesn't apply to the pair.
        UnavailableError: the online store can't be reached.
    """
    workspace = Workspace.load(folder)
    store = ReleaseStore(workspace.releases)
    release_id = release or store.current() or newest(workspace)
    ranker = ranker_of(Loaded(release_id, LoadedRelease.load(store.path(release_id))))
    chosen = ranker.models.schema.main_task if task is None else task
    if chosen not in ranker.pair_tasks:
        raise InvalidInputError(f"task: {unknown_name('task on pairs', chosen, ranker.pair_tasks)}")
    features = feature_store(workspace, Settings())
    assert features is not None, "what ranks knows events"
    user = features.online_user(user_id)
    if not user.known:
        raise UnknownUserError(
            f"expected a user that `polyrank refresh features` brought to the online store, found {user_id!r}"
        )
    return _explained(ranker, release_id, user, ranker.retriever.position(item_id), chosen, objective)


def _explained(
    ranker: Ranker, release_id: str, user: UserFeatures, item: int, task: str, objective: str | None
) -> Explained:
    snapshot, schema = ranker.retriever.snapshot, ranker.models.schema
    found = LocalCandidates().find(RecommendRequest(user_id=user.user_id), user, ranker.retriever)
    named = dict(zip(found.items.tolist(), found.sources, strict=True))
    items = found.items if item in named else np.append(found.items, np.int32(item))
    scored = ranker.score(user, items)
    row = np.flatnonzero(items == item)
    tasks = {name: float(values[row[0]]) for name, values in scored.tasks.items()}
    if np.isnan(tasks[task]):
        applying = [name for name, value in tasks.items() if not np.isnan(value)]
        raise InvalidInputError(
            f"task: expected one that applies to user {user.user_id!r} and item {snapshot.item_ids[item]!r} "
            f"({', '.join(applying) or 'none does'}), found {task!r}"
        )
    ranked = ranker.order(user, scored, asked=objective)
    places = np.flatnonzero(ranked.items == item)
    terms = ranker.terms(scored, row, task)
    groups = {group: float(part[0]) for group, part in terms.groups().items()}
    values, parts = scored.features[row[0]], terms.values[0]
    place = {name: column for column, name in enumerate(terms.names)}
    sources = named.get(item, ())
    return Explained(
        release_id=release_id,
        user_id=user.user_id,
        item_id=snapshot.item_ids[item],
        title=snapshot.titles[item],
        place=int(places[0]) + 1 if len(places) else None,
        candidates=len(items),
        sources=sources,
        moved=() if ranked.moved is None or not len(places) else ranked.moved[places[0]],
        formula=schema.objectives.get(objective or DEFAULT, objective or DEFAULT),
        score=float(ranked.scores[places[0]]) if len(places) else float("nan"),
        tasks={name: value for name, value in tasks.items() if not np.isnan(value)},
        task=task,
        logit=float(terms.logits[0]),
        reason=reason(place, values, groups, sources),
        groups=groups,
        features=[
            Part(name=terms.names[column], value=float(values[column]), part=float(parts[column]))
            for column in np.argsort(-np.abs(parts), kind="stable")
            if parts[column] != 0
        ],
    )
