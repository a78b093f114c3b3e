"""Why an item stands where it stands: exact parts of the blend's logit, the trees' strongest features, and a sentence.

The parts of the blend are exact (it is linear in the logit). The trees' features come from TreeSHAP and sum to the
trees' raw score. The sentence is read off the same feature row that was scored, and off the candidate's provenance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.schema import Float32
from ranking.blend import COLLABORATIVE, ENCODER, GBDT, Float64

# So many days past the usual gap before an item is called due; half the gap early counts as due as well.
_DUE: Final = 0.8
_POPULAR_TREND: Final = 1.5

_FAMILY_REASON: Final = {
    COLLABORATIVE: "others who buy what you buy",
    ENCODER: "similar to your recent purchases",
    GBDT: "fits your shopping habits",
}
_SOURCE_REASON: Final = {
    "collaborative": _FAMILY_REASON[COLLABORATIVE],
    "semantic": _FAMILY_REASON[ENCODER],
    "trending": "popular now",
    "sequence": "often comes next",
    "campaign": "in a campaign now",
}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one item got its score.

    Attributes:
        reason: one line for people.
        contributions: family -> part of the main task's logit, `bias` included; in sum that logit.
        features: the trees' strongest features, name -> TreeSHAP contribution to their raw score.
    """

    reason: str
    contributions: Mapping[str, float]
    features: Mapping[str, float]


def explanations(
    names: Sequence[str],
    features: Float32,
    parts: Mapping[str, Float64],
    shap: Float64 | None,
    sources: Sequence[Sequence[str]] | None,
    top: int = 5,
) -> list[Explanation]:
    """Return one explanation per row.

    Args:
        names: feature names, as `assemble.feature_names` gives them.
        features: float32 `[n, f]`, the rows that were scored.
        parts: family -> part of the logit, float64 `[n]` each.
        shap: TreeSHAP contributions, float64 `[n, f + 1]`; None where the task has no trees.
        sources: the candidate sources of each row, if known.
        top: features named per row.
    """
    place = {name: column for column, name in enumerate(names)}
    found = []
    for row, values in enumerate(features):
        own = {family: float(part[row]) for family, part in parts.items()}
        strongest = {} if shap is None else strongest_features(names, shap[row, :-1], top)
        own_sources = () if sources is None else sources[row]
        found.append(Explanation(reason=reason(place, values, own, own_sources), contributions=own, features=strongest))
    return found


def strongest_features(names: Sequence[str], shap: Float64, top: int) -> dict[str, float]:
    """Return the `top` features of the largest absolute contribution, strongest first; zeros are left out."""
    order = np.argsort(-np.abs(shap), kind="stable")[:top]
    return {names[column]: float(shap[column]) for column in order if shap[column] != 0}


def reason(place: Mapping[str, int], values: Float32, parts: Mapping[str, float], sources: Sequence[str]) -> str:
    """Return one line for people: the user's own past with the item first, then where the candidate came from.

    Args:
        place: feature name -> column.
        values: float32 `[f]`, the scored row.
        parts: family -> part of the logit.
        sources: the item's candidate sources; empty when the caller named the items.
    """
    count = values[place["history_count"]]
    if count >= 1:
        return _own_history(place, values)
    if values[place["category_count"]] >= 1 and "collaborative" not in sources:
        bought, last = values[place["category_count"]], values[place["category_last_age_days"]]
        return f"you bought from this category {bought:.0f} {_times(bought)}, last {_days(last)} ago"
    for source in sources:
        if source in _SOURCE_REASON:
            return _SOURCE_REASON[source]
    if np.isfinite(values[place["item_trend"]]) and values[place["item_trend"]] >= _POPULAR_TREND:
        return _SOURCE_REASON["trending"]
    families = {family: part for family, part in parts.items() if family in _FAMILY_REASON}
    strongest = max(families, key=lambda family: families[family])
    return _FAMILY_REASON[strongest] if families[strongest] > 0 else "popular with all customers"


def _own_history(place: Mapping[str, int], values: Float32) -> str:
    """Return "bought 12 times, last 6 days ago, usually every 7 days: due now" from the history columns."""
    count, last, gap = (
        values[place[name]] for name in ("history_count", "history_last_age_days", "history_mean_gap_days")
    )
    said = f"bought {count:.0f} {_times(count)}, last {_days(last)} ago"
    if not np.isfinite(gap) or gap <= 0:
        return said
    due = ": due now" if last / gap >= _DUE else ""
    return f"{said}, usually every {_days(gap)}{due}"


def _times(count: np.float32) -> str:
    return "time" if round(float(count)) == 1 else "times"


def _days(days: np.float32) -> str:
    whole = round(float(days))
    if whole < 1:
        return "less than a day"
    return "1 day" if whole == 1 else f"{whole} days"
