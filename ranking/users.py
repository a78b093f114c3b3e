"""One online read of a user's features per request, with the last known row when the store can't be read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Protocol

from features.schema import UserFeatures
from infra.errors import UnavailableError
from ranking.contract import RankDegraded

# A row of 300 history items is about 12 KB: 24 MB at most.
_KEPT: Final = 2_000


class UserFeatureSource(Protocol):
    """The online store: `features.store.FeatureStore`, or the frames of a cut in a flow."""

    def online_user(self, user_id: str) -> UserFeatures:
        """Return the user's features, `known=False` for an unknown one; raises `UnavailableError`."""


class ShownSource(Protocol):
    """Knows what was shown: `features.events.EventProcessor`."""

    def shown(self, user_id: str, days: float, now: datetime) -> Mapping[str, int]:
        """Return item id -> how often it was shown to the user in the last days, since her last answer to it."""


class UserReader:
    """Reads users and remembers the rows read last.

    Args:
        source: the online store.
        kept: how many users' last known rows to remember.
    """

    def __init__(self, source: UserFeatureSource, kept: int = _KEPT) -> None:
        self._source = source
        self._kept = kept
        self._rows: OrderedDict[str, UserFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, user_id: str) -> tuple[UserFeatures, list[RankDegraded]]:
        """Return the user's features and the fallbacks used; never fails for a store that can't be read.

        A row that was written under other feature lists counts as a store that can't be read.
        """
        try:
            user = self._source.online_user(user_id)
        except UnavailableError:
            return self._last_known(user_id)
        if not user.known:
            return user, ["unknown_user"]
        with self._lock:
            self._rows[user_id] = user
            self._rows.move_to_end(user_id)
            if len(self._rows) > self._kept:
                self._rows.popitem(last=False)
        return user, []

    def _last_known(self, user_id: str) -> tuple[UserFeatures, list[RankDegraded]]:
        with self._lock:
            known = self._rows.get(user_id)
        if known is not None:
            return known, ["features_unavailable", "stale_features"]
        return UserFeatures.unknown(user_id), ["features_unavailable"]
