"""The source by hand, and through the retriever of a small release: events, filters, items that change, the merge."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from features.schema import HISTORY_STATS, UserFeatures
from retrieval import layout
from retrieval.contract import Limits
from retrieval.engine import ReleasePartError, Retriever
from retrieval.learnt_merge import LearntMerge, MergeConfig, MergeRowsError, Ranked
from retrieval.live.changes import apply_changes
from retrieval.parts import MissingPartError, check_sources
from retrieval.quota import ALWAYS, SOURCES, Source
from retrieval.scope import Scope
from retrieval.sequence.runtime import SequenceFilesError
from retrieval.sequence.source import SequenceSource
from tests.retrieval.conftest import World
from tests.retrieval.live.conftest import CATALOGUE, NOW, logged
from tests.retrieval.sequence.echo import after, echo_model, next_vector

Features = Callable[..., UserFeatures]
# After an item along x, less its mean and turned, comes (-1, 1) / sqrt(2): y, then the third, the fourth, x itself.
PLANE = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]], np.float32)
ALL = np.ones(4, bool)


def positions(*items: int) -> np.ndarray:
    return np.array(items, np.int32)


def who(*items: int) -> UserFeatures:
    """Somebody who bought the first item today, the one after it a day ago, and so on."""
    history = np.zeros((len(items), len(HISTORY_STATS)), np.float32)
    history[:, HISTORY_STATS.index("count")] = 1
    for name in ("last_age_days", "first_age_days"):
        history[:, HISTORY_STATS.index(name)] = np.arange(len(items))
    return dataclasses.replace(UserFeatures.unknown("who"), known=True, items=positions(*items), history=history)


def scope(open_: np.ndarray, *excluded: int) -> Scope:
    return Scope(open=open_, excluded=positions(*excluded), absent=None)


def test_scores_by_hand() -> None:
    source = SequenceSource.of(echo_model(PLANE, turned=True), ALL, PLANE)
    vector = source.user_vector(who(0, 1))
    assert vector is not None
    found = source.ranking(vector, positions(0, 1), scope(ALL), 9)
    assert found.items.tolist() == [1, 2, 3, 0]
    # 1 / sqrt(2), (.8 - .6) / sqrt(2), and minus both.
    np.testing.assert_allclose(found.scores, [0.7071, 0.1414, -0.1414, -0.7071], atol=1e-4)
    assert source.ranking(vector, positions(0, 1), scope(ALL, 1), 2).items.tolist() == [2, 3]
    assert not len(source.ranking(vector, positions(0, 1), scope(~ALL), 9).items)


def test_what_is_never_taken_again_comes_after_all_others() -> None:
    source = SequenceSource.of(echo_model(PLANE, turned=True, again=False), ALL, PLANE)
    vector = source.user_vector(who(0, 1))
    assert vector is not None
    found = source.ranking(vector, positions(0, 1), scope(ALL), 9)
    assert found.items.tolist() == [2, 3, 1, 0]


def test_only_eligible_items_are_read_and_named() -> None:
    source = SequenceSource.of(echo_model(PLANE, turned=True), np.array([False, True, True, True]), PLANE)
    one, other = (source.user_vector(who(*items)) for items in ((0, 2, 9), (2,)))
    assert one is not None
    np.testing.assert_array_equal(one, other)
    assert source.user_vector(who(0)) is None
    # After item 2, which is more along y, comes what is along x; item 0 itself may not be named.
    assert source.ranking(one, positions(), scope(source.eligible), 9).items.tolist() == [3, 2, 1]


def test_an_item_that_came_later_is_known_by_its_text() -> None:
    texts = np.concatenate([PLANE, [[0, 5]]]).astype(np.float32)
    source = SequenceSource.of(echo_model(PLANE, turned=True), np.ones(5, bool), texts)
    vector = source.user_vector(who(0))
    assert vector is not None
    # Its vector of length 1 is that of item 1; equal scores go by position.
    assert source.ranking(vector, positions(0), scope(np.ones(5, bool)), 2).items.tolist() == [1, 4]
    # It is read, too: after it comes what is along x.
    turned = source.user_vector(who(4, 0))
    assert turned is not None
    assert source.ranking(turned, positions(), scope(np.ones(5, bool)), 1).items.tolist() == [0]


def test_scores_of_a_rankers_items() -> None:
    nan = np.nan
    for again, expected in ((True, [-0.7071, 0.1414, 0.7071]), (False, [nan, 0.1414, 0.7071])):
        source = SequenceSource.of(echo_model(PLANE, turned=True, again=again), ALL, PLANE)
        np.testing.assert_allclose(source.scores(who(0), positions(0, 2, 1)), expected, atol=1e-4)
        assert np.isnan(source.scores(who(), positions(0, 2))).all()


def test_a_model_of_other_text_vectors_is_refused() -> None:
    with pytest.raises(SequenceFilesError, match="text vectors of the release's 3 dimensions, found one of 2"):
        SequenceSource.of(echo_model(PLANE), ALL, np.zeros((4, 3), np.float32))


@pytest.fixture(scope="module")
def with_sequence(
    release: Path, retriever: Retriever, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Retriever:
    """The small release with a model that names what is like the last item, read from its files."""
    copy = shutil.copytree(release, tmp_path_factory.mktemp("sequence") / "copy")
    echo_model(world.item_vectors).save(copy / layout.SEQUENCE_DIR)
    return Retriever.load(copy, load_encoder=retriever.texts.load)


def other_group(world: World, user: UserFeatures) -> int:
    """Return an eligible item of a group that the user doesn't like and has not bought."""
    liked = np.bincount(user.items % 6, minlength=6).argsort()[-2:]
    members = world.snapshot.eligible_positions
    return int(members[~np.isin(world.groups[members], liked) & ~np.isin(members, user.items)][0])


def test_a_release_says_which_sources_it_has(with_sequence: Retriever, retriever: Retriever) -> None:
    assert with_sequence.sources == SOURCES
    assert (retriever.sources, retriever.sequence) == (ALWAYS, None)
    check_sources("r", ["sequence"], with_sequence.sources)
    with pytest.raises(MissingPartError, match="release r: expected source sequence, found a release with semantic, c"):
        check_sources("r", ["repeat", "sequence"], retriever.sources)


def test_an_event_changes_the_next_list(with_sequence: Retriever, features: Features, world: World) -> None:
    user = features(3)
    new = other_group(world, user)
    before, now = (
        with_sequence.candidates(row, 20, sources=["sequence"]).candidates for row in (user, after(user, new))
    )
    scores = world.item_vectors @ next_vector(world.item_vectors[new])
    scores[~world.snapshot.eligible] = -1
    assert now.items.tolist() == np.lexsort((np.arange(300), -scores))[:20].tolist()
    assert now.items[0] == new
    assert (now.sources == Source.SEQUENCE).all()
    assert not set(before.items.tolist()) & set(now.items.tolist())


def test_it_takes_part_in_an_ordinary_answer(with_sequence: Retriever, features: Features, world: World) -> None:
    user = after(features(3), other_group(world, features(3)))
    found = with_sequence.candidates(user, 60).candidates
    assert (found.sources & Source.SEQUENCE).any()
    assert (found.sources & Source.COLLABORATIVE).any()
    assert list(with_sequence.rankings(user)) == ["collaborative", "repeat", "trending", "sequence", "semantic"]


def test_without_a_history_it_says_nothing_and_others_fill(with_sequence: Retriever) -> None:
    nobody = UserFeatures.unknown("nobody")
    found = with_sequence.candidates(nobody, 50)
    assert len(found.candidates) == 50
    assert not (found.candidates.sources & Source.SEQUENCE).any()
    alone = with_sequence.candidates(nobody, 50, sources=["sequence"])
    assert "sources_empty" in alone.degraded
    assert (alone.candidates.sources == Source.TRENDING).all()


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("sources", [None, ["sequence"]])
def test_an_answer_is_short_only_of_what_is_not_allowed(
    with_sequence: Retriever, features: Features, sources: list[str] | None, again: bool
) -> None:
    model = echo_model(np.asarray(with_sequence.item_vectors), again=again)
    retriever = dataclasses.replace(with_sequence, sequence=model)
    limits = Limits(filter='department in ["DELI", "MEAT"]', exclude=["item-9"], exclude_bought=sources is None)
    user = features(3)
    allowed = retriever.snapshot.eligible & np.isin(np.arange(300) % 6, [2, 3])
    allowed[[9, *(user.items.tolist() if sources is None else ())]] = False
    found = retriever.candidates(user, 300, limits=limits, sources=sources).candidates.items  # type: ignore[arg-type]
    assert sorted(found.tolist()) == np.flatnonzero(allowed).tolist()


def test_items_come_and_go(with_sequence: Retriever, features: Features, world: World) -> None:
    user = after(features(3), other_group(world, features(3)))
    live = dataclasses.replace(with_sequence, catalogue=CATALOGUE)
    best = with_sequence.candidates(user, 2, sources=["sequence"]).candidates.items.tolist()
    department = world.snapshot.attributes["department"][best[0]]
    gone = (f"item-{best[0]}", {"available_to": NOW.isoformat()})
    changed = apply_changes(live, logged(("newcomer", {"department": department}), gone)).retriever
    later = NOW + timedelta(days=1)
    found = changed.candidates(user, 300, sources=["sequence"], now=later).candidates.items.tolist()
    # The newcomer's vector is its department's direction; whoever is left over leads, and what is gone is nowhere.
    assert best[0] not in found
    assert 300 in found[:50]
    scores = world.directions[world.groups[best[0]]] @ next_vector(world.item_vectors[user.items[0]])
    others = world.item_vectors[found[: found.index(300)]] @ next_vector(world.item_vectors[user.items[0]])
    assert (others >= scores).all()
    assert 300 not in with_sequence.candidates(user, 300, sources=["sequence"]).candidates.items


def test_a_merge_learns_its_ranks(with_sequence: Retriever, features: Features, tmp_path: Path) -> None:
    """What is bought stands among the first five of this list alone."""
    names = with_sequence.sources
    joined = [Ranked.of(with_sequence.rankings(features(user)), 10, names) for user in range(40)]
    ranks = np.concatenate([one.features for one in joined])
    labels = (ranks[:, names.index("sequence")] < 5).astype(np.float32)
    merge = LearntMerge.fit(ranks, labels, np.ones(len(ranks), np.float32), MergeConfig(min_data_in_leaf=5), names)
    merge.save(tmp_path / "merge.txt")
    read = LearntMerge.load(tmp_path / "merge.txt")
    assert read is not None
    assert read.sources == SOURCES
    learnt = dataclasses.replace(with_sequence, merge=read)
    best = learnt.rankings(features(3))["sequence"].items[:5]
    found = learnt.candidates(features(3), 30).candidates
    assert set(found.items[:5].tolist()) == set(best.tolist())
    with pytest.raises(
        MergeRowsError, match="expected ranks by semantic, collaborative, repeat, trending, found seman"
    ):
        dataclasses.replace(learnt, sequence=None)


def test_a_model_of_another_catalogue_is_refused(with_sequence: Retriever, world: World) -> None:
    with pytest.raises(ReleasePartError, match=r"expected 300 items.*'sequence items': 200"):
        dataclasses.replace(with_sequence, sequence=echo_model(world.item_vectors[:200]))
