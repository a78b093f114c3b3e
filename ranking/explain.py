"""Why an item stands where it stands: parts of its logit, the strongest features, and a sentence.

The parts are exact (`ranking.terms`). The sentence is read off the same feature row that was scored, and off the
candidate's provenance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.schema import Float32
from ranking.blend import Float64
from ranking.signals import SEQUENCE
from ranking.terms import COLLABORATIVE, ENCODER, Terms

# So many days past the usual gap before an item is called due; half the gap early counts as due as well.
_DUE: Final = 0.8
_POPULAR_TREND: Final = 1.5

_HABITS: Final = "fits your shopping habits"
_GROUP_REASON: Final = {
    COLLABORATIVE: "others who buy what you buy",
    ENCODER: "similar to your recent purchases",
    SEQUENCE: "often comes next",
    "category": _HABITS,
    "cross": _HABITS,
    "user": _HABITS,
    "item": "popular with all customers",
}
_SOURCE_REASON: Final = {
    "collaborative": _GROUP_REASON[COLLABORATIVE],
    "semantic": _GROUP_REASON[ENCODER],
    "trending": "popular now",
    "sequence": _GROUP_REASON[SEQUENCE],
    "campaign": "in a campaign now",
}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one item got its score.

    Attributes:
        reason: one line for people.
        contributions: group of features -> part of the task's logit, `base` included; in sum that logit.
        features: the strongest features, name -> part of the same logit.
    """

    reason: str
    contributions: Mapping[str, float]
    features: Mapping[str, float]


def explanations(
    terms: Terms, features: Float32, sources: Sequence[Sequence[str]] | None, top: int = 5
) -> list[Explanation]:
    """Return one explanation per row.

    Args:
        terms: of n rows.
        features: float32 `[n, f]`, the rows that were scored.
        sources: the candidate sources of each row, if known.
        top: features named per row.
    """
    place = {name: column for column, name in enumerate(terms.names)}
    groups, found = terms.groups(), []
    for row, values in enumerate(features):
        own = {group: float(part[row]) for group, part in groups.items()}
        strongest = strongest_features(terms.names, terms.values[row], top)
        own_sources = () if sources is None else sources[row]
        found.append(Explanation(reason=reason(place, values, own, own_sources), contributions=own, features=strongest))
    return found


def strongest_features(names: Sequence[str], values: Float64, top: int) -> dict[str, float]:
    """Return the `top` features of the largest absolute part, strongest first; zeros are left out."""
    order = np.argsort(-np.abs(values), kind="stable")[:top]
    return {names[column]: float(values[column]) for column in order if values[column] != 0}


def reason(place: Mapping[str, int], values: Float32, parts: Mapping[str, float], sources: Sequence[str]) -> str:
    """Return one line for people: the user's own past with the item first, then where the candidate came from.

    Args:
        place: feature name -> column.
        values: float32 `[f]`, the scored row.
        parts: group of features -> part of the logit.
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
    groups = {group: part for group, part in parts.items() if group in _GROUP_REASON}
    strongest = max(groups, key=lambda group: groups[group])
    return _GROUP_REASON[strongest if groups[strongest] > 0 else "item"]


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
