from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from infra.errors import InvalidInputError
from retrieval.encoder.labels import label_queue as module
from retrieval.encoder.labels.config import LabelQueueConfig
from retrieval.encoder.labels.label_queue import (
    LabelPool,
    k_centre,
    label_queue,
    margins,
    uncertainty,
    write_label_queue,
)

CLASSES = ("tea", "soap", "bread")
PROBABILITIES = np.array(
    [[0.50, 0.45, 0.05], [0.90, 0.05, 0.05], [0.40, 0.20, 0.40], [0.34, 0.33, 0.33], [0.60, 0.40, 0.00]], np.float32
)


def _angles(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


POOL = LabelPool(
    ids=("a", "b", "c", "d", "e"),
    texts=("tea, 热", "soap", "bread", "what", "=sum"),
    vectors=_angles(0, 10, 20, 90, 180),
    probabilities=PROBABILITIES,
    labelled=np.zeros(5, bool),
    classes=CLASSES,
)


def test_margins_by_hand() -> None:
    # .50 - .45, .90 - .05, .40 - .40, .34 - .33, .60 - .40.
    assert margins(PROBABILITIES).tolist() == pytest.approx([0.05, 0.85, 0.0, 0.01, 0.2], abs=1e-6)


def test_measures_by_hand() -> None:
    two = np.array([[0.5, 0.5, 0], [1, 0, 0], [0.5, 0.25, 0.25]], np.float32)
    assert uncertainty(two, "margin") == pytest.approx([1, 0, 0.75])
    assert uncertainty(two, "least_confidence") == pytest.approx([0.5, 0, 0.5])
    # ln 2; 0; .5 ln 2 + .5 ln 4 = 1.5 ln 2.
    assert uncertainty(two, "entropy") == pytest.approx([np.log(2), 0, 1.5 * np.log(2)])


def test_the_smallest_margins_come_first() -> None:
    queue = label_queue(POOL, LabelQueueConfig(size=3, breadth=1))
    assert queue.columns == ["text_id", "text", "predicted_label", "probability", "margin", "rank"]
    assert queue["text_id"].to_list() == ["c", "d", "a"]
    assert queue["text"].to_list() == ["bread", "what", "tea, 热"]
    assert queue["predicted_label"].to_list() == ["tea", "tea", "tea"]
    assert queue["probability"].to_list() == pytest.approx([0.4, 0.34, 0.5])
    assert queue["margin"].to_list() == pytest.approx([0, 0.01, 0.05], abs=1e-6)
    assert queue["rank"].to_list() == [1, 2, 3]


def test_among_the_uncertain_the_list_takes_the_far_ones() -> None:
    queue = label_queue(POOL, LabelQueueConfig(size=2, breadth=2))
    # Candidates by margin: c (20 degrees), d (90), a (0), e (180). First c, then e, 160 degrees away; d is 70, a 20.
    assert queue["text_id"].to_list() == ["c", "e"]
    # With d labelled, e is still 90 from it; were d at 170 degrees, e would be 10 from it, and a, 20 from c, is next.
    labelled = np.array([False, False, False, True, False])
    for angle, second in ((90, "e"), (170, "a")):
        pool = replace(POOL, labelled=labelled, vectors=_angles(0, 10, 20, angle, 180))
        queue = label_queue(pool, LabelQueueConfig(size=2, breadth=2))
        assert queue["text_id"].to_list() == ["c", second]


@pytest.mark.parametrize("block", [1, 100])
def test_k_centre_by_hand(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(module, "_CENTRES", block)
    none = np.empty((0, 2), np.float32)
    # From 0 degrees the farthest is 180; then 90, which is 90 from both; 100 is then 10 from 90, and 10 is 10 from 0.
    assert k_centre(_angles(0, 10, 90, 180, 100), none, 3).tolist() == [0, 3, 2]
    # The labelled at 180 and 90 take those two rows' merit: next after 0 is 135.
    assert k_centre(_angles(0, 175, 85, 135), _angles(180, 90), 2).tolist() == [0, 3]
    assert k_centre(_angles(0, 10), none, 5).tolist() == [0, 1]
    assert k_centre(none, _angles(3), 5).tolist() == []


@pytest.mark.parametrize("breadth", [1, 5])
def test_a_labelled_text_never_comes_again(breadth: int) -> None:
    # Row c has a label; row b has the same text under another id; d and e are one text.
    pool = replace(
        POOL,
        texts=("tea", "bread", "bread", "what", "what"),
        labelled=np.array([False, False, True, False, False]),
    )
    queue = label_queue(pool, LabelQueueConfig(size=5, breadth=breadth))
    assert sorted(queue["text"].to_list()) == ["tea", "what"]
    everything = replace(pool, labelled=np.ones(5, bool))
    assert label_queue(everything, LabelQueueConfig(breadth=breadth)).height == 0


def test_a_seed_orders_equals_whatever_the_rows_order() -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 360, 30)
    pool = LabelPool(
        ids=[f"t{n}" for n in range(30)],
        texts=[f"text {n}" for n in range(30)],
        vectors=_angles(*angles),
        probabilities=np.tile(np.array([[0.5, 0.3, 0.2]], np.float32), (30, 1)),
        labelled=np.arange(30) < 3,
        classes=CLASSES,
    )
    order = rng.permutation(30)
    turned = LabelPool(
        ids=[pool.ids[row] for row in order],
        texts=[pool.texts[row] for row in order],
        vectors=pool.vectors[order],
        probabilities=pool.probabilities[order],
        labelled=pool.labelled[order],
        classes=CLASSES,
    )
    for breadth in (1, 2):
        config = LabelQueueConfig(size=10, breadth=breadth, seed=1)
        first, again = label_queue(pool, config), label_queue(turned, config)
        assert first.equals(again)
        assert not {"t0", "t1", "t2"} & set(first["text_id"])
        other = label_queue(pool, config.model_copy(update={"seed": 2}))
        assert first["text_id"].to_list() != other["text_id"].to_list()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_list_is_written_whole(tmp_path: Path, suffix: str) -> None:
    queue = label_queue(POOL, LabelQueueConfig(size=4, breadth=1))
    path = tmp_path / "lists" / f"next.{suffix}"
    write_label_queue(queue.head(1), path)
    write_label_queue(queue, path)
    found = pl.read_csv(path) if suffix == "csv" else pl.read_parquet(path)
    assert found["text"].to_list() == queue["text"].to_list()
    assert found["margin"].to_list() == pytest.approx(queue["margin"].to_list())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    if suffix == "csv":
        # Without the mark a spreadsheet takes Chinese for Latin-1.
        assert path.read_bytes().startswith(b"\xef\xbb\xbf")


def test_what_makes_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInputError, match=r"expected a name that ends with \.csv or \.parquet, found 'next\.xlsx'"
    ):
        write_label_queue(label_queue(POOL, LabelQueueConfig()), tmp_path / "next.xlsx")
    with pytest.raises(InvalidInputError, match="texts: expected 5 rows, one an id, found 1"):
        label_queue(replace(POOL, texts=("a",)), LabelQueueConfig())
    with pytest.raises(InvalidInputError, match="ids: expected distinct ones, found 1 repeats"):
        label_queue(replace(POOL, ids=("a", "a", "c", "d", "e")), LabelQueueConfig())
