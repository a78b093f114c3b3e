"""Training rows of one cut: every pair's features, signals and labels, built by the functions that serve requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from features.schema import ITEM, LABEL, USER, Float32, Int32, UserFeatures
from features.tasks import AllSpace, TaskSpec
from ranking.assemble import assemble, assemble_user, feature_names, user_feature_names
from ranking.gbdt import GbdtConfig, TrainingRows, thinned
from ranking.signals import Signals, SignalSchema, SignalSource, compute_signals, user_logits
from ranking.spaces import Bool, Spaces, pair_tasks, user_tasks

if TYPE_CHECKING:
    from retrieval.snapshot import ItemSnapshot

# Pairs as one number: user in the high half, item in the low half.
_HIGH = np.int64(2**32)


@dataclass(frozen=True, kw_only=True)
class CutData:
    """What one cut gives the ranker: everything as of the cut, and labels of the window after it.

    Attributes:
        users: features as of the cut; a caller leaves out users with nothing before it.
        positions: int32 `[len(users)]`, each user's position, as in the labels.
        candidates: per user, int32 distinct item positions, as retrieval gives them at the cut.
        snapshot: items as of the cut.
        source: encoder and collaborative models fitted before the cut.
        labels: task -> (user, item?, label) as `features.tasks.labels` gives them.
    """

    users: Sequence[UserFeatures]
    positions: Int32
    candidates: Sequence[Int32]
    snapshot: ItemSnapshot
    source: SignalSource
    labels: Mapping[str, pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class CutRows:
    """Rows of one cut.

    Attributes:
        names: the pair features' names.
        features: float32 `[m, f]` of m pairs; a user's pairs are adjacent.
        signals: of the same pairs.
        users, items: int32 `[m]` positions.
        applies: pair task -> bool `[m]`.
        labels: pair task -> float32 `[m]`, NaN where the pair carries no label.
        user_names: the user features' names.
        user_features: float32 `[u, g]`, one row per user.
        user_logits: float32 `[u, user tasks]`.
        user_labels: user task -> float32 `[u]`, NaN where the user carries no label.
    """

    names: tuple[str, ...]
    features: Float32
    signals: Signals
    users: Int32
    items: Int32
    applies: Mapping[str, Bool]
    labels: Mapping[str, Float32]
    user_names: tuple[str, ...]
    user_features: Float32
    user_logits: Float32
    user_labels: Mapping[str, Float32]

    def task_rows(self, task: str, config: GbdtConfig) -> TrainingRows:
        """Return the pairs that carry a label of a pair task and that the task applies to, their negatives thinned.

        Thinned before a feature is copied: a cut of The Complete Journey has a million pairs, 300 MB.
        """
        labels = self.labels[task]
        labelled = np.flatnonzero(self.applies[task] & ~np.isnan(labels))
        kept, weights = thinned(labels[labelled], config.negative_rate, config.seed)
        rows = labelled[kept]
        return TrainingRows(
            names=self.names,
            features=self.features[rows],
            labels=labels[rows],
            weights=weights,
            groups=self.users[rows],
        )

    def user_rows(self, task: str) -> TrainingRows:
        """Return the users that carry a label of a user task, all of them: they are few."""
        rows = np.flatnonzero(~np.isnan(self.user_labels[task]))
        return TrainingRows(
            names=self.user_names,
            features=self.user_features[rows],
            labels=self.user_labels[task][rows],
            weights=np.ones(len(rows), np.float32),
            groups=rows.astype(np.int32),
        )


def build_rows(data: CutData, tasks: Sequence[TaskSpec], schema: SignalSchema) -> CutRows:
    """Return the rows of one cut.

    A user's pairs are her candidates, then the pairs that a listed space (seen, exposed) labels besides. A task over
    all pairs is labelled on candidates alone: those are what the ranker meets.
    """
    pairs = [task for task in pair_tasks(tasks) if task.name in data.labels]
    extra = _listed_pairs(pairs, data.labels)
    lists = [
        np.concatenate([own, np.setdiff1d(extra.get(int(position), own[:0]), own)]).astype(np.int32)
        for own, position in zip(data.candidates, data.positions, strict=True)
    ]
    lengths = np.array([len(items) for items in lists], np.int64)
    candidates = np.concatenate(
        [np.arange(len(items)) < len(own) for items, own in zip(lists, data.candidates, strict=True)]
    )
    users = np.repeat(data.positions, lengths).astype(np.int32)
    items = np.concatenate(lists)
    features, signals = assemble_lists(data.users, lists, data.snapshot, data.source, schema)
    spaces = Spaces.of(pairs, data.snapshot)
    applied = [spaces.applies(user, own) for user, own in zip(data.users, lists, strict=True)]
    logits = np.stack([user_logits(data.source, schema, user.user_id) for user in data.users])
    return CutRows(
        names=feature_names(schema.names),
        features=features,
        signals=signals,
        users=users,
        items=items,
        applies={task.name: np.concatenate([one[task.name] for one in applied]) for task in pairs},
        labels={task.name: _pair_labels(task, data.labels[task.name], users, items, candidates) for task in pairs},
        user_names=user_feature_names(schema.user_names),
        user_features=np.stack([assemble_user(user, own) for user, own in zip(data.users, logits, strict=True)]),
        user_logits=logits,
        user_labels={
            task.name: _user_labels(data.labels[task.name], data.positions)
            for task in user_tasks(tasks)
            if task.name in data.labels
        },
    )


def assemble_lists(
    users: Sequence[UserFeatures],
    lists: Sequence[Int32],
    snapshot: ItemSnapshot,
    source: SignalSource,
    schema: SignalSchema,
) -> tuple[Float32, Signals]:
    """Return features float32 `[m, f]` and signals of many users' lists: one call of the serving functions per user.

    Args:
        users: one per list.
        lists: int32 item positions, m in all.
        snapshot: items as of the same time.
        source: encoder and collaborative models.
        schema: the signals' columns.
    """
    bounds = np.concatenate([[0], np.cumsum([len(items) for items in lists])])
    features = np.empty((bounds[-1], len(feature_names(schema.names))), np.float32)
    columns = np.empty((bounds[-1], len(schema.names)), np.float32)
    for user, items, first, last in zip(users, lists, bounds[:-1], bounds[1:], strict=True):
        signals = compute_signals(source, schema, user, items)
        columns[first:last] = signals.columns
        assemble(user, items, snapshot, signals, out=features[first:last])
    return features, Signals(schema.names, columns)


def _listed_pairs(tasks: Sequence[TaskSpec], labels: Mapping[str, pl.DataFrame]) -> dict[int, Int32]:
    """Return user -> items of the pairs that exposed spaces list; seen ones are met among the candidates."""
    frames = [labels[task.name].select(USER, ITEM) for task in tasks if task.space.type == "exposed"]
    if not frames:
        return {}
    lists = pl.concat(frames).unique().sort(USER, ITEM).group_by(USER).agg(ITEM)
    return {user: np.asarray(items, np.int32) for user, items in lists.iter_rows()}


def _pair_labels(task: TaskSpec, frame: pl.DataFrame, users: Int32, items: Int32, candidates: Bool) -> Float32:
    """Return float32 `[m]`: each pair's label; an unlisted candidate of an all-space is 0, others NaN."""
    listed = frame[USER].to_numpy() * _HIGH + frame[ITEM].to_numpy()
    order = np.argsort(listed)
    wanted = users * _HIGH + items
    absent = np.where(candidates, 0.0, np.nan) if isinstance(task.space, AllSpace) else np.full(len(users), np.nan)
    if not len(listed):
        return absent.astype(np.float32)
    place = order[np.minimum(np.searchsorted(listed, wanted, sorter=order), len(listed) - 1)]
    found = np.where(listed[place] == wanted, frame[LABEL].to_numpy()[place], absent)
    return (found if not isinstance(task.space, AllSpace) else np.where(candidates, found, np.nan)).astype(np.float32)


def _user_labels(frame: pl.DataFrame, positions: Int32) -> Float32:
    """Return float32 `[u]`: the label of each user, NaN for one without."""
    known = dict(zip(frame[USER].to_list(), frame[LABEL].to_list(), strict=True))
    return np.array([known.get(int(position), np.nan) for position in positions], np.float32)
