"""A user's last events as feature rows tell them: one way to time them for training, one to read them in a request."""

from __future__ import annotations

from typing import Final

import numpy as np

from features.schema import HISTORY_STATS, Float32, Int32
from retrieval.sequence.histories import Float64, gap_buckets

_SECONDS_A_DAY: Final = 86_400.0
_COUNT, _LAST, _FIRST = (HISTORY_STATS.index(name) for name in ("count", "last_age_days", "first_age_days"))


def event_times(ages: Float32) -> Float64:
    """Return float64 seconds, 0 now and negative before, of ages in days.

    Ages are float32, as feature rows hold them: two events a few seconds apart a year ago are then one moment, in
    training as in a request.
    """
    return ages.astype(np.float64) * -_SECONDS_A_DAY


def recent_events(items: Int32, history: Float32, length: int) -> tuple[Int32, Int32]:
    """Return the last events of a feature row: int32 `[h]` positions, oldest first, and the buckets of their gaps.

    Of each item a row holds how often it was bought, the first and the last time; times between are put at equal
    distances. Events of one moment go by position, as in training.

    Args:
        items: int32 `[n]` positions, most recent purchase first.
        history: float32 `[n, len(HISTORY_STATS)]`.
        length: at most so many events.
    """
    if not len(items):
        return items, np.empty(0, np.int32)
    # One event more than is read: the gap before the first. An item last bought before that many others is too old.
    wanted = length + 1
    near = history[:, _LAST] <= history[min(length, len(items) - 1), _LAST]
    items, history = items[near], history[near]
    counts = np.maximum(history[:, _COUNT], 1).astype(np.int64)
    kept = np.minimum(counts, wanted)
    rows = np.repeat(np.arange(len(items)), kept)
    back = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
    last, first = event_times(history[rows, _LAST]), event_times(history[rows, _FIRST])
    times = last + (first - last) * back / np.maximum(counts[rows] - 1, 1)
    order = np.lexsort((items[rows], times))[-wanted:]
    gaps = gap_buckets(np.diff(times[order], prepend=times[order[0]]))
    return items[rows][order][-length:], gaps[-length:]
