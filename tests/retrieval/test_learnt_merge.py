"""The learnt merge: ranks joined by hand, what trees learn of them, and which requests they answer."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.schema import UserFeatures
from retrieval import layout
from retrieval.contract import Limits, SourceName
from retrieval.engine import Retriever
from retrieval.learnt_merge import LearntMerge, MergeConfig, MergeRowsError, Ranked, depths
from retrieval.quota import ALWAYS, SOURCES, Source
from retrieval.sources import Ranking

Features = Callable[..., UserFeatures]


def ranking(*items: int) -> Ranking:
    return Ranking(items=np.array(items, np.int32), scores=np.arange(len(items), 0, -1, dtype=np.float32))


def rows(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks at random; what is bought stands among the first ten of the collaborative list."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 100, (n, len(ALWAYS) + 1)).astype(np.float32)
    features[:, :-1][rng.random((n, len(ALWAYS))) < 0.3] = np.nan
    bought = features[:, ALWAYS.index("collaborative")] < 10
    return features, bought.astype(np.float32), np.ones(n, np.float32)


@pytest.fixture(scope="module")
def merge() -> LearntMerge:
    return LearntMerge.fit(*rows(4_000), MergeConfig(min_data_in_leaf=20), ALWAYS)


def test_ranks_by_source_side_by_side() -> None:
    lists: dict[SourceName, Ranking] = {"semantic": ranking(7, 3, 5), "repeat": ranking(3), "trending": ranking()}
    found = Ranked.of(lists, 12, ALWAYS)
    assert found.items.tolist() == [3, 5, 7]
    nan = np.nan
    np.testing.assert_array_equal(
        found.features, [[1, nan, 0, nan, 12], [2, nan, nan, nan, 12], [0, nan, nan, nan, 12]]
    )
    assert found.sources.tolist() == [Source.SEMANTIC | Source.REPEAT, Source.SEMANTIC, Source.SEMANTIC]
    # 3 is named by two sources; of the others 7 comes first.
    assert [found.reserved(n).tolist() for n in (0, 1, 5)] == [
        [False, False, False], [False, False, True], [False, True, True],
    ]  # fmt: skip
    assert len(Ranked.of({}, 0, ALWAYS).items) == 0


def test_the_trees_put_first_what_was_bought(merge: LearntMerge) -> None:
    lists: dict[SourceName, Ranking] = {
        "collaborative": ranking(*range(100, 140)), "trending": ranking(*range(40)), "repeat": ranking(*range(60, 90)),
    }  # fmt: skip
    found = merge.merge(lists, 30, 20)
    assert set(found.items[:10].tolist()) == set(range(100, 110))
    assert len(found) == 20
    assert np.all(np.diff(found.scores) <= 0)
    assert (found.sources[:10] == Source.COLLABORATIVE).all()
    assert len(merge.merge({}, 0, 5)) == 0


def test_an_item_that_the_semantic_source_alone_names_keeps_a_place(merge: LearntMerge) -> None:
    """Of 50 places the first such item has one, last in the order: 10 of 500."""
    lists: dict[SourceName, Ranking] = {"semantic": ranking(0, 500, 501), "collaborative": ranking(*range(60))}
    found = merge.merge(lists, 30, 50)
    assert np.isin([500, 501], found.items).tolist() == [True, False]
    assert found.items[-1] == 500


def test_what_the_sequence_model_names_too_is_still_an_item_that_texts_found() -> None:
    """7 is named by both models of texts, 3 by buyers as well, 8 by the sequence model alone."""
    lists: dict[SourceName, Ranking] = {
        "semantic": ranking(3, 7), "sequence": ranking(8, 7, 3), "collaborative": ranking(3),
    }  # fmt: skip
    found = Ranked.of(lists, 4, SOURCES)
    nan = np.nan
    expected = [[0, 0, nan, nan, 2, 4], [1, nan, nan, nan, 1, 4], [nan, nan, nan, nan, 0, 4]]
    np.testing.assert_array_equal(found.features, expected)
    assert found.reserved(2).tolist() == [False, True, False]


def test_depths_grow_with_many_candidates() -> None:
    assert depths(10) == depths(500)
    assert depths(1_000) == {name: 2 * depth for name, depth in depths(500).items()}


def test_a_saved_merge_is_the_same_and_must_be_of_the_same_sources(merge: LearntMerge, tmp_path: Path) -> None:
    path = tmp_path / "merge.txt"
    assert LearntMerge.load(path) is None
    merge.save(path)
    again = LearntMerge.load(path)
    assert again is not None
    features = rows(200)[0]
    np.testing.assert_array_equal(again.booster.predict(features), merge.booster.predict(features))
    path.write_text(path.read_text(encoding="utf-8").replace("trending", "campaign"), encoding="utf-8")
    with pytest.raises(MergeRowsError, match="expected ranks by semantic, collaborative, repeat, trending"):
        LearntMerge.load(path)


def test_one_class_teaches_nothing() -> None:
    features, labels, weights = rows(50)
    with pytest.raises(MergeRowsError, match="found 0 of 50"):
        LearntMerge.fit(features, 0 * labels, weights, MergeConfig(), ALWAYS)


@pytest.fixture(scope="module")
def learnt(
    release: Path, retriever: Retriever, merge: LearntMerge, tmp_path_factory: pytest.TempPathFactory
) -> Retriever:
    copy = shutil.copytree(release, tmp_path_factory.mktemp("learnt") / "copy")
    merge.save(copy / layout.MERGE)
    return Retriever.load(copy, load_encoder=retriever.texts.load)


def test_a_users_request_is_merged_by_the_trees(learnt: Retriever, features: Features) -> None:
    """The ten that the trees know lead; all lists are whole, and no constraint gives way."""
    best = learnt.rankings(features(3))["collaborative"].items[:10]
    found = learnt.candidates(features(3), 60).candidates
    assert set(found.items[:10].tolist()) == set(best.tolist())
    assert len(np.unique(found.items)) == 60
    text = 'department == "DELI"'
    allowed = learnt.snapshot.eligible & (learnt.snapshot.attributes["department"] == "DELI").to_numpy()
    narrow = learnt.candidates(features(3), 500, limits=Limits(filter=text)).candidates.items
    assert sorted(narrow.tolist()) == np.flatnonzero(allowed).tolist()


def test_other_requests_are_merged_by_quotas(learnt: Retriever, retriever: Retriever, features: Features) -> None:
    def same(**asked: object) -> None:
        one, other = (each.candidates(k=40, **asked).candidates for each in (learnt, retriever))  # type: ignore[arg-type]
        np.testing.assert_array_equal(one.items, other.items)
        np.testing.assert_array_equal(one.scores, other.scores)

    same(user=features(3), text="DELI")
    same(user=features(3), sources=["semantic", "trending"])
    same(user=None, item_id="item-12")
    same(user=UserFeatures.unknown("user-3"))
    elsewhere = dataclasses.replace(learnt, merge=None)
    one, other = (each.candidates(features(3), 40).candidates for each in (elsewhere, retriever))
    np.testing.assert_array_equal(one.items, other.items)
