"""What trends by segment: shares smoothed by hand, the file, and who gets which list."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.schema import UserFeatures
from retrieval import layout
from retrieval.engine import Retriever
from retrieval.segments import Segments, SegmentsError
from retrieval.sources import trending


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


# Users 0 and 1 are of segment 0, user 2 of segment 1, user 3 of none. Of items 1, 2 and 4, which are eligible:
# 0 buys 2; 1 buys 2 and 4; 2 buys 1; 3 buys 1, 4 and 3. Buyers: two of each.
OF_USER = whole(0, 0, 1, -1)
USERS, ITEMS = whole(0, 1, 1, 2, 3, 3, 3), whole(2, 2, 4, 1, 1, 4, 3)
MEMBERS = whole(1, 2, 4)


def test_a_segment_orders_by_its_own_buyers_then_by_position() -> None:
    """Segment 0 has 2, 1 and 0 buyers of items 2, 4 and 1; segment 1 one of item 1.

    All three items have the same share of all users, so smoothing changes nothing.
    """
    for smoothing in (0.0, 100.0):
        found = Segments.fit(OF_USER, USERS, ITEMS, MEMBERS, smoothing)
        assert found.items.tolist() == [[2, 4, 1], [1, 2, 4]]


def test_smoothing_blends_in_what_trends_among_all() -> None:
    """Item 1 gets a third buyer, user 4 of no segment: 3/5 of all users, 2 and 4 have 2/5.

    Segment 0 with smoothing s: item 1 has .6 s, item 4 has 1 + .4 s, item 2 has 2 + .4 s. At 4 item 4 is before item
    1 (2.6, 2.4), at 6 behind it (3.4, 3.6), at 20 item 1 leads (12, 10).
    """
    users, items = np.append(USERS, 4).astype(np.int32), np.append(ITEMS, 1).astype(np.int32)
    of_user = np.append(OF_USER, -1).astype(np.int32)
    orders = {s: Segments.fit(of_user, users, items, MEMBERS, s).items[0].tolist() for s in (4.0, 6.0, 20.0)}
    assert orders == {4.0: [2, 4, 1], 6.0: [2, 1, 4], 20.0: [1, 2, 4]}


def test_what_trends_in_the_segment_comes_before_what_trends_among_all() -> None:
    allowed = np.array([True, True, True, False, True])
    found = trending(whole(0, 1, 2, 3, 4), 4, allowed, first=whole(3, 4, 1))
    assert found.items.tolist() == [4, 1, 0, 2]
    assert trending(whole(0, 1, 2, 3, 4), 1, allowed, first=whole(3, 4, 1)).items.tolist() == [4]


def test_the_file_holds_both_arrays_and_must_be_of_the_releases_users(tmp_path: Path) -> None:
    fitted = Segments.fit(OF_USER, USERS, ITEMS, MEMBERS, 10)
    assert Segments.load(tmp_path / "segments.npz", 4) is None
    fitted.save(tmp_path / "segments.npz")
    found = Segments.load(tmp_path / "segments.npz", 4)
    assert found is not None
    np.testing.assert_array_equal(found.items, fitted.items)
    np.testing.assert_array_equal(found.of_user, OF_USER)
    with pytest.raises(SegmentsError, match="expected the segments of 5 users, found 4"):
        Segments.load(tmp_path / "segments.npz", 5)


def test_a_user_without_a_value_gets_what_trends_among_all(
    release: Path, tmp_path: Path, retriever: Retriever, features: Callable[..., UserFeatures]
) -> None:
    copy = shutil.copytree(release, tmp_path / "copy")
    members = retriever.snapshot.eligible_positions
    of_user = np.full(40, -1, np.int32)
    of_user[3] = 1
    Segments(of_user=of_user, items=np.stack([members[:50], members[-50:]])).save(copy / layout.SEGMENTS)
    by_segment = Retriever.load(copy)

    def named(user: UserFeatures) -> list[int]:
        return by_segment.candidates(user, 60, sources=["trending"]).candidates.items.tolist()

    everyone = retriever.candidates(features(4), 60, sources=["trending"]).candidates.items.tolist()
    own = members[-50:].tolist()
    assert named(features(3)) == [*own, *[item for item in everyone if item not in own][:10]]
    for other in (features(4), dataclasses.replace(features(3), user_id="newcomer")):
        assert named(other) == everyone
