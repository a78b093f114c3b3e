"""Tiny transformers that read the words of a small world, and that world, whose labels the texts explain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.encoder.config import BackboneConfig, BatchConfig, EncoderConfig, WarmupConfig
from retrieval.encoder.data import CutData, EncoderTask, PairRows, Tags, TextData, TrainingData
from tests.tiny_transformers import SPECIAL, word_tokenizer, write_bert, write_llama

TASTES = ("tea", "coffee", "bread", "soap")
TASKS = (
    EncoderTask(name="retrieval", kind="contrastive", on="pair"),
    EncoderTask(name="purchase", kind="binary", on="pair"),
    EncoderTask(name="repurchase", kind="binary", on="pair", space="rows"),
    EncoderTask(name="churn", kind="binary", on="user"),
)
CORPUS = [f"user likes {taste}" for taste in TASTES] + [f"{taste} number {n}" for taste in TASTES for n in range(10)]


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Train in one thread."""


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 3-layer BERT and a word tokenizer with special tokens."""
    words = sorted({word for text in CORPUS for word in text.split()})
    tokenizer = word_tokenizer(["辣", "椒", *words], special=SPECIAL)
    return write_bert(tmp_path_factory.mktemp("bert"), tokenizer, layers=3, positions=64, dropout=0.5)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 2-layer Llama and a byte-level tokenizer without special tokens but the end of text."""
    return write_llama(tmp_path_factory.mktemp("llama"), CORPUS)


def make_cut(rng: np.random.Generator, n_users: int = 32) -> CutData:
    """Users who like one taste and take three of its ten items; lovers of soap churn."""
    taste = np.arange(n_users) % len(TASTES)
    item = np.concatenate([t * 10 + np.sort(rng.choice(10, 3, replace=False)) for t in taste]).astype(np.int32)
    owner = np.repeat(np.arange(n_users, dtype=np.int32), 3)
    bought = PairRows(user=owner, item=item, label=np.ones(len(item), np.float32))
    # Repurchase: of the three listed, even items are taken again.
    listed = PairRows(user=owner, item=item, label=(item % 2 == 0).astype(np.float32))
    return CutData(
        users=np.arange(n_users, dtype=np.int32),
        user_texts=[f"user likes {TASTES[t]}" for t in taste],
        pairs={"retrieval": bought, "purchase": bought, "repurchase": listed},
        user_labels={"churn": (taste == 3).astype(np.float32)},
        universe={"retrieval": np.ones(40, bool), "purchase": np.ones(40, bool)},
    )


@pytest.fixture(scope="session")
def world() -> TrainingData:
    """Forty items of four tastes, two training cuts and one held out."""
    rng = np.random.default_rng(0)
    return TrainingData(
        tasks=TASKS,
        item_texts=[f"{taste} number {n}" for taste in TASTES for n in range(10)],
        popularity=np.ones(40),
        train=(make_cut(rng), make_cut(rng)),
        validation=make_cut(rng),
    )


EVERY_KIND = (
    *TASKS,
    EncoderTask(name="return", kind="binary", on="pair", parent="purchase"),
    EncoderTask(name="rating", kind="regression", on="pair", space="rows"),
    EncoderTask(name="taste", kind="multiclass", on="user", classes=TASTES),
    EncoderTask(name="spend", kind="regression", on="user"),
    EncoderTask(name="demand", kind="regression", on="item"),
    EncoderTask(name="topic", kind="multiclass", on="text", classes=TASTES),
    EncoderTask(name="urgent", kind="binary", on="text", energy=("topic",)),
    EncoderTask(name="tone", kind="regression", on="text"),
    EncoderTask(name="answer", kind="contrastive", on="text"),
    EncoderTask(name="slots", kind="token_tags", on="text", classes=("other", "product", "number")),
)


def make_full_cut(rng: np.random.Generator) -> CutData:
    """A cut with labels of every kind: soap is returned, tea is rated 5 of 5, coffee spends most."""
    cut = make_cut(rng)
    bought = cut.pairs["purchase"]
    soap = bought.item >= 30
    taste = np.arange(len(cut.users)) % len(TASTES)
    return replace(
        cut,
        pairs={
            **cut.pairs,
            "return": PairRows(user=bought.user[soap], item=bought.item[soap], label=bought.label[soap]),
            "rating": replace(bought, label=np.where(bought.item < 10, 5.0, 2.0).astype(np.float32)),
        },
        user_labels={
            **cut.user_labels,
            "taste": taste.astype(np.float32),
            "spend": np.where(taste == 1, 900.0, 100.0).astype(np.float32),
        },
        item_labels={"demand": np.repeat([40.0, 10.0, 10.0, np.nan], 10).astype(np.float32)},
        universe={**cut.universe, "return": np.ones(40, bool)},
    )


def make_texts(rng: np.random.Generator, n: int = 48) -> TextData:
    """Texts such as "user likes coffee number 3", answered by that item and tagged word by word; some lack labels."""
    taste, number = rng.integers(0, 4, n), rng.integers(0, 10, n)
    texts = [f"user likes {TASTES[t]} number {k}" for t, k in zip(taste, number, strict=True)]
    spans, owners = [], []
    for row, text in enumerate(texts):
        start = 0
        for word in text.split():
            spans.append((start, start + len(word)))
            owners.append(row)
            start += len(word) + 1
    topic = taste.astype(np.float32)
    topic[::7] = np.nan
    return TextData(
        texts=texts,
        labels={
            "topic": topic,
            "urgent": (taste == 2).astype(np.float32),
            "tone": np.where(taste == 0, 1.0, -1.0).astype(np.float32),
        },
        answers={"answer": np.where(np.arange(n) % 5 == 0, -1, taste * 10 + number).astype(np.int32)},
        tags={
            "slots": Tags(
                text=np.array(owners, np.int32),
                span=np.array(spans, np.int32),
                code=np.tile([0, 0, 1, 0, 2], n).astype(np.int32),
            )
        },
    )


@pytest.fixture(scope="session")
def full_world() -> TrainingData:
    """The world with tasks of every kind, on pairs, users, items and free texts."""
    rng = np.random.default_rng(0)
    return TrainingData(
        tasks=EVERY_KIND,
        item_texts=[f"{taste} number {n}" for taste in TASTES for n in range(10)],
        popularity=np.ones(40),
        train=(make_full_cut(rng), make_full_cut(rng)),
        validation=make_full_cut(rng),
        texts=make_texts(rng),
        validation_texts=make_texts(rng),
    )


@pytest.fixture(scope="session")
def study(world: TrainingData) -> TrainingData:
    """The world with a cut that no run reads."""
    return replace(world, test=make_cut(np.random.default_rng(9)))


@pytest.fixture(scope="session")
def full_study(full_world: TrainingData) -> TrainingData:
    """The full world with a part that no run reads."""
    rng = np.random.default_rng(9)
    return replace(full_world, test=make_full_cut(rng), test_texts=make_texts(rng))


@pytest.fixture(scope="session")
def tasks() -> tuple[EncoderTask, ...]:
    """The world's heads."""
    return TASKS


@pytest.fixture
def small_config(tiny_bert: Path) -> EncoderConfig:
    """A few cheap steps of both phases on the tiny BERT."""
    return EncoderConfig(
        backbone=BackboneConfig(name=str(tiny_bert), max_tokens={"user": 8, "item": 8, "text": 8}),
        batch=BatchConfig(users=16, positives=2, negatives=8),
        warmup=WarmupConfig(steps=20, validate_every=10, batch=BatchConfig(users=16, positives=2, negatives=8)),
        train_layers=2, steps=20, validate_every=10, learning_rate=1e-3, head_learning_rate=1e-2, rank=8, hidden=8,
        validation_batches=2, baseline_batches=4,
    )  # fmt: skip
