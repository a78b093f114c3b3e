from __future__ import annotations

from dataclasses import replace

from features.schema import UserFeatures
from infra.errors import UnavailableError
from ranking.users import UserReader


class Online:
    """Holds users a to c, until it is cut off."""

    reachable = True

    def online_user(self, user_id: str) -> UserFeatures:
        if not self.reachable:
            raise UnavailableError("online store: connection refused")
        user = UserFeatures.unknown(user_id)
        return replace(user, known=True) if user_id in "abc" else user


def test_the_rows_read_last_are_remembered() -> None:
    online = Online()
    reader = UserReader(online, kept=2)
    for user_id in ("a", "b", "a", "c"):  # b is the one read longest ago when c comes
        assert reader.read(user_id)[1] == []
    assert reader.read("zed")[1] == ["unknown_user"]
    online.reachable = False
    assert reader.read("a")[1] == ["features_unavailable", "stale_features"]
    assert reader.read("c")[0].known
    user, degraded = reader.read("b")
    assert (user.known, degraded) == (False, ["features_unavailable"])
