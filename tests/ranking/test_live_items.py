"""A release over items that changed while it serves ranks as one built with them would, statistics apart."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from features.item_log import ItemChange, LoggedChange
from features.texts import TextConfig
from ranking import predictions
from ranking.answers import LoadedRelease
from ranking.ranker import Ranker
from ranking.rows import CutData
from retrieval.catalogue import CatalogueConfig
from retrieval.collaborative import Collaborative
from retrieval.lazy_encoder import LazyEncoder, TextEncoderLike
from retrieval.live.changes import Changed, apply_changes

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def before(release: Path, text_encoder: TextEncoderLike) -> LoadedRelease:
    loaded = LoadedRelease.load(release)
    assert loaded.retriever is not None
    loaded.retriever.catalogue = CatalogueConfig(texts=TextConfig(item="{item_id} {kind}", title="{item_id}"))
    loaded.retriever.texts = LazyEncoder(lambda: text_encoder)
    return loaded


@pytest.fixture(scope="module")
def changed(before: LoadedRelease) -> Changed:
    """Item 7 becomes a coupon; a product is added."""
    assert before.retriever is not None
    changes = [
        LoggedChange(sequence=1, received=NOW, change=ItemChange(item_id="item-7", values={"kind": "coupon"})),
        LoggedChange(sequence=2, received=NOW, change=ItemChange(item_id="fresh", values={"kind": "product"})),
    ]
    return apply_changes(before.retriever, changes)


@pytest.fixture(scope="module")
def after(before: LoadedRelease, changed: Changed) -> LoadedRelease:
    return before.over(changed)


@pytest.fixture(scope="module")
def built(changed: Changed, before: LoadedRelease) -> Ranker:
    """The same items, laid out anew: what a release built with them would hold."""
    assert before.ranker is not None
    layered = changed.retriever
    assert layered.collaborative is not None
    whole = dataclasses.replace(
        layered, item_vectors=np.asarray(layered.item_vectors),
        collaborative=Collaborative.grown(layered.collaborative, len(layered.snapshot)),
    )  # fmt: skip
    return Ranker(before.ranker.models, whole, before.ranker.tasks, before.ranker.heads)


def test_it_scores_as_one_built_with_them(after: LoadedRelease, built: Ranker, serving_data: CutData) -> None:
    assert after.ranker is not None
    items = np.arange(101, dtype=np.int32)
    for user in serving_data.users[:5]:
        one, other = after.ranker.score(user, items), built.score(user, items)
        # A matrix product of two rows and of a hundred round differently.
        np.testing.assert_allclose(one.features, other.features, rtol=1e-5)
        for task, found in one.tasks.items():
            np.testing.assert_allclose(found, other.tasks[task], rtol=1e-5)
        # The new product is scored for what products are scored for, item 7 no more.
        assert np.isfinite(one.tasks["purchase"][100])
        assert np.isnan(one.tasks["purchase"][7])


def test_other_items_are_scored_as_before(before: LoadedRelease, after: LoadedRelease, serving_data: CutData) -> None:
    assert before.ranker is not None
    assert after.ranker is not None
    items = np.array([item for item in range(100) if item != 7], np.int32)
    one, other = (loaded.ranker.score(serving_data.users[0], items) for loaded in (before, after))  # type: ignore[union-attr]
    np.testing.assert_array_equal(one.features, other.features)


def test_it_predicts_of_a_new_item(after: LoadedRelease) -> None:
    found = predictions.of_items(after.predictor, np.array([100, 7], np.int32), ["demand"])["demand"]
    assert isinstance(found[0], float)
    # A coupon has no demand.
    assert found[1] is None


def test_it_is_found(after: LoadedRelease, before: LoadedRelease) -> None:
    retriever = after.retriever
    assert retriever is not None
    assert before.retriever is not None
    assert len(before.retriever.snapshot) == 100
    assert retriever.nearest(retriever.item_vectors[100], 1, now=NOW).items.tolist() == [100]
