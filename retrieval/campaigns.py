"""Campaigns: items that a business puts forward for a while, with places of their own among a user's candidates."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from features.filters.errors import FilterError
from features.filters.items import FilterText, NamedItemsError
from features.schema import Int32
from infra.errors import InvalidInputError
from infra.files import write_atomic
from retrieval.quota import PER, Source
from retrieval.sources import Candidates

Mask = npt.NDArray[np.bool_]

_BIT: Final = np.uint8(Source.CAMPAIGN)


class AudiencesError(InvalidInputError):
    """A release's audiences are not of its users or its campaigns."""


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]


class Campaign(BaseModel):
    """What is put forward, to whom and when.

    Attributes:
        items: a filter over the items' attributes and statistics, of the items as they are at each request.
        users: a filter over the users' columns, as they are when a release is built; None addresses everybody, also who
            came later.
        starts: from when, by the clock of each request; UTC where no zone is given. None: from ever.
        ends: until when, not included; None: for good.
        places: of `PER` candidates so many are the campaign's best for the user, as far as it has so many that the
            request allows; in proportion for other k, rounded up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: FilterText
    users: FilterText | None = None
    starts: Moment | None = None
    ends: Moment | None = None
    places: int = Field(10, ge=1, le=PER)

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.starts is not None and self.ends is not None and self.ends <= self.starts:
            raise ValueError(f"ends: expected a time after starts ({self.starts.isoformat()}), found {self.ends}")
        return self

    def runs(self, now: datetime) -> bool:
        """Return whether an aware time lies in `[starts, ends)`."""
        return (self.starts is None or self.starts <= now) and (self.ends is None or now < self.ends)

    def room(self, k: int) -> int:
        """Return its places among `k` candidates."""
        return math.ceil(self.places * k / PER)


@dataclass(frozen=True, kw_only=True, eq=False)
class Audiences:
    """Whom the campaigns address that don't address everybody.

    Attributes:
        members: by campaign, bool `[n_users]`.
    """

    members: Mapping[str, Mask]

    def holds(self, campaign: str, user: int | None) -> bool:
        """Return whether a campaign addresses the user at a position; None, who is not of the release, by none here."""
        members = self.members.get(campaign)
        return members is None or (user is not None and bool(members[user]))

    def save(self, path: Path) -> None:
        """Write the masks, and whose they are, as one `.npz` file, atomically."""
        buffer = io.BytesIO()
        np.savez(buffer, names=np.array(list(self.members)), members=np.stack(list(self.members.values())))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path, campaigns: Mapping[str, Campaign], users: int) -> Self:
        """Read what `save` wrote.

        Args:
            path: the file; not read where every campaign addresses everybody.
            campaigns: of the release.
            users: how many the release holds.

        Raises:
            AudiencesError: it lacks a campaign's audience, or is of another number of users.
        """
        wanted = [name for name, campaign in campaigns.items() if campaign.users is not None]
        if not wanted:
            return cls(members={})
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(zip(arrays["names"].tolist(), arrays["members"], strict=True))
        wrong = [name for name in wanted if name not in found or found[name].shape != (users,)]
        if wrong:
            raise AudiencesError(f"{path}: expected the {users} users' part in campaign {wrong[0]}, found none")
        return cls(members=found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Running:
    """A campaign that takes part in an answer.

    Attributes:
        campaign: as declared.
        items: bool `[n_items]`, read-only: what it names.
    """

    campaign: Campaign
    items: Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Campaigns:
    """A release's campaigns, and what each names of the items of now.

    Attributes:
        declared: by name.
        audiences: whom they address.
        items: by name, bool `[n_items]`, read-only.
    """

    declared: Mapping[str, Campaign]
    audiences: Audiences
    items: Mapping[str, Mask]

    @classmethod
    def of(cls, declared: Mapping[str, Campaign], audiences: Audiences, matching: Callable[[str], Mask]) -> Self:
        """Look up what the campaigns name.

        Args:
            declared: by name.
            audiences: whom they address.
            matching: from a filter to the items that satisfy it.

        Raises:
            NamedItemsError: a filter doesn't fit the items.
        """
        items = {}
        for name, campaign in declared.items():
            try:
                items[name] = matching(campaign.items)
            except FilterError as error:
                raise NamedItemsError(f"candidates: campaigns: {name}: items: {error}") from None
        return cls(declared=declared, audiences=audiences, items=items)

    @property
    def empty(self) -> list[str]:
        """Campaigns that name no item."""
        return [name for name, mask in self.items.items() if not mask.any()]

    def running(self, now: datetime, user: int | None) -> list[Running]:
        """Return the campaigns that address a user now.

        Args:
            now: aware time.
            user: position in the release, None for who is not in it.
        """
        return [
            Running(campaign=campaign, items=self.items[name])
            for name, campaign in self.declared.items()
            if campaign.runs(now) and self.audiences.holds(name, user)
        ]


def put_forward(base: Candidates, lists: Sequence[Int32], k: int) -> Candidates:
    """Return `k` candidates at most that hold every list, in place of the last of those that no list holds.

    Items of a list that the base lacks follow behind it, since their scores are of another scale, the first of each
    list first; a list longer than k is cut.

    Args:
        base: at most `k` candidates.
        lists: int32 `[n]` distinct positions each, best first.
        k: how many.
    """
    places = np.concatenate([np.arange(len(items)) for items in lists]) if lists else np.empty(0, np.int64)
    if not len(places):
        return base
    named = np.concatenate(lists)[np.argsort(places, kind="stable")]
    _, first = np.unique(named, return_index=True)
    named = named[np.sort(first)][:k]
    own = np.isin(base.items, named)
    new = named[~np.isin(named, base.items)]
    spare = np.flatnonzero(~own)
    keep = np.ones(len(base), bool)
    keep[spare[len(spare) - max(0, len(base) + len(new) - k) :]] = False
    scores = base.scores[keep]
    lowest = scores[-1] if len(scores) else np.float32(1)
    behind = lowest / np.arange(2, len(new) + 2, dtype=np.float32)
    return Candidates(
        items=np.concatenate([base.items[keep], new]).astype(np.int32, copy=False),
        scores=np.concatenate([scores, behind]),
        sources=np.concatenate([base.sources[keep] | own[keep] * _BIT, np.full(len(new), _BIT)]).astype(np.uint8),
    )
