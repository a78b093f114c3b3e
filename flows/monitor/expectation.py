"""What a bucket's number of negative texts may be, told from the history of its series.

The number is beta-binomial: each bucket draws its own share around the series' mean, which makes counts vary more than
a binomial's, and the mean itself is known only as well as the history tells. Both widen the distribution by an
intra-class correlation: `r` between texts of one bucket, by the method of moments (Williams, 1982, "Extra-binomial
variation in logistic linear models"), and `1 / (w + 1)` for a mean that `w` texts tell. With `r = 0` this is the
posterior predictive of a beta prior under binomial counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# A series starts from the share of all texts as if it had been seen in so many texts of its own, and a place of the
# rhythm from its series likewise.
PRIOR_TEXTS: Final = 20.0
PLACE_TEXTS: Final = 20.0
# The correlation starts from .01 as if seen in so many pairs of texts: a short history can't tell it.
PRIOR_CORRELATION: Final = 0.01
PRIOR_PAIRS: Final = 500.0
_MOST_CORRELATED: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A beta-binomial distribution of a bucket's negative texts.

    Attributes:
        mean: expected share, in (0, 1).
        precision: sum of the beta's two parameters, above 0; the greater, the nearer to a binomial.
    """

    mean: float
    precision: float

    def masses(self, texts: int) -> Float64:
        """Return the probability of each number of negative texts among `texts`: float64 `[texts + 1]`."""
        return np.exp(self._log_masses(texts))

    def tail(self, texts: int, negative: int) -> float:
        """Return the probability of so many negative texts or more."""
        return float(min(1.0, self.masses(texts)[negative:].sum()))

    def range(self, texts: int, level: float) -> tuple[int, int]:
        """Return the least and the greatest expected number: one beyond has a tail of `level` or less on its side."""
        masses = self.masses(texts)
        above = np.cumsum(masses[::-1])[::-1]
        below = np.cumsum(masses)
        # A level is far below 1, so some number is always inside.
        return int(np.argmax(below > level)), int(texts - np.argmax(above[::-1] > level))

    def shifted(self, factor: float) -> Expectation:
        """Return the same with the odds of the mean multiplied."""
        odds = factor * self.mean / (1 - self.mean)
        return Expectation(mean=odds / (1 + odds), precision=self.precision)

    def log_ratio(self, other: Expectation, texts: int, negative: int) -> float:
        """Return the logarithm of how much likelier a count is under `other`: its mean here is at most 0."""
        return float(other._log_mass(texts, negative) - self._log_mass(texts, negative))

    def _log_mass(self, texts: int, negative: Int64 | int) -> Float64:
        """Return log masses up to the binomial coefficient, which ratios don't need."""
        a, b = self.mean * self.precision, (1 - self.mean) * self.precision
        return np.asarray(betaln(negative + a, texts - negative + b) - betaln(a, b), np.float64)

    def _log_masses(self, texts: int) -> Float64:
        counts = np.arange(texts + 1)
        ways = gammaln(texts + 1) - gammaln(counts + 1) - gammaln(texts - counts + 1)
        return np.asarray(ways + self._log_mass(texts, counts), np.float64)


def pooled_share(texts: float, negative: float) -> float:
    """Return the share of negative texts under Jeffreys' prior, which is never 0 or 1."""
    return (negative + 0.5) / (texts + 1)


def expectation(texts: Float64, negative: Float64, places: Int64, place: int, prior_share: float) -> Expectation:
    """Return what a series' history tells of its next bucket.

    Args:
        texts: float64 `[buckets]`, how many texts each bucket of the history has; 0 leaves it out.
        negative: float64 `[buckets]`, how many of them are negative.
        places: int64 `[buckets]`, each bucket's place in the rhythm; all 0 without one.
        place: of the next bucket.
        prior_share: share of negative texts among those of all series, in (0, 1).
    """
    mean = (PRIOR_TEXTS * prior_share + negative.sum()) / (PRIOR_TEXTS + texts.sum())
    weights = np.bincount(places, texts, minlength=place + 1)
    if len(weights) == 1:
        shares, prior = np.array([mean]), PRIOR_TEXTS
    else:
        prior = PLACE_TEXTS
        shares = (prior * mean + np.bincount(places, negative, minlength=place + 1)) / (prior + weights)
    between = _correlation(texts, negative, shares[places], np.asarray(weights[places] + prior, np.float64))
    here = texts[places == place]
    told = prior + float((here / (1 + np.maximum(here - 1, 0) * between)).sum())
    unknown = 1 / (told + 1)
    whole = unknown + (1 - unknown) * between
    return Expectation(mean=float(shares[place]), precision=1 / whole - 1)


def _correlation(texts: Float64, negative: Float64, shares: Float64, told: Float64) -> float:
    """Return the correlation between texts of one bucket, shrunk towards its prior, in [0, .5].

    With `n` texts of share `m`, E[(k - n m)^2] = n m (1 - m) (1 + (n - 1) r); a mean that was fitted to the bucket
    among `told` texts takes the share n / told off the binomial part.
    """
    spread = (negative - texts * shares) ** 2 / (shares * (1 - shares))
    binomial = texts * (1 - texts / told)
    pairs = texts * np.maximum(texts - 1, 0)
    # A bucket of one text has no pair: it tells nothing here.
    excess = float((spread - binomial)[pairs > 0].sum())
    found = (excess + PRIOR_PAIRS * PRIOR_CORRELATION) / (float(pairs.sum()) + PRIOR_PAIRS)
    return min(max(found, 0.0), _MOST_CORRELATED)
