from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.batch import Batch
from retrieval.encoder.batches import Batcher
from retrieval.encoder.config import BackboneConfig, BatchConfig
from retrieval.encoder.data import Tags, TrainingData
from retrieval.encoder.labelled_rows import LabelledRows, draw_rows, space_weights
from retrieval.encoder.tokens import token_tags


def test_a_task_is_drawn_in_proportion_to_a_power_of_its_rows() -> None:
    common, rare = np.array([True] * 9 + [False]), np.array([False] * 9 + [True])
    # Exponent 1: by rows, 9 to 1. Exponent 1/2: sqrt(9) to sqrt(1), 3 to 1. Exponent 0: 1 to 1.
    for exponent, share in ((1.0, 0.1), (0.5, 0.25), (0.0, 0.5)):
        weights = space_weights([common, rare], 10, exponent)
        assert weights[9] == pytest.approx(share)
        assert weights.sum() == pytest.approx(1)


def test_rows_without_a_label_are_never_drawn() -> None:
    weights = space_weights([np.array([True, False, True])], 3, 0.5)
    drawn = draw_rows(weights, 10, np.random.default_rng(0))
    assert sorted(drawn.tolist()) == [0, 2]
    assert len(draw_rows(np.zeros(0), 10, np.random.default_rng(0))) == 0


@pytest.fixture(scope="module")
def batches(full_world: TrainingData) -> list[Batch]:
    """Batches whose texts stand in the table at 200 and on, items at 100 and on, users at 0 and on."""
    texts = LabelledRows(
        positions=200 + np.arange(len(full_world.texts.texts)),
        labels=full_world.texts.labels,
        answers=full_world.texts.answers,
    )
    batcher = Batcher(
        full_world.tasks, full_world.train, user_texts=[np.arange(32), 32 + np.arange(32)],
        item_texts=100 + np.arange(40), popularity=full_world.popularity,
        config=BatchConfig(users=8, positives=2, negatives=6, texts=12, item_rows=5), texts=texts,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    return [batcher(rng) for _ in range(5)]


def test_labels_of_texts_items_and_users_belong_to_their_rows(full_world: TrainingData, batches: list[Batch]) -> None:
    for batch in batches:
        texts = batch.views["text"] - 200
        topic, expected = batch.rows["topic"], full_world.texts.labels["topic"][texts]
        assert topic.present.numpy().tolist() == (~np.isnan(expected)).tolist()
        np.testing.assert_array_equal(topic.label[topic.present], expected[~np.isnan(expected)])
        items = batch.views["item_row"] - 100
        assert (items < 30).all()  # soap has no demand on record
        np.testing.assert_array_equal(batch.rows["demand"].label, full_world.train[0].item_labels["demand"][items])
        np.testing.assert_array_equal(batch.rows["taste"].label, batch.views["user"] % 4)


def test_a_texts_answer_is_its_one_positive(full_world: TrainingData, batches: list[Batch]) -> None:
    for batch in batches:
        answers = full_world.texts.answers["answer"][batch.views["text"] - 200]
        found = batch.pairs["answer"]
        for row, answer in enumerate(answers):
            expected = batch.items == answer
            assert found.drawn[row].numpy().tolist() == expected.tolist()
            # Everything else in the batch is a negative; a text without an answer has no row in the loss.
            assert found.excluded[row].numpy().tolist() == (expected | (answer < 0)).tolist()
            assert int(expected.sum()) == (answer >= 0)


def test_regression_pairs_are_not_shifted(batches: list[Batch]) -> None:
    for batch in batches:
        rating = batch.pairs["rating"]
        assert not rating.shift.any()
        assert set(rating.label[rating.present].tolist()) <= {2.0, 5.0}


def test_tags_stand_on_the_first_token_of_their_unit(tiny_bert: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert), max_tokens={"user": 8, "item": 8, "text": 6})
    tokenizer = load_backbone(config).tokenizer
    tags = Tags(
        text=np.array([0, 0, 1, 1, 2], np.int32),
        # Two words; two characters that this tokenizer joins into one token; a word that truncation cuts off.
        span=np.array([[0, 3], [4, 10], [0, 1], [1, 2], [25, 28]], np.int32),
        code=np.array([1, 0, 2, 1, 1], np.int32),
    )
    found = token_tags(tokenizer, ["tea number 3", "辣椒", "user likes tea user like tea"], tags, config)
    # [CLS] stands at 0; the third text keeps [CLS], four words and [SEP].
    assert found.starts.tolist() == [0, 2, 3, 3]
    assert found.token.tolist() == [1, 2, 1]
    assert found.code.tolist() == [1, 0, 2]


def test_chinese_is_tagged_character_by_character(tiny_llama: Path) -> None:
    config = BackboneConfig(name=str(tiny_llama), max_tokens={"user": 32, "item": 32, "text": 32})
    tokenizer = load_backbone(config).tokenizer
    tags = Tags(
        text=np.array([0, 0], np.int32), span=np.array([[0, 1], [1, 2]], np.int32), code=np.array([1, 2], np.int32)
    )
    found = token_tags(tokenizer, ["辣椒"], tags, config)
    # A byte-level tokenizer makes three tokens of each character; the first carries the tag.
    assert found.token.tolist() == [0, 3]
    assert found.code.tolist() == [1, 2]
