"""The model without torch: the same vectors, new items, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.export import exported
from retrieval.sequence.histories import Histories
from retrieval.sequence.model import SequenceNet
from retrieval.sequence.runtime import SequenceFilesError, SequenceModel
from retrieval.sequence.texts import TextScale
from retrieval.sequence.train import Trained
from retrieval.sequence.validate import user_vectors
from tests.retrieval.sequence.conftest import CONFIG, World


@pytest.fixture(scope="module")
def model(trained: Trained) -> SequenceModel:
    return exported(trained.net, TextScale(mean=np.zeros(5, np.float32), deviation=1.0), CONFIG)


def some(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return tuple(rng.integers(0, top, count).astype(np.int32) for top in (12, 2, 29))  # type: ignore[return-value]


@pytest.mark.parametrize("count", [1, 4, 6, 9])
@pytest.mark.parametrize("reader", ["attention", "mean"])
def test_it_says_what_torch_says(reader: str, count: int) -> None:
    torch.manual_seed(count)
    config = SequenceConfig.model_validate({"length": 6, "width": 16, "reader": reader})
    texts = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    net = SequenceNet(texts, torch.ones(12, dtype=torch.bool), 2, config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    items, kinds, gaps = some(count)
    history = Histories(starts=np.array([0, count]), items=items, kinds=kinds, gaps=gaps)
    expected = user_vectors(net, history, np.array([0]), config.length)[0]
    found = exported(net, TextScale.of(texts), config).user_vector(items, kinds, gaps)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_more_event_changes_the_vector_and_only_the_last_ones_count(model: SequenceModel) -> None:
    items, kinds, gaps = some(9)
    whole = model.user_vector(items, kinds, gaps)
    np.testing.assert_array_equal(whole, model.user_vector(items[3:], kinds[3:], gaps[3:]))
    assert np.abs(whole - model.user_vector(items[:-1], kinds[:-1], gaps[:-1])).max() > 0.05
    assert np.linalg.norm(whole) == pytest.approx(1, abs=1e-6)


def test_without_events_there_is_no_vector(model: SequenceModel) -> None:
    none = np.empty(0, np.int32)
    assert not model.user_vector(none, none, none).any()


def test_a_new_item_has_the_vector_that_training_would_give_its_text(ring: World, model: SequenceModel) -> None:
    # Items 12 to 14 are in no history, so theirs are of texts alone.
    np.testing.assert_allclose(model.vectors_of(ring.texts[12:]), model.items[12:], atol=1e-6)
    items, kinds, gaps = some(4)
    vectors = np.concatenate([model.items[items[:-1]], model.vectors_of(ring.texts[13:14])])
    items[-1] = 13
    np.testing.assert_allclose(
        model.user_vector(items, kinds, gaps, vectors), model.user_vector(items, kinds, gaps), atol=1e-6
    )


def test_it_survives_its_files(model: SequenceModel, tmp_path: Path) -> None:
    model.save(tmp_path / "sequence")
    read = SequenceModel.load(tmp_path / "sequence")
    assert read.meta == model.meta
    np.testing.assert_array_equal(read.user_vector(*some(5)), model.user_vector(*some(5)))
    np.save(tmp_path / "sequence" / "items.npy", model.items[:4])
    with pytest.raises(SequenceFilesError, match=r"items.npy: expected \[15, 16\], found \[4, 16\]"):
        SequenceModel.load(tmp_path / "sequence")
    (tmp_path / "sequence" / "weights.safetensors").unlink()
    with pytest.raises(SequenceFilesError, match=r"expected weights.safetensors, found no such file"):
        SequenceModel.load(tmp_path / "sequence")


def test_items_that_were_appended_are_known_by_their_texts(ring: World, model: SequenceModel) -> None:
    more = np.concatenate([ring.texts, ring.texts[:2]])
    grown = model.grown(more)
    assert (grown.meta.items, len(grown.items)) == (17, 17)
    np.testing.assert_array_equal(grown.items[:15], model.items)
    np.testing.assert_array_equal(grown.items[15:], model.vectors_of(ring.texts[:2]))
    with pytest.raises(SequenceFilesError, match="a catalogue of at least 15 items, found 14"):
        model.grown(more[:14])


def test_items_of_another_catalogue_keep_their_vectors_where_they_stand(ring: World, model: SequenceModel) -> None:
    members = np.arange(15, dtype=np.int32) * 2
    placed = model.placed(members, np.repeat(ring.texts, 2, axis=0))
    np.testing.assert_array_equal(placed.items[members], model.items)
    np.testing.assert_array_equal(placed.items[members + 1], model.vectors_of(ring.texts))


def test_what_it_does_not_know_is_named(model: SequenceModel) -> None:
    items, kinds, gaps = some(3)
    with pytest.raises(SequenceFilesError, match=r"expected kinds in \[0, 2\)"):
        model.user_vector(items, kinds + 2, gaps)
    with pytest.raises(SequenceFilesError, match="text vectors of the 5 dimensions it was trained on, found 3"):
        model.vectors_of(np.zeros((1, 3), np.float32))
