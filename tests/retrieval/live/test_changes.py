from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import UserFeatures
from retrieval.contract import Limits
from retrieval.engine import Retriever
from retrieval.live.changes import apply_changes
from tests.retrieval.live.conftest import CATALOGUE, NOW, logged

LATER = NOW + timedelta(days=1)
DELI = {"department": "DELI", "brand": "Own", "organic": True, "size": 3}


def test_a_new_item_is_found_by_its_text(changeable: Retriever) -> None:
    changed = apply_changes(changeable, logged(("olives", DELI), first=7))
    retriever, snapshot = changed.retriever, changed.retriever.snapshot
    assert changed.refused == []
    assert changed.encoded.tolist() == [300]
    assert retriever.item_sequence == 7
    assert snapshot.position("olives") == 300
    assert snapshot.titles[300] == "DELI Own, of DELI"
    # The code of the department, by which users' features know it.
    assert snapshot.category_codes[300] == 3
    assert np.isnan(snapshot.stats[300]).all()
    found = retriever.candidates(None, 60, text="DELI", now=LATER).candidates.items.tolist()
    # Its vector is the department's very direction, so nothing is nearer.
    assert found[0] == 300
    filtered = retriever.candidates(
        None, 5, text="MEAT", limits=Limits(filter='brand == "Own"'), now=LATER
    ).candidates.items
    assert filtered.tolist() == [300]


def test_a_new_item_begins_when_it_came(changeable: Retriever) -> None:
    retriever = apply_changes(changeable, logged(("olives", DELI))).retriever
    for now, there in ((NOW - timedelta(seconds=1), False), (NOW, True)):
        found = retriever.candidates(None, 5, text="DELI", now=now).candidates.items.tolist()
        assert (300 in found) is there


def test_the_retriever_before_stays_as_it_is(changeable: Retriever, features: Callable[..., UserFeatures]) -> None:
    before = changeable.candidates(features(3), 100, now=LATER).candidates
    apply_changes(changeable, logged(("olives", DELI), ("item-5", {"department": "MEAT"})))
    after = changeable.candidates(features(3), 100, now=LATER).candidates
    np.testing.assert_array_equal(before.items, after.items)
    assert len(changeable.snapshot) == 300


def test_only_a_new_text_is_encoded(changeable: Retriever) -> None:
    eligible = changeable.snapshot.eligible_positions
    cheap, moved = (int(item) for item in eligible[eligible % 6 == 0][:2])
    changed = apply_changes(
        changeable, logged((f"item-{cheap}", {"size": 99}), (f"item-{moved}", {"department": "DELI"}))
    )
    retriever = changed.retriever
    assert changed.encoded.tolist() == [moved]
    by_size = retriever.nearest(changeable.item_vectors[cheap], 5, Limits(filter="size == 99"))
    assert by_size.items.tolist() == [cheap]
    near = retriever.candidates(None, 60, text="DELI", now=LATER).candidates.items.tolist()
    assert near[0] == moved
    assert near.count(moved) == 1


def test_a_removed_item_is_gone_from_every_source(changeable: Retriever, features: Callable[..., UserFeatures]) -> None:
    user = features(3)
    names = changeable.snapshot.item_ids
    first = changeable.candidates(user, 10, now=LATER).candidates.items.tolist()
    gone = [(names[item], {"available_to": NOW.isoformat()}) for item in first]
    retriever = apply_changes(changeable, logged(*gone)).retriever
    found = retriever.candidates(user, 500, now=LATER).candidates.items.tolist()
    assert not set(first) & set(found)
    assert sorted([*first, *found]) == changeable.snapshot.eligible_positions.tolist()
    # And back again.
    back = apply_changes(retriever, logged(*((name, {"available_to": None}) for name, _ in gone), first=50)).retriever
    np.testing.assert_array_equal(
        back.candidates(user, 500, now=LATER).candidates.items,
        changeable.candidates(user, 500, now=LATER).candidates.items,
    )


def test_what_the_filter_of_eligible_items_leaves_out(changeable: Retriever) -> None:
    drug = {**DELI, "department": "DRUG"}
    retriever = apply_changes(changeable, logged(("aspirin", drug))).retriever
    assert not retriever.snapshot.eligible[300]
    assert retriever.nearest(changeable.item_vectors[5], 500).items.max() < 300


def test_a_value_that_does_not_fit_is_left_out_and_told(changeable: Retriever) -> None:
    changed = apply_changes(changeable, logged(("olives", {**DELI, "size": "large", "colour": "green"})))
    assert len(changed.refused) == 2
    assert "item 'olives', column 'size'" in changed.refused[0]
    assert "colour" in changed.refused[1]
    assert changed.retriever.snapshot.attributes["size"][300] is None


# Each is another than the three known items had: in this small world their vectors are not quite those of their texts.
departments = st.sampled_from(["GROCERY", "PRODUCE", "MEAT"])
changes = st.lists(
    st.tuples(
        st.sampled_from(["item-3", "item-40", "item-41", "new-1", "new-2"]),
        st.fixed_dictionaries(
            {}, optional={"department": departments, "size": st.integers(0, 5), "available_to": st.none()}
        ),
    ),
    min_size=1,
    max_size=8,
)


@given(changes=changes, cut=st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_batches_make_no_difference(retriever: Retriever, changes: Any, cut: int) -> None:
    changeable = dataclasses.replace(retriever, catalogue=CATALOGUE)
    every = logged(*((item, {"department": "MEAT", **values}) for item, values in changes))
    once = apply_changes(changeable, every).retriever
    twice = apply_changes(changeable, every[:cut]).retriever
    if every[cut:]:
        twice = apply_changes(twice, every[cut:]).retriever
    assert once.snapshot.frame.equals(twice.snapshot.frame)
    np.testing.assert_array_equal(once.snapshot.category_codes, twice.snapshot.category_codes)
    np.testing.assert_array_equal(np.asarray(once.item_vectors), np.asarray(twice.item_vectors))
    for text in ("GROCERY", "MEAT"):
        one, two = (r.candidates(None, 500, text=text, now=LATER).candidates for r in (once, twice))
        np.testing.assert_array_equal(one.items, two.items)


@pytest.mark.parametrize("item_id", ["olives", "item-3"])
def test_similar_items(changeable: Retriever, item_id: str) -> None:
    retriever = apply_changes(changeable, logged((item_id, DELI))).retriever
    found = retriever.candidates(None, 10, item_id=item_id, now=LATER).candidates.items.tolist()
    deli = [item for item in found if item % 6 == 3]
    assert retriever.snapshot.position(item_id) not in found
    assert len(deli) >= 5
