"""The sequence model of a cut: the histories it learns from, and that a release takes it over."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.rows import user_features, wide_user_rows
from features.tables import Tables, encode
from features.texts import TextConfig
from features.transforms import FeatureConfig, compute
from flows.stages.data import Data, EligibleConfig
from flows.stages.scene import link_tree
from flows.stages.sequence import fit_sequence, purchase_histories
from retrieval import layout
from retrieval.engine import Retriever
from retrieval.quota import ALWAYS, SOURCES
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.events import recent_events
from retrieval.sequence.runtime import SequenceModel
from retrieval.sequence.train import SequenceDataError
from tests.flows.stages.small_scene import CUT, user, write_scene

SMALL = SequenceConfig(length=4, width=8, blocks=1, epochs=8, held_out=0, batch=32, learning_rate=0.02, dropout=0)
FEATURES = FeatureConfig(category_column=None)


def data(*rows: tuple[str, str, float, str], min_users: int = 1) -> Data:
    """Events of (user, item, days after the cut, kind)."""
    events = pl.DataFrame(
        {
            "user_id": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "timestamp": [CUT + timedelta(days=row[2]) for row in rows],
            "event": [row[3] for row in rows],
            "value": [1.0] * len(rows),
            "quantity": [1.0] * len(rows),
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    users = pl.DataFrame({"user_id": sorted({row[0] for row in rows})})
    tables = Tables(items=pl.DataFrame({"item_id": list("abcde")}), users=users, events=events)
    eligibility = EligibleConfig(min_users=min_users)
    return Data(tables=tables, events=encode(tables), features=FEATURES, texts=TextConfig(), eligibility=eligibility)


def test_histories_hold_purchases_of_eligible_items_before_the_cut() -> None:
    found = purchase_histories(
        data(
            ("one", "e", -1, "purchase"), ("one", "b", -3, "purchase"), ("one", "a", -3, "purchase"),
            ("one", "d", -2, "purchase"), ("one", "c", -2, "view"), ("one", "c", 0, "purchase"),
            ("two", "b", -5, "purchase"), ("two", "b", -4, "purchase"), ("two", "a", 1, "purchase"),
        ),
        CUT,
        np.array([True, True, True, False, True]),
    )  # fmt: skip
    # Of a, b, c and e, d may not be recommended: e is the fourth. Two days are 172,801 seconds, log2 17.4.
    items, kinds, gaps = found.user(0)
    assert (items.tolist(), gaps.tolist(), set(kinds.tolist())) == ([0, 1, 3], [0, 0, 17], {0})
    assert found.user(1)[0].tolist() == [1, 1]


def test_a_request_reads_what_training_read() -> None:
    """Nobody buys an item more than twice here, so feature rows hold every purchase."""
    rng = np.random.default_rng(0)
    # Seconds apart years ago, and baskets: where float32 ages and equal times matter.
    rows = [
        (f"u{person}", "abcde"[item], -float(age), "purchase")
        for person in range(30)
        for item in range(5)
        for age in rng.choice([900 + 3e-5, 900, 30.5, 2, 1 + 1e-5, 1], rng.integers(1, 3), replace=False)
    ]
    known = data(*rows)
    frames = compute(known.events, np.zeros(5, np.int32), CUT, n_users=30, config=FEATURES)
    ids = known.tables.users["user_id"]
    users = user_features(wide_user_rows(ids, frames.user_stats, frames.user_history, frames.user_category))
    histories = purchase_histories(known, CUT, np.ones(5, bool))
    for position, person in enumerate(users):
        for length in (50, 4):
            read, gaps = recent_events(person.items, person.history, length)
            items, _, expected = histories.user(position)
            assert read.tolist() == items[-length:].tolist()
            assert gaps.tolist() == expected[-length:].tolist()


def ring(until: float = 0) -> Data:
    """Twelve people, each of whom goes round a to d, a step a day; e is nobody's."""
    return data(
        *(
            (f"u{person}", "abcd"[(person + step) % 4], -20.0 + step, "purchase")
            for person in range(12)
            for step in range(20)
        ),
        *((f"u{person}", "e", until, "purchase") for person in range(12 if until else 0)),
    )


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors")
    (folder / layout.VECTORS_DIR).mkdir()
    np.save(folder / layout.ITEM_VECTORS, np.eye(5, dtype=np.float32))
    return folder


def fitted(known: Data, vectors: Path, out: Path, cut: datetime = CUT) -> SequenceModel:
    out.mkdir()
    fit_sequence(known, cut, vectors, SMALL, out)
    return SequenceModel.load(out / layout.SEQUENCE_DIR)


def test_it_learns_what_comes_next_and_nothing_after_the_cut(vectors: Path, tmp_path: Path) -> None:
    model = fitted(ring(), vectors, tmp_path / "one")
    # A place for every item: e has the vector of its text.
    assert model.items.shape == (5, 8)
    np.testing.assert_allclose(model.items[4:], model.vectors_of(np.eye(5, dtype=np.float32)[4:]), atol=1e-6)
    for last in range(4):
        seen = np.array([(last - 1) % 4, last], np.int32)
        gaps = np.array([16, 16], np.int32)
        scores = model.items[:4] @ model.user_vector(seen, np.zeros(2, np.int32), gaps)
        assert scores.argmax() == (last + 1) % 4
    later = fitted(ring(until=1), vectors, tmp_path / "two")
    np.testing.assert_array_equal(later.items, model.items)


def test_a_release_takes_it_over(vectors: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene")
    assert Retriever.load(scene).sources == ALWAYS
    fitted(ring(), vectors, tmp_path / "step")
    link_tree(tmp_path / "step" / layout.SEQUENCE_DIR, scene / layout.SEQUENCE_DIR)
    retriever = Retriever.load(scene)
    assert retriever.sources == SOURCES
    found = retriever.candidates(user("one", [1, 0]), 4, sources=["sequence"]).candidates
    assert found.items[0] == 2


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (data(("one", "a", -1, "purchase"), ("two", "b", -1, "purchase")), "expected a user with two events"),
        (data(("one", "a", -1, "purchase"), min_users=3), "before 2024-06-01.*expected eligible items, found none"),
    ],
)
def test_nothing_to_learn_from(known: Data, message: str, vectors: Path, tmp_path: Path) -> None:
    with pytest.raises(SequenceDataError, match=message):
        fit_sequence(known, CUT, vectors, SMALL, tmp_path)
