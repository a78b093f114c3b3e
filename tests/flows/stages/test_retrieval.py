"""Recall of candidates over a held-out window: five items, two users, every figure worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.stages.rankings import HeldOut
from flows.stages.retrieval import retrieval_tables
from retrieval.engine import Retriever
from tests.flows.stages.small_scene import ITEMS, positions, user, write_scene


@pytest.fixture
def retriever(tmp_path: Path) -> Retriever:
    return Retriever.load(write_scene(tmp_path))


def test_recall_of_each_source_over_all_purchases_and_over_new_ones(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two candidates each: user one repeats 0 and 1 and buys 1 and 3; user two repeats 1 alone and buys no new item.

    What trends names 1 and 0. Repeat: one of user one's two purchases, all of user two's: mean .75; of new ones none.
    """
    monkeypatch.setattr("flows.stages.retrieval._KS", (2, ITEMS))
    truth = HeldOut(
        positions=positions(0, 1), relevant=[positions(1, 3), positions(1)], fresh=[positions(3), positions()]
    )
    every, new = retrieval_tables(retriever, [user("one", [0, 1]), user("two", [1])], truth)
    found = {row.source: [figure.value for figure in row.recalls] for row in every.sources}
    assert (every.ks, every.merged) == ((2, ITEMS), "merged")
    assert list(found) == ["semantic", "collaborative", "repeat", "trending", "merged"]
    assert found["repeat"] == [0.75, 0.75]
    assert found["trending"] == [0.75, 1.0]
    assert found["merged"][1] == 1.0
    fresh = {row.source: row.recalls for row in new.sources}
    assert [figure.value for figure in fresh["trending"]] == [0.0, 1.0]
    assert {figure.n for figures in fresh.values() for figure in figures} == {1}


def test_of_many_users_evenly_spaced_ones_are_asked(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most two of three: the first and the third, who repeats nothing that she then buys."""
    monkeypatch.setattr("flows.stages.retrieval._MOST", 2)
    people = [user("one", [0]), user("two", [1]), user("one", [2])]
    relevant = [positions(0), positions(4), positions(4)]
    every, _ = retrieval_tables(
        retriever, people, HeldOut(positions=positions(0, 1, 2), relevant=relevant, fresh=[positions(3)] * 3)
    )
    repeat = next(row for row in every.sources if row.source == "repeat").recalls[0]
    assert (repeat.n, repeat.value) == (2, 0.5)


def test_without_new_items_there_is_no_table_of_them(retriever: Retriever) -> None:
    truth = HeldOut(positions=positions(1), relevant=[positions(1)], fresh=[positions()])
    (only,) = retrieval_tables(retriever, [user("one", [0]), user("two", [1])], truth)
    assert only.title == "All purchases"
