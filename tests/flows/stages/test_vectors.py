"""A text is encoded once by an encoder, by whichever step met it first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.schema import Float32
from features.tables import Tables, encode
from features.texts import TextConfig
from features.transforms import FeatureConfig, compute
from flows.stages.data import Data, EligibleConfig
from flows.stages.frames import write_frames
from flows.stages.vectors import TEXT_HASHES, embed, embed_items, embed_users
from retrieval.encoder.runtime import TextEncoder
from retrieval.layout import ITEM_VECTORS, USER_VECTORS


class Loads:
    """The encoder, and how often it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.encoder = TextEncoder.load(folder, threads=1)
        self.count = 0

    def __call__(self) -> TextEncoder:
        self.count += 1
        return self.encoder


@pytest.fixture
def load(old: Path) -> Loads:
    return Loads(old)


def vectors(folder: Path) -> Float32:
    return np.load(folder / ITEM_VECTORS)


def written(folder: Path, texts: Sequence[str | None], load: Loads, *earlier: Path) -> Path:
    embed(folder, ITEM_VECTORS, texts, "item", load, earlier)
    return folder


def test_every_item_gets_the_vector_of_its_text(load: Loads, tmp_path: Path) -> None:
    texts = ["tea 1", "soap 2", "tea 1"]
    folder = written(tmp_path / "one", texts, load)
    found = vectors(folder)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, load.encoder.encode(texts, "item"), atol=1e-6)
    hashes = np.load(folder / TEXT_HASHES)
    assert (hashes.shape, hashes.dtype) == ((3, 32), np.uint8)
    assert bytes(hashes[0]) == bytes(hashes[2]) != bytes(hashes[1])


def test_what_was_encoded_before_is_taken_over(load: Loads, tmp_path: Path) -> None:
    first = written(tmp_path / "first", ["tea 1", "soap 2", "bread 3"], load)
    # Marked, so that a vector tells where it comes from.
    marked = vectors(first) + 100
    np.save(first / ITEM_VECTORS, marked)
    second = written(tmp_path / "second", ["soap 2", "coffee 4", "tea 1", "soap 2"], load, first)
    fresh = load.encoder.encode(["coffee 4"], "item")
    np.testing.assert_array_equal(vectors(second)[[0, 2, 3]], marked[[1, 0, 1]])
    np.testing.assert_allclose(vectors(second)[1], fresh[0], atol=1e-6)


def test_without_a_new_text_no_encoder_is_loaded(load: Loads, tmp_path: Path) -> None:
    first = written(tmp_path / "first", ["tea 1", "soap 2"], load)
    second = written(tmp_path / "second", ["bread 3"], load)
    assert load.count == 2
    third = written(tmp_path / "third", ["bread 3", "tea 1"], load, first, second)
    assert load.count == 2
    np.testing.assert_array_equal(vectors(third), [vectors(second)[0], vectors(first)[0]])


def test_of_several_the_first_named_counts(load: Loads, tmp_path: Path) -> None:
    first = written(tmp_path / "first", ["tea 1", "soap 2"], load)
    second = written(tmp_path / "second", ["tea 1"], load)
    np.save(second / ITEM_VECTORS, vectors(second) + 100)
    third = written(tmp_path / "third", ["tea 1", "soap 2"], load, second, first)
    np.testing.assert_array_equal(vectors(third), [vectors(second)[0], vectors(first)[1]])


@pytest.mark.parametrize("left", [[], [TEXT_HASHES]])
def test_a_step_that_a_prune_took_is_none(load: Loads, tmp_path: Path, left: list[str]) -> None:
    first = written(tmp_path / "first", ["tea 1"], load)
    for path in first.iterdir():
        if path.name not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    second = written(tmp_path / "second", ["tea 1"], load, first, tmp_path / "never")
    assert load.count == 2
    assert vectors(second).shape[0] == 1


def test_no_text_has_zeros_and_nothing_takes_them_over(load: Loads, tmp_path: Path) -> None:
    first = written(tmp_path / "first", [None, "tea 1"], load)
    np.testing.assert_array_equal(vectors(first)[0], np.zeros(load.encoder.dim, np.float32))
    np.save(first / ITEM_VECTORS, vectors(first) + 100)
    second = written(tmp_path / "second", ["tea 1", None, None], load, first)
    np.testing.assert_array_equal(vectors(second)[0], vectors(first)[1])
    assert not vectors(second)[1:].any()


def test_where_nobody_has_a_text_there_are_zeros_alone(load: Loads, tmp_path: Path) -> None:
    found = vectors(written(tmp_path / "first", [None, None], load))
    assert (found.shape, found.any()) == ((2, load.encoder.dim), False)


def test_items_and_users_go_by_their_positions(load: Loads, tmp_path: Path) -> None:
    cut = datetime(2024, 1, 1, tzinfo=UTC)
    # The second user buys only at the cut.
    columns = {"user_id": ["u", "v", "w"], "item_id": ["b", "a", "a"], "event": ["purchase"] * 3}
    times = [cut - timedelta(days=1), cut, cut - timedelta(days=2)]
    tables = Tables(
        items=pl.DataFrame({"item_id": ["a", "b"], "title": ["tea 1", "soap 2"]}),
        users=pl.DataFrame({"user_id": ["u", "v", "w"]}),
        events=pl.DataFrame({**columns, "timestamp": times, "value": [1.0] * 3, "quantity": [1.0] * 3}),
    )
    features, texts = FeatureConfig(category_column=None), TextConfig(frequent_prefix="", unknown_user="user")
    data = Data(tables=tables, events=encode(tables), features=features, texts=texts, eligibility=EligibleConfig())
    frames = tmp_path / "frames"
    frames.mkdir()
    write_frames(frames, compute(data.events, data.categories, cut, n_users=3, config=features))
    embed_items(tmp_path / "items", data, load)
    expected = load.encoder.encode(["tea 1", "soap 2"], "item")
    np.testing.assert_allclose(vectors(tmp_path / "items"), expected, atol=1e-6)
    embed_users(tmp_path / "users", data, frames, load)
    expected = load.encoder.encode(["soap 2", "tea 1"], "user")
    found = np.load(tmp_path / "users" / USER_VECTORS)
    np.testing.assert_allclose(found[[0, 2]], expected, atol=1e-6)
    assert not found[1].any()
