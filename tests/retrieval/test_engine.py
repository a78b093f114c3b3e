"""The retriever: who gets what, what falls back to what, and that no filter empties an answer."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.filters.errors import FilterError
from features.schema import UserFeatures
from retrieval import layout
from retrieval.config import RetrievalConfig
from retrieval.contract import Limits
from retrieval.engine import ReleasePartError, Retriever
from retrieval.lazy_encoder import EncoderUnavailableError
from retrieval.quota import ALWAYS, Source, SourceQuota, source_names
from retrieval.snapshot import UnknownItemError

Features = Callable[..., UserFeatures]


def test_a_known_user_gets_all_sources(retriever: Retriever, features: Features) -> None:
    found = retriever.candidates(features(3), 60)
    candidates = found.candidates
    assert found.degraded == ()
    assert len(candidates) == len(np.unique(candidates.items)) == 60
    assert retriever.snapshot.eligible[candidates.items].all()
    assert np.all(np.diff(candidates.scores) <= 0)
    for source in map(Source.named, ALWAYS):
        assert (candidates.sources & source).any()
    own = set(features(3).items.tolist())
    for item, bits in zip(candidates.items.tolist(), candidates.sources.tolist(), strict=True):
        assert not bits & Source.REPEAT or item in own


def test_candidates_are_of_the_users_groups(retriever: Retriever, features: Features, world: Any) -> None:
    for user in range(10):
        liked = np.bincount(features(user).items % 6, minlength=6).argsort()[-2:]
        for source in ("semantic", "collaborative"):
            found = retriever.candidates(features(user), 20, sources=[source]).candidates
            assert np.isin(world.groups[found.items], liked).mean() > 0.8


def test_answers_are_deterministic(retriever: Retriever, release: Path, features: Features) -> None:
    again = Retriever.load(release)
    for user in range(5):
        one, other = (r.candidates(features(user), 50).candidates for r in (retriever, again))
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.sources, other.sources)


@given(
    user=st.integers(0, 39),
    k=st.sampled_from([1, 10, 200, 10_000]),
    department=st.sampled_from(["GROCERY", "DELI", "none such"]),
    brand=st.sampled_from([' and brand == "National"', " and brand is missing", ""]),
    excluded=st.lists(st.integers(-5, 305), max_size=40),
    sources=st.one_of(st.none(), st.lists(st.sampled_from(ALWAYS), min_size=1, unique=True)),
)
@settings(max_examples=80, deadline=None)
def test_every_constraint_holds_before_the_cut(
    retriever: Retriever,
    features: Features,
    user: int,
    k: int,
    department: str,
    brand: str,
    excluded: Any,
    sources: Any,
) -> None:
    snapshot = retriever.snapshot
    exclude = [f"item-{i}" for i in excluded]
    text = f'department == "{department}"{brand}'
    found = retriever.candidates(features(user), k, limits=Limits(filter=text, exclude=exclude), sources=sources)
    allowed = snapshot.eligible & (snapshot.attributes["department"] == department).to_numpy()
    if brand:
        column = snapshot.attributes["brand"]
        allowed &= (column.is_null() if "missing" in brand else (column == "National").fill_null(False)).to_numpy()
    allowed[[i for i in excluded if 0 <= i < len(snapshot)]] = False
    items = found.candidates.items
    assert allowed[items].all()
    assert len(np.unique(items)) == len(items) <= k
    # The semantic and the trending source reach every allowed item, so only what is not allowed can be missing.
    if sources is None or {"semantic", "trending"} & set(sources):
        assert len(items) == min(k, allowed.sum())
    elif allowed.any():
        assert len(items)


def test_what_the_user_has_bought_can_be_left_out(retriever: Retriever, features: Features) -> None:
    user = features(3)
    found = retriever.candidates(user, 500, limits=Limits(exclude_bought=True)).candidates
    own = set(user.items.tolist())
    eligible = set(retriever.snapshot.eligible_positions.tolist())
    assert own & eligible
    assert set(found.items.tolist()) == eligible - own
    assert not (found.sources & Source.REPEAT).any()


def test_only_listed_items_may_be_allowed(retriever: Retriever, features: Features) -> None:
    allow = [f"item-{i}" for i in range(0, 300, 7)]
    found = retriever.candidates(features(3), 500, limits=Limits(allow=[*allow, "none such"])).candidates
    expected = [i for i in range(0, 300, 7) if retriever.snapshot.eligible[i]]
    assert sorted(found.items.tolist()) == expected


def test_items_come_and_go_by_the_clock(retriever: Retriever, features: Features) -> None:
    """Items of department 2 begin a day after the release's time, those of department 3 end then."""
    snapshot = retriever.snapshot
    day = snapshot.as_of + timedelta(days=1)
    group = snapshot.category_codes
    starts = pl.Series([day if code == 2 else None for code in group])
    ends = pl.Series([day if code == 3 else None for code in group])
    attributes = snapshot.attributes.with_columns(starts.alias("available_from"), ends.alias("available_to"))
    timed = dataclasses.replace(retriever, snapshot=dataclasses.replace(snapshot, attributes=attributes))
    for now, hidden in ((None, 2), (day - timedelta(microseconds=1), 2), (day, 3)):
        found = timed.candidates(features(3), 500, now=now).candidates.items
        near = timed.nearest(retriever.item_vectors[0], 500, now=now).items
        expected = np.flatnonzero(snapshot.eligible & (group != hidden))
        np.testing.assert_array_equal(np.sort(found), expected)
        np.testing.assert_array_equal(np.sort(near), expected)


def test_few_exclusions_need_no_mask(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = retriever.item_vectors[0]
    nearest = retriever.nearest(vector, 30).items
    limits = Limits(exclude=[retriever.snapshot.item_ids[item] for item in nearest[::2]])
    masked = retriever.nearest(vector, 15, limits)
    monkeypatch.setattr("retrieval.searchable._MASKED_ITEMS", 1)
    dropped = retriever.nearest(vector, 15, limits)
    np.testing.assert_array_equal(dropped.items, masked.items)
    np.testing.assert_allclose(dropped.scores, masked.scores, atol=1e-6)
    np.testing.assert_array_equal(dropped.items, nearest[1::2])


def test_a_source_fills_what_another_lacks(retriever: Retriever, features: Features) -> None:
    """Of 10 places the repeat list's share is 7, which users who bought fewer items under the filter can't fill."""
    text = 'department == "DELI"'
    allowed = retriever.snapshot.eligible & (retriever.snapshot.attributes["department"] == "DELI").to_numpy()
    assert allowed.sum() > 10
    short = 0
    for user in range(40):
        found = retriever.candidates(
            features(user), 10, limits=Limits(filter=text), sources=["repeat", "semantic"]
        ).candidates
        assert len(found) == 10
        short += int((found.sources & Source.REPEAT > 0).sum() < 6)
    assert short


def test_an_unknown_user_gets_what_trends(retriever: Retriever) -> None:
    found = retriever.candidates(UserFeatures.unknown("nobody"), 20)
    assert found.degraded == ("unknown_user",)
    assert len(found.candidates) == 20
    assert (found.candidates.sources == Source.TRENDING).all()
    column = retriever.snapshot.stats[found.candidates.items, 2]
    assert np.all(np.diff(column) <= 0)


def test_features_may_be_missing_for_a_user_of_the_release(retriever: Retriever) -> None:
    found = retriever.candidates(UserFeatures.unknown("user-3"), 40)
    assert found.degraded == ()
    assert (found.candidates.sources & Source.SEMANTIC).any()
    assert (found.candidates.sources & Source.COLLABORATIVE).any()
    assert not (found.candidates.sources & Source.REPEAT).any()


def test_a_user_newer_than_the_release_is_served_from_history(
    retriever: Retriever, features: Features, world: Any
) -> None:
    found = retriever.candidates(features(3, user_id="newcomer"), 40)
    assert found.degraded == ("user_not_in_release",)
    for source in map(Source.named, ALWAYS):
        assert (found.candidates.sources & source).any()
    liked = np.bincount(features(3).items % 6, minlength=6).argsort()[-2:]
    semantic = found.candidates.items[found.candidates.sources & Source.SEMANTIC > 0]
    assert np.isin(world.groups[semantic], liked).mean() > 0.8


def test_an_event_moves_the_collaborative_list_of_a_user_of_the_release(
    retriever: Retriever, features: Features
) -> None:
    """The ALS vector is folded in from the history given, and the release's own where there is none."""
    model = retriever.collaborative
    assert model is not None
    query, _ = retriever._asking.query(features(3), None, None)
    np.testing.assert_array_equal(query.factor, model.fold_in(*retriever.history(features(3))))
    query, _ = retriever._asking.query(UserFeatures.unknown("user-3"), None, None)
    np.testing.assert_array_equal(query.factor, model.user_vector(3))


def test_an_event_counts_in_the_next_request(retriever: Retriever, features: Features, world: Any) -> None:
    """User 3, who likes two other groups, now has an item of a third as the latest: others near it come up.

    Of six places the user's own vector has three and each of the three latest items one: of 30, five.
    """
    user = features(3)
    liked = np.bincount(user.items % 6, minlength=6).argsort()[-2:]
    other = next(group for group in range(6) if group not in liked)
    members = retriever.snapshot.eligible_positions
    bought = int(members[(world.groups[members] == other) & ~np.isin(members, user.items)][0])
    after = dataclasses.replace(
        user,
        items=np.concatenate([[bought], user.items]).astype(np.int32),
        history=np.concatenate([np.ones_like(user.history[:1]), user.history]),
    )
    before, now = (retriever.candidates(row, 30, sources=["semantic"]).candidates.items for row in (user, after))
    assert (world.groups[before] == other).sum() == 0
    assert (world.groups[now] == other).sum() == 5
    still = dataclasses.replace(retriever, config=RetrievalConfig(recent_queries=0))
    unchanged = [still.candidates(row, 30, sources=["semantic"]).candidates.items for row in (user, after)]
    np.testing.assert_array_equal(*unchanged)


def test_history_newer_than_the_release_is_left_out(retriever: Retriever, features: Features) -> None:
    user = features(3)
    grown = dataclasses.replace(
        user,
        items=np.concatenate([[10_000], user.items]).astype(np.int32),
        history=np.concatenate([user.history[:1], user.history]),
    )
    one, other = (retriever.candidates(row, 50).candidates for row in (user, grown))
    np.testing.assert_array_equal(one.items, other.items)


def test_text(retriever: Retriever, world: Any) -> None:
    found = retriever.candidates(None, 30, text="DELI")
    assert found.degraded == ()
    assert (found.candidates.sources == Source.SEMANTIC).all()
    assert (world.groups[found.candidates.items] == 3).mean() > 0.9


def test_text_stands_in_for_the_users_vector(retriever: Retriever, features: Features, world: Any) -> None:
    found = retriever.candidates(features(3), 30, text="FLORAL", sources=["semantic"]).candidates
    assert (world.groups[found.items] == 4).mean() > 0.9
    unknown = retriever.candidates(UserFeatures.unknown("nobody"), 30, text="FLORAL")
    assert unknown.degraded == ("unknown_user",)
    assert (unknown.candidates.sources & Source.SEMANTIC).any()


def test_text_without_an_encoder_falls_back(release: Path, features: Features) -> None:
    bare = Retriever.load(release)
    assert bare.heads is None
    with pytest.raises(EncoderUnavailableError):
        bare.texts.encode(["DELI"])
    found = bare.candidates(None, 10, text="DELI")
    assert found.degraded == ("encoder_unavailable",)
    assert (found.candidates.sources == Source.TRENDING).all()
    user = bare.candidates(features(3), 10, text="DELI")
    assert user.degraded == ("encoder_unavailable",)
    assert (user.candidates.sources & Source.REPEAT).any()


def test_similar(retriever: Retriever, world: Any) -> None:
    found = retriever.similar("item-12", 25)
    assert found.degraded == ()
    items = found.candidates.items
    assert 12 not in items
    assert (world.groups[items] == 0).mean() > 0.8
    assert (found.candidates.sources & Source.COLLABORATIVE).any()
    with pytest.raises(UnknownItemError):
        retriever.similar("item-999", 5)


def test_sources_that_have_nothing_fall_back(retriever: Retriever) -> None:
    found = retriever.candidates(UserFeatures.unknown("nobody"), 5, sources=["repeat"])
    assert found.degraded == ("unknown_user", "sources_empty")
    assert len(found.candidates) == 5
    nothing = retriever.candidates(UserFeatures.unknown("nobody"), 5, limits=Limits(filter='department == "?"'))
    assert len(nothing.candidates) == 0


def test_a_bad_filter_is_the_callers_mistake(retriever: Retriever, features: Features) -> None:
    with pytest.raises(FilterError, match="did you mean 'department'"):
        retriever.candidates(features(0), 5, limits=Limits(filter='departmant == "MEAT"'))


def test_ids_and_vectors(retriever: Retriever, world: Any) -> None:
    assert retriever.position("item-7") == 7
    assert retriever.user_position("user-9") == 9
    assert retriever.user_position("nobody") is None
    np.testing.assert_array_equal(retriever.user_vector("user-9"), world.user_vectors[9])
    assert retriever.user_vector("nobody") is None


def test_config_travels_with_the_release(release: Path, tmp_path: Path, features: Features) -> None:
    copy = shutil.copytree(release, tmp_path / "copy")
    config = RetrievalConfig(quota=SourceQuota(trending=0, semantic=0, collaborative=0))
    (copy / layout.RETRIEVAL_CONFIG).write_text(config.model_dump_json(), encoding="utf-8")
    retriever = Retriever.load(copy)
    assert retriever.config == config
    own = features(3).items
    found = retriever.candidates(features(3), 5).candidates
    assert np.isin(found.items, own).all()


def test_parts_of_other_sizes_are_refused(release: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(release, tmp_path / "copy")
    np.save(copy / layout.USER_VECTORS, np.zeros((3, 16), np.float32))
    with pytest.raises(ReleasePartError, match="40 users"):
        Retriever.load(copy)
    (copy / layout.RETRIEVAL_CONFIG).write_text('{"history_weight": "decayed_9"}', encoding="utf-8")
    shutil.copy(release / layout.USER_VECTORS, copy / layout.USER_VECTORS)
    with pytest.raises(ReleasePartError, match="unknown history statistic 'decayed_9'; did you mean 'decayed_90'"):
        Retriever.load(copy)


@pytest.fixture
def shopless(retriever: Retriever, release: Path, tmp_path: Path) -> Retriever:
    """Only what items and texts make of a release: nobody is in it."""
    copy = tmp_path / "shopless"
    for name in (layout.ITEM_VECTORS, layout.SNAPSHOT, f"{layout.INDEX_DIR}/{layout.INDEX_META}"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
    for path in (release / layout.ITEM_VECTORS, release / layout.SNAPSHOT, *(release / layout.INDEX_DIR).iterdir()):
        shutil.copy(path, copy / path.relative_to(release))
    return Retriever.load(copy, load_encoder=retriever.texts.load)


def test_without_events_texts_and_items_find_by_meaning_alone(retriever: Retriever, shopless: Retriever) -> None:
    assert (retriever.parts, shopless.parts) == (("encoder", "items", "users"), ("encoder", "items"))
    found = shopless.candidates(None, 10, text="DELI")
    assert len(found.candidates) == 10
    np.testing.assert_array_equal(found.candidates.items, retriever.candidates(None, 10, text="DELI").candidates.items)
    similar = shopless.similar("item-4", 5).candidates
    assert {name for bits in similar.sources.tolist() for name in source_names(bits)} == {"semantic"}
    assert shopless.position("item-4") not in similar.items


def test_without_events_nothing_trends(shopless: Retriever) -> None:
    """Where the text can't be encoded, a release that has seen no user has nothing to fall back on."""
    shopless.texts.load = None
    found = shopless.candidates(None, 10, text="DELI")
    assert len(found.candidates) == 0
    assert found.degraded == ("encoder_unavailable",)
