"""Campaigns: when they run and whom they address, their places among candidates, and what a release makes of them."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from features.filters.items import NamedItemsError
from features.schema import UserFeatures
from retrieval import layout
from retrieval.campaigns import Audiences, AudiencesError, Campaign, put_forward
from retrieval.config import RetrievalConfig
from retrieval.contract import Limits, SourceName
from retrieval.engine import Retriever
from retrieval.index import IndexUnavailableError
from retrieval.quota import Source
from retrieval.sources import Candidates
from tests.retrieval.conftest import DEPARTMENTS, World

MAY, JUNE = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)


def test_a_window_begins_at_its_start_and_is_over_at_its_end() -> None:
    campaign = Campaign(items="organic", starts=MAY, ends=JUNE)
    second = timedelta(seconds=1)
    assert [campaign.runs(t) for t in (MAY - second, MAY, JUNE - second, JUNE)] == [False, True, True, False]
    assert Campaign(items="organic").runs(MAY)
    assert Campaign(items="organic", ends=MAY).runs(MAY - second)


def test_a_time_without_a_zone_is_utc() -> None:
    campaign = Campaign.model_validate({"items": "organic", "starts": "2024-05-01", "ends": "2024-06-01T09:00+09:00"})
    assert campaign.starts == MAY
    assert campaign.ends == datetime(2024, 6, 1, 9, tzinfo=timezone(timedelta(hours=9)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"items": "organic and"}, "items"),
        ({"items": "organic", "starts": "2024-05-01", "ends": "2024-05-01"}, "expected a time after starts"),
        ({"items": "organic", "places": 0}, "places"),
        ({"items": "organic", "until": "2024-05-01"}, "until"),
        ({}, "items"),
    ],
)
def test_what_is_no_campaign_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Campaign.model_validate(wrong)


def test_a_name_is_a_word() -> None:
    with pytest.raises(ValidationError, match="campaigns"):
        RetrievalConfig.model_validate({"campaigns": {"May sale": {"items": "organic"}}})


def test_places_are_in_proportion_rounded_up() -> None:
    campaign = Campaign(items="organic", places=10)
    assert [campaign.room(k) for k in (1, 50, 51, 500, 1000)] == [1, 1, 2, 10, 20]


def _candidates(*items: int) -> Candidates:
    return Candidates(
        items=np.array(items, np.int32),
        scores=np.linspace(0.9, 0.5, len(items)).astype(np.float32),
        sources=np.full(len(items), int(Source.REPEAT), np.uint8),
    )


def _lists(*lists: list[int]) -> list[np.ndarray]:
    return [np.array(items, np.int32) for items in lists]


def test_the_last_that_no_campaign_names_make_room() -> None:
    """Of 5 places two campaigns name 4 and 8, and 2 and 9: 8 and 9 are new, so 3 and 5 go; 2 and 4 are marked."""
    found = put_forward(_candidates(1, 2, 3, 4, 5), _lists([4, 8], [2, 9]), 5)
    assert found.items.tolist() == [1, 2, 4, 8, 9]
    repeat, own = int(Source.REPEAT), int(Source.CAMPAIGN)
    assert found.sources.tolist() == [repeat, repeat | own, repeat | own, own, own]
    # The last that stays is 4, with .6.
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.6, 0.3, 0.2])


def test_where_there_is_room_nothing_goes() -> None:
    assert put_forward(_candidates(1, 2), _lists([7]), 5).items.tolist() == [1, 2, 7]
    base = _candidates(1, 2)
    assert put_forward(base, [], 2) is base
    assert put_forward(base, _lists([], []), 2) is base


def test_the_first_of_each_campaign_come_before_the_second_of_any() -> None:
    found = put_forward(_candidates(), _lists([1, 2, 3], [4, 2, 5]), 4)
    assert found.items.tolist() == [1, 4, 2, 3]
    assert found.scores.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 4, 1 / 5])


_POSITIONS = st.lists(st.integers(0, 30), unique=True, max_size=12)


@given(base=_POSITIONS, lists=st.lists(_POSITIONS, max_size=3), k=st.integers(1, 15))
def test_every_listed_item_is_there_as_far_as_there_is_room(base: list[int], lists: list[list[int]], k: int) -> None:
    base = base[:k]
    found = put_forward(_candidates(*base), _lists(*lists), k)
    items = found.items.tolist()
    listed = {item for own in lists for item in own}
    assert len(set(items)) == len(items) == min(k, len(listed | set(base)))
    marked = {item for item, bits in zip(items, found.sources.tolist(), strict=True) if bits & Source.CAMPAIGN}
    assert marked == listed & set(items)
    assert len(marked) == min(k, len(listed))
    assert (np.diff(found.scores) <= 0).all()
    assert [item for item in items if item in base] == [item for item in base if item in items]


def test_audiences_come_back_and_must_be_the_releases_own(tmp_path: Path) -> None:
    declared = {
        "file": Campaign(items="organic", users="old"), "all": Campaign(items="organic"),
        "young": Campaign(items="organic", users="not old"),
    }  # fmt: skip
    path = tmp_path / "items" / "audiences.npz"
    assert Audiences.load(path, {"all": declared["all"]}, 3).members == {}
    Audiences(members={"file": np.array([True, False, False]), "young": np.array([False, True, False])}).save(path)
    found = Audiences.load(path, declared, 3)
    asked = [(name, user) for name in declared for user in (0, 1, 2, None)]
    assert [pair for pair in asked if found.holds(*pair)] == [
        ("file", 0), ("all", 0), ("all", 1), ("all", 2), ("all", None), ("young", 1),
    ]  # fmt: skip
    with pytest.raises(AudiencesError, match="expected the 4 users' part in campaign file, found none"):
        Audiences.load(path, declared, 4)
    with pytest.raises(AudiencesError, match="in campaign late, found none"):
        Audiences.load(path, {"late": declared["file"]}, 3)


Features = Callable[..., UserFeatures]
Made = Callable[[Mapping[str, Campaign]], Retriever]


@pytest.fixture
def with_campaigns(release: Path, retriever: Retriever, tmp_path: Path) -> Made:
    """Return a function from campaigns to the small release with them, read from its files."""

    def make(declared: Mapping[str, Campaign]) -> Retriever:
        copy = shutil.copytree(release, tmp_path / "copy")
        config = RetrievalConfig(campaigns=dict(declared))
        (copy / layout.RETRIEVAL_CONFIG).write_bytes(config.model_dump_json().encode())
        addressed = np.arange(40) < 20
        Audiences(members={"deals": addressed}).save(copy / layout.AUDIENCES)
        return Retriever.load(copy, load_encoder=retriever.texts.load)

    return make


# User 3 likes two of the six departments; this one is neither.
def _foreign(user: UserFeatures) -> str:
    liked = np.bincount(user.items % 6, minlength=6).argsort()[-2:]
    return next(name for group, name in enumerate(DEPARTMENTS) if group not in liked)


def test_a_campaign_has_its_places_while_it_runs(
    with_campaigns: Made, retriever: Retriever, features: Features, world: World
) -> None:
    user = features(3)
    department = _foreign(user)
    own = np.array([name == department for name in world.snapshot.attributes["department"]])
    found = with_campaigns({"deals": Campaign(items=f'department == "{department}"', starts=MAY, ends=JUNE, places=80)})
    assert found.sources == ("semantic", "collaborative", "repeat", "trending", "campaign")
    before, during = (found.candidates(user, 50, now=t).candidates for t in (MAY - timedelta(days=1), MAY))
    plain = retriever.candidates(user, 50, now=MAY).candidates
    np.testing.assert_array_equal(before.items, plain.items)
    np.testing.assert_array_equal(before.sources, plain.sources)
    named = during.items[during.sources & Source.CAMPAIGN > 0]
    assert len(during) == 50
    assert len(named) == 8
    assert own[named].all()
    assert own[plain.items].sum() < 8
    # They are what the release would name if it had no other items.
    alone = retriever.candidates(user, 8, limits=Limits(filter=f'department == "{department}"'), now=MAY).candidates
    assert set(named.tolist()) == set(alone.items.tolist())


def test_who_is_not_addressed_gets_nothing_of_it(with_campaigns: Made, features: Features) -> None:
    found = with_campaigns({"deals": Campaign(items="organic", users="any")})
    marks = [
        bool((found.candidates(user, 50).candidates.sources & Source.CAMPAIGN).any())
        for user in (features(3), features(30), UserFeatures.unknown("nobody"))
    ]
    assert marks == [True, False, False]


def test_campaigns_alone_may_be_asked_for(with_campaigns: Made, features: Features, world: World) -> None:
    found = with_campaigns({"late": Campaign(items="organic", starts=JUNE)})
    user = features(3)
    alone = found.candidates(user, 500, sources=["campaign"], now=JUNE)
    organic = world.snapshot.attributes["organic"].to_numpy() & world.snapshot.eligible
    assert sorted(alone.candidates.items.tolist()) == np.flatnonzero(organic).tolist()
    assert (alone.candidates.sources == Source.CAMPAIGN).all()
    assert not alone.degraded
    none = found.candidates(user, 20, sources=["campaign"], now=MAY)
    assert none.degraded == ("sources_empty",)
    assert (none.candidates.sources == Source.TRENDING).all()


def test_limits_hold_for_campaigns_too(with_campaigns: Made, features: Features, world: World) -> None:
    found = with_campaigns({"late": Campaign(items="organic", places=500)})
    limits = Limits(filter='department == "DELI"', exclude_bought=True)
    user = features(3)
    answer = found.candidates(user, 100, limits=limits).candidates
    departments = world.snapshot.attributes["department"].to_list()
    assert {departments[item] for item in answer.items} == {"DELI"}
    assert not np.isin(answer.items, user.items).any()


def test_a_text_or_an_item_is_answered_without_campaigns(with_campaigns: Made) -> None:
    found = with_campaigns({"late": Campaign(items="organic")})
    for query in ({"text": "DELI"}, {"item_id": "item-7"}):
        answer = found.candidates(None, 20, **query).candidates  # type: ignore[arg-type]
        assert not (answer.sources & Source.CAMPAIGN).any()


def test_a_filter_that_does_not_fit_the_items_is_refused_at_loading(with_campaigns: Made) -> None:
    with pytest.raises(NamedItemsError, match=r"candidates: campaigns: late: items: .*unknown attribute 'organik'"):
        with_campaigns({"late": Campaign(items="organik")})


def test_one_that_names_no_item_is_warned_of(with_campaigns: Made) -> None:
    with capture_logs() as logs:
        with_campaigns({"late": Campaign(items='brand == "Privat"'), "now": Campaign(items="organic")})
    found = [line for line in logs if line["event"] == "campaign_without_items"]
    assert [(line["campaign"], line["items"]) for line in found] == [("late", 'brand == "Privat"')]


def test_an_index_out_of_reach_leaves_campaigns_to_the_other_sources(
    with_campaigns: Made, features: Features, world: World
) -> None:
    found = with_campaigns({"late": Campaign(items="organic")})

    def refuse(*_: object) -> None:
        raise IndexUnavailableError("milvus: connection refused")

    broken = copy.copy(found.index)
    object.__setattr__(broken, "search", refuse)
    cut_off = dataclasses.replace(found, index=broken)
    organic = world.snapshot.attributes["organic"].to_numpy()
    asked: list[list[SourceName]] = [["campaign"], ["semantic", "campaign"]]
    for sources in asked:
        answer = cut_off.candidates(features(3), 20, sources=sources)
        assert answer.degraded == ("index_unavailable",)
        assert len(answer.candidates) == 20
        assert organic[answer.candidates.items].all()
