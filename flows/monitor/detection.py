"""When a series is out of its expected range: a jump of one bucket, or a drift over several.

Every closed bucket of every series with enough history is judged twice, each time at the level
`false_alarms / 1000 x bucket_hours / (2 x series)`, so that by the union bound no more than `false_alarms` false alerts
per 1,000 hours are expected over all series together, however those depend on each other:

- a *jump*: so many negative texts, or more, have at most that probability under the bucket's expectation;
- a *drift*: a CUSUM of log-likelihood ratios between the expectation and one of `shift` times its odds passes minus
  the level's logarithm. Under the expectation the mean time to a false one is then at least 1 / level buckets
  (Lorden, 1971, "Procedures for reacting to a change in distribution", theorem 2).

Both are bounds: where expectations hold, fewer false alerts come than were allowed. After an alert its series starts
anew and is silent while it cools down. A bucket out of its range, or in that silence, is left out of the history until
it counts as normal: a burst that goes on would else be expected before it is over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from flows.monitor.config import DetectionConfig
from flows.monitor.expectation import Expectation, Float64, Int64, expectation, pooled_share

Cause = Literal["jump", "drift"]
# The series of all texts: its history is the prior of the others.
ALL = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One bucket of one series, judged.

    Attributes:
        series: row of the counts.
        bucket: column of the counts.
        texts: how many texts it has.
        negative: how many of them are negative.
        expected: expected share of negative texts.
        low: least share inside the range.
        high: greatest share inside the range.
        drift: the CUSUM after it; 0 after an alert.
        limit: of the CUSUM.
        cause: what put it out of range; None inside.
        is_alert: out of range, and not while cooling down.
    """

    series: int
    bucket: int
    texts: int
    negative: int
    expected: float
    low: float
    high: float
    drift: float
    limit: float
    cause: Cause | None
    is_alert: bool


@dataclass(kw_only=True, eq=False)
class Detector:
    """Series' counts, judged bucket by bucket in time.

    Attributes:
        config: lengths, levels and limits.
        texts: float64 `[series, buckets]`; row `ALL` counts every text.
        negative: float64 `[series, buckets]`.
        first: number of the first bucket since the epoch, which tells places of the rhythm.
        unusual: bool `[series, buckets]`, out of range or after an alert; grows as buckets are judged.
        drift: float64 `[series]`, the CUSUMs.
        silent_until: int64 `[series]`, the first column that may raise an alert.
    """

    config: DetectionConfig
    texts: Float64
    negative: Float64
    first: int
    unusual: npt.NDArray[np.bool_]
    drift: Float64
    silent_until: Int64

    @classmethod
    def of(cls, config: DetectionConfig, texts: Float64, negative: Float64, first: int = 0) -> Detector:
        """Return a detector of counts `[series, buckets]` of which none was judged."""
        rows = len(texts)
        return cls(
            config=config, texts=texts, negative=negative, first=first, unusual=np.zeros(texts.shape, bool),
            drift=np.zeros(rows), silent_until=np.zeros(rows, np.int64),
        )  # fmt: skip

    def judge(self, bucket: int) -> Iterator[Verdict]:
        """Yield the verdict on each series that has texts in a bucket, and a history; buckets go in order of time."""
        if not self.texts[ALL, bucket]:
            return
        start = max(0, bucket - self.config.history)
        columns = np.arange(start, bucket)
        left_out = self.unusual[:, start:bucket] & (columns > bucket - 1 - self.config.adapt)
        texts = np.where(left_out, 0.0, self.texts[:, start:bucket])
        negative = np.where(left_out, 0.0, self.negative[:, start:bucket])
        known = texts.sum(axis=1) >= self.config.min_history
        if not known.any():
            return
        level = self.level(int(known.sum()))
        prior = pooled_share(texts[ALL].sum(), negative[ALL].sum())
        places = (columns + self.first) % self.config.places
        place = (bucket + self.first) % self.config.places
        for series in np.flatnonzero(known & (self.texts[:, bucket] > 0)).tolist():
            yield self._verdict(
                series, bucket, expectation(texts[series], negative[series], places, place, prior), level
            )

    def level(self, series: int) -> float:
        """Return the probability of a false alert that one test of one bucket is allowed, of so many series."""
        allowed = self.config.false_alarms / 1000 * self.config.bucket_hours / (2 * series)
        # Beyond it a "range" would leave out what is seen every fifth time.
        return min(allowed, 0.2)

    def _verdict(self, series: int, bucket: int, expected: Expectation, level: float) -> Verdict:
        texts, negative = int(self.texts[series, bucket]), int(self.negative[series, bucket])
        low, high = expected.range(texts, level)
        limit = -math.log(level)
        silent = bucket < self.silent_until[series]
        step = expected.log_ratio(expected.shifted(self.config.shift), texts, negative)
        drift = 0.0 if silent else max(0.0, self.drift[series] + step)
        cause: Cause | None = None
        if texts >= self.config.min_texts and negative > high:
            cause = "jump"
        elif drift >= limit:
            cause = "drift"
        is_alert = cause is not None and not silent
        if is_alert:
            drift, self.silent_until[series] = 0.0, bucket + 1 + self.config.cool_down
        self.drift[series] = drift
        self.unusual[series, bucket] = silent or cause is not None
        return Verdict(
            series=series, bucket=bucket, texts=texts, negative=negative, expected=expected.mean,
            low=low / texts, high=high / texts, drift=drift, limit=limit, cause=cause, is_alert=is_alert,
        )  # fmt: skip
