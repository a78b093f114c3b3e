"""Global time cuts: which features and which labels each fitted part may see.

Every cut `c` sees events with timestamp < c and labels of [c, c + horizon); consecutive cuts lie one horizon apart, so
no label window overlaps another. For a release as of T, with horizon H and R ranker folds:

    ... encoder training | encoder validation | ranker R ... ranker 2 | ranker 1 (newest) | T serving, evaluation
                           T - (R+1) H          T - R H                 T - H

The encoder's labels end where the oldest ranker cut begins, so each signal in the ranker's rows is out of time.
Evaluation's labels, [T, T + H), belong to `evaluate` alone. Dated texts keep to the same times; rows whose labels have
no time (undated texts, columns of users and items) are held out by their ids. A source without events has no ranker and
no cuts to train at: its texts train up to T - H, are held out up to T, and are evaluated from T on. Where no text has a
time either, T is `UNDATED`, so that the same texts make the same release on whatever day.

What a text's `split` says goes before both rules: `train` trains, `validation` is held out, and no `test` comes here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.schema import SPLIT, TEXT_ID, TIMESTAMP
from features.tables import TEST, TRAIN
from infra.errors import InvalidInputError

Role = Literal["encoder training", "encoder validation", "ranker", "evaluation"]
Bool = npt.NDArray[np.bool_]

# Where a release of data without any time stands.
UNDATED: Final = datetime(1970, 1, 1, tzinfo=UTC)
# One id in this many is held out.
_HELD_OUT_IN: Final = 10


class SplitError(InvalidInputError):
    """A time plan that cannot be drawn: too few folds, a naive time, or too little history."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """One cut: features from before `cut`, labels from `[cut, end)`."""

    role: Role
    cut: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class TimePlan:
    """Every cut of one release.

    Attributes:
        as_of: the serving cut T; a release of it has seen nothing at or after T.
        horizon: length of each label window.
        ranker: ranker cuts, newest first; blend and calibration are fitted on the first, the GBDT on the others. None
            without events.
        encoder_validation: the cut whose labels stop the encoder's training.
        encoder_training: the encoder's training cuts, newest first; none without events.
    """

    as_of: datetime
    horizon: timedelta
    ranker: tuple[datetime, ...]
    encoder_validation: datetime
    encoder_training: tuple[datetime, ...]

    @property
    def blend(self) -> datetime:
        """The newest ranker cut: blend weights and calibration are fitted on its labels."""
        return self.ranker[0]

    @property
    def gbdt(self) -> tuple[datetime, ...]:
        """The ranker cuts before the blend's, newest first: the GBDT is fitted on their labels."""
        return self.ranker[1:]

    @property
    def encoder_end(self) -> datetime:
        """The time from which on the encoder reads no label: the oldest ranker cut, else the serving cut."""
        return min(self.ranker, default=self.as_of)

    @property
    def cuts(self) -> tuple[datetime, ...]:
        """Every cut that training needs features at, oldest first, the serving cut last."""
        return (*sorted({*self.encoder_training, self.encoder_validation, *self.ranker}), self.as_of)

    def end(self, cut: datetime) -> datetime:
        """Return the exclusive end of the label window of `cut`."""
        return cut + self.horizon

    def windows(self) -> tuple[Window, ...]:
        """Return every window, oldest first; the evaluation window is the last."""
        roles: list[tuple[Role, datetime]] = [("encoder training", cut) for cut in reversed(self.encoder_training)]
        roles.append(("encoder validation", self.encoder_validation))
        roles += [("ranker", cut) for cut in reversed(self.ranker)]
        roles.append(("evaluation", self.as_of))
        return tuple(Window(role=role, cut=cut, end=self.end(cut)) for role, cut in roles)

    def describe(self) -> list[dict[str, str]]:
        """Return one row per window for the report: role, what it fits, features before, labels from and until."""
        fits = {self.as_of: "nothing: held out", **dict.fromkeys(self.gbdt, "GBDT")}
        fits |= dict.fromkeys(self.ranker[:1], "blend and calibration")
        return [
            {
                "role": window.role,
                "fits": fits.get(window.cut, "encoder" if window.role == "encoder training" else "early stopping"),
                "features before": window.cut.isoformat(timespec="minutes"),
                "labels from": window.cut.isoformat(timespec="minutes"),
                "labels until": window.end.isoformat(timespec="minutes"),
            }
            for window in self.windows()
        ]

    def require_history(self, first_event: datetime, minimum: timedelta) -> None:
        """Check that the oldest cut has enough past to compute features from.

        Args:
            first_event: the earliest event's time.
            minimum: least time between it and the oldest cut.

        Raises:
            SplitError: naming the oldest cut, the history it has, and how many encoder folds would fit.
        """
        oldest = self.cuts[0]
        if oldest - first_event >= minimum:
            return
        room = self.encoder_validation - first_event - minimum
        fitting = max(0, room // self.horizon)
        raise SplitError(
            f"time plan as of {self.as_of.isoformat()}: the oldest cut {oldest.isoformat()} has "
            f"{(oldest - first_event).days} days of events before it, expected at least {minimum.days}; "
            f"with {len(self.ranker)} ranker folds the events hold {fitting} encoder folds, "
            f"found encoder_folds={len(self.encoder_training)}"
        )


class SplitConfig(BaseModel):
    """How a release's time is divided.

    Attributes:
        horizon_days: length of every label window.
        ranker_folds: ranker cuts; the newest fits the blend, so the GBDT needs at least one more.
        encoder_folds: encoder training cuts.
        minimum_history_days: least time of events before the oldest cut.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    horizon_days: int = Field(default=28, ge=1)
    ranker_folds: int = Field(default=2, ge=2)
    encoder_folds: int = Field(default=3, ge=1)
    minimum_history_days: int = Field(default=56, ge=1)

    @property
    def horizon(self) -> timedelta:
        """Length of every label window."""
        return timedelta(days=self.horizon_days)

    def plan(self, as_of: datetime, first_event: datetime | None = None) -> TimePlan:
        """Return the plan as of a time, checked against the earliest event where one is given."""
        drawn = plan(as_of, self.horizon, ranker_folds=self.ranker_folds, encoder_folds=self.encoder_folds)
        if first_event is not None:
            drawn.require_history(first_event, timedelta(days=self.minimum_history_days))
        return drawn

    def text_plan(self, as_of: datetime) -> TimePlan:
        """Return the plan of a source without events, whose texts need no folds, as of an aware time."""
        serving = as_of.astimezone(UTC)
        return TimePlan(
            as_of=serving,
            horizon=self.horizon,
            ranker=(),
            encoder_validation=serving - self.horizon,
            encoder_training=(),
        )


def plan(as_of: datetime, horizon: timedelta, ranker_folds: int = 2, encoder_folds: int = 3) -> TimePlan:
    """Return the cuts of a release as of a time.

    Args:
        as_of: serving cut T, time-zone aware.
        horizon: length of each label window, positive.
        ranker_folds: ranker cuts T - H, T - 2H, ...; at least 2.
        encoder_folds: encoder training cuts before the encoder's validation cut; at least 1.

    Raises:
        SplitError: a naive `as_of`, a horizon that isn't positive, or too few folds.
    """
    if as_of.tzinfo is None:
        raise SplitError(f"as_of: expected a time with a zone, found the naive {as_of.isoformat()}")
    if horizon <= timedelta(0):
        raise SplitError(f"horizon: expected a positive length, found {horizon}")
    if ranker_folds < 2 or encoder_folds < 1:
        raise SplitError(
            f"expected ranker_folds >= 2 and encoder_folds >= 1, found {ranker_folds} and {encoder_folds}: "
            "the newest ranker cut fits the blend, the others the GBDT"
        )
    serving = as_of.astimezone(UTC)
    cuts: Sequence[datetime] = [serving - horizon * step for step in range(1, ranker_folds + encoder_folds + 2)]
    return TimePlan(
        as_of=serving,
        horizon=horizon,
        ranker=tuple(cuts[:ranker_folds]),
        encoder_validation=cuts[ranker_folds],
        encoder_training=tuple(cuts[ranker_folds + 1 :]),
    )


def split_texts(texts: pl.DataFrame, plan: TimePlan) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the texts that train the encoder, and those held out to stop its training.

    A text goes where its split says. Of those without one, dated texts are held out from the encoder's validation cut
    on; where none has a date, or all fall into one part, one id in ten is held out. Whatever its split, a text at or
    after the time that the encoder's labels end is in neither part: the ranker's signals would know it.

    Args:
        texts: the texts table, without its `test` rows.
        plan: the release's cuts.
    """
    if TIMESTAMP in texts.columns:
        texts = texts.filter((pl.col(TIMESTAMP) < plan.encoder_end) | pl.col(TIMESTAMP).is_null())
    if SPLIT not in texts.columns:
        held = _held_out(texts, plan)
        return texts.filter(~held), texts.filter(held)
    assert not texts[SPLIT].eq(TEST).any(), "test rows are taken out before anything is split"
    free = texts[SPLIT].is_null()
    held = texts[SPLIT].ne_missing(TRAIN).to_numpy()
    held[free.to_numpy()] = _held_out(texts.filter(free), plan)
    return texts.filter(~held), texts.filter(held)


def _held_out(texts: pl.DataFrame, plan: TimePlan) -> Bool:
    """Return which texts without a split are held out, bool `[n]`: by their dates where those make two parts."""
    if TIMESTAMP in texts.columns:
        late: Bool = (texts[TIMESTAMP] >= plan.encoder_validation).to_numpy()
        if 0 < late.sum() < len(late):
            return late
    return held_out_ids(texts[TEXT_ID])


def held_out_ids(ids: pl.Series, one_in: int = _HELD_OUT_IN) -> Bool:
    """Return which ids are held out, bool `[n]`: one in ten by a hash, so that an id never changes sides.

    Polars' own hash may change with its version.
    """
    held: Bool = _numbers(ids) % one_in == 0
    return held


def study_ids(ids: pl.Series) -> Bool:
    """Return which of the ids that are held out belong to a study's test, bool `[n]`: every other one, by the hash."""
    own: Bool = _numbers(ids) // _HELD_OUT_IN % 2 == 0
    return own


def _numbers(ids: pl.Series) -> npt.NDArray[np.uint64]:
    digests = (hashlib.blake2b(own.encode(), digest_size=8).digest() for own in ids.to_list())
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64, len(ids))
