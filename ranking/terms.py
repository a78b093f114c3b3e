"""Exact parts of a task's logit: what each feature adds to it, through the trees and beside them.

The blend's logit is linear in signals and in the trees' raw scores, and TreeSHAP splits a raw score into parts of the
features. So a feature's part is the blend's weight of each model times the feature's TreeSHAP value in it, and of a
signal also its own term in the blend. What no feature says, such as the blend's bias and the trees' expected scores, is
the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from features.schema import Float32
from ranking import gbdt
from ranking.blend import FRESH, GBDT, LOG, BlendInputs, Float64, TaskBlend
from ranking.signals import ALS, KNN, SEQUENCE

if TYPE_CHECKING:
    import lightgbm as lgb

BASE: Final = "base"
HISTORY: Final = "history"
ENCODER: Final = "encoder"
COLLABORATIVE: Final = "collaborative"
# Of a feature called "history_count" the group is "history"; signals are grouped by the model they come from.
GROUPS: Final = (HISTORY, "category", "item", "cross", "user", COLLABORATIVE, SEQUENCE, ENCODER)
_SIGNAL: Final = "signal_"
_BOUGHT: Final = "history_count"


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """Parts of n logits; a row of `values` and its `base` sum to the row's logit, up to rounding.

    Attributes:
        names: of the features.
        values: float64 `[n, len(names)]`.
        base: float64 `[n]`.
    """

    names: Sequence[str]
    values: Float64
    base: Float64

    @property
    def logits(self) -> Float64:
        """Float64 `[n]`."""
        logits: Float64 = self.values.sum(axis=1) + self.base
        return logits

    def groups(self) -> dict[str, Float64]:
        """Return group -> part of the logit, float64 `[n]`, those that features have and the base."""
        owners = [group_of(name) for name in self.names]
        found = {
            group: self.values[:, [column for column, owner in enumerate(owners) if owner == group]].sum(axis=1)
            for group in GROUPS
            if group in owners
        }
        return found | {BASE: self.base}


def group_of(feature: str) -> str:
    """Return the group of a feature."""
    if not feature.startswith(_SIGNAL):
        return feature.split("_", maxsplit=1)[0]
    signal = feature.removeprefix(_SIGNAL)
    if signal == SEQUENCE:
        return SEQUENCE
    return COLLABORATIVE if signal in (ALS, KNN) else ENCODER


def terms_of(
    blend: TaskBlend, inputs: BlendInputs, names: Sequence[str], features: Float32, trees: Mapping[str, lgb.Booster]
) -> Terms:
    """Return the parts of a task's logit.

    Args:
        blend: the task's model.
        inputs: its columns of n pairs.
        names: of the features.
        features: float32 `[n, len(names)]`, what the trees read.
        trees: model -> booster, for every `gbdt/` input; up to 10 ms a row each.

    Raises:
        BlendError: an input that the model was fitted on is absent.
    """
    place = {name: column for column, name in enumerate(names)}
    terms, n = blend.terms(inputs), len(features)
    values, base = np.zeros((n, len(names))), np.full(n, blend.bias)
    shap: dict[str, Float64] = {}
    for column, name in enumerate(blend.names):
        family, signal = name.split("/", 1)
        absent = np.isnan(inputs.columns[:, inputs.names.index(name)])
        twin, signal = signal.endswith(FRESH), signal.removesuffix(FRESH)
        if twin:
            # A twin is missing where the item was bought before, which the count says.
            values[absent, place[_BOUGHT]] += terms[absent, column]
        if family != GBDT:
            own = place[_SIGNAL + signal.removesuffix(LOG)]
            kept = ~absent if twin else np.ones(n, bool)
            values[kept, own] += terms[kept, column]
            continue
        present = np.flatnonzero(~absent)
        if len(present):
            if signal not in shap:
                shap[signal] = np.full((n, len(names) + 1), np.nan)
            missing = present[np.isnan(shap[signal][present, 0])]
            if len(missing):
                shap[signal][missing] = gbdt.contributions(trees[signal], np.ascontiguousarray(features[missing]))
            values[present] += shap[signal][present, :-1] * blend.slopes[column]
            # The trees' expected score, as the blend centres it.
            base[present] += (shap[signal][present, -1] - blend.mean[column]) * blend.slopes[column]
        if not twin:
            base[absent] += terms[absent, column]
    return Terms(names=names, values=values, base=base)
