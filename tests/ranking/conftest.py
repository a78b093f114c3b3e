"""A small world: 160 users who rebuy from the categories they like, 90 products, 10 coupons; every part is real."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import settings
from safetensors.numpy import save_file
from scipy import sparse

from features.rows import ITEM_STATS_COLUMNS, user_features, wide_user_rows
from features.schema import (
    CATEGORY,
    EVENT,
    HISTORY_STATS,
    ITEM,
    ITEM_ID,
    ITEM_STATS,
    QUANTITY,
    TIMESTAMP,
    USER,
    VALUE,
    Float32,
    Int32,
    UserFeatures,
)
from features.tasks import AbsenceLabel, ColumnLabel, EventLabel, ExposedSpace, SeenSpace, TaskSpec, ValueLabel, labels
from features.transforms import FeatureConfig, FeatureFrames, compute
from features.units import unit_spans
from ranking.fit import RankingConfig, fit_ranking
from ranking.gbdt import GbdtConfig
from ranking.models import RankingModels
from ranking.predictor import Predictor
from ranking.ranker import Ranker
from ranking.rows import CutData, CutRows, build_rows
from ranking.signals import CutSource, HeadSides, SignalSchema
from ranking.spaces import dump_tasks, pair_tasks, user_tasks
from ranking.warmup import record
from ranking.warmup import write as write_warmup
from retrieval import layout
from retrieval.collaborative import AlsConfig, Collaborative, KnnConfig, fit_als, fit_knn
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import FORMAT, Description, TaskEntry
from retrieval.encoder.runtime import ReadTexts
from retrieval.encoder.units import TextTags, TextUnits
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.snapshot import ItemSnapshot

# Times are no property of a shared machine.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

USERS, PRODUCTS, COUPONS, CATEGORIES = 160, 90, 10, 9
START = datetime(2026, 1, 1, tzinfo=UTC)
HORIZON = timedelta(days=28)
CUTS = [START + timedelta(days=days) for days in (84, 112, 140)]

TASKS = (
    TaskSpec(name="purchase", kind="binary", on="pair", label=EventLabel(event="purchase"), items='kind == "product"'),
    TaskSpec(
        name="repurchase", kind="binary", on="pair", label=EventLabel(event="purchase"),
        space=SeenSpace(event="purchase"), items='kind == "product"',
    ),
    TaskSpec(
        name="coupon_response", kind="binary", on="pair", label=EventLabel(event="response"),
        space=ExposedSpace(event="exposure"), items='kind == "coupon"',
    ),
    TaskSpec(
        name="churn", kind="binary", on="user", label=AbsenceLabel(event="purchase", active_within_days=84),
    ),
    TaskSpec(name="spend", kind="regression", on="user", label=ValueLabel(event="purchase", reduce="sum")),
    TaskSpec(name="club", kind="binary", on="user", label=ColumnLabel(column="club")),
    TaskSpec(
        name="demand", kind="regression", on="item", label=ValueLabel(event="purchase", reduce="count"),
        items='kind == "product"',
    ),
    TaskSpec(name="topic", kind="multiclass", on="text", label=ColumnLabel(column="topic")),
    TaskSpec(name="urgent", kind="binary", on="text", label=ColumnLabel(column="urgent")),
    TaskSpec(name="slots", kind="token_tags", on="text", label=ColumnLabel(column="slots")),
    TaskSpec(name="answer", kind="contrastive", on="text", label=ColumnLabel(column="answer")),
)  # fmt: skip
BLENDED = (*pair_tasks(TASKS), *user_tasks(TASKS))
TOPICS = ("billing", "delivery", "greeting", "quality", "returns", "stock")


SMALL = GbdtConfig(num_leaves=7, rounds=30, min_data_in_leaf=20, threads=1)
CONFIG = RankingConfig(gbdt=SMALL, rank=SMALL)


@dataclass(frozen=True)
class World:
    """Events of 168 days and what derives from them."""

    items: pl.DataFrame
    user_ids: list[str]
    events: pl.DataFrame
    categories: Int32

    heads: Heads

    @property
    def schema(self) -> SignalSchema:
        return SignalSchema.of(self.heads)

    def frames(self, cut: datetime) -> FeatureFrames:
        return compute(self.events, self.categories, cut, n_users=USERS, config=FeatureConfig())

    def at(self, cut: datetime) -> CutData:
        frames = self.frames(cut)
        users = user_features(
            wide_user_rows(self.user_ids, frames.user_stats, frames.user_history, frames.user_category)
        )
        snapshot = self.snapshot(frames.item_stats, cut)
        source = self.source(users)
        kept = [row for row, user in enumerate(users) if len(user.items)]
        rng = np.random.default_rng(1)
        candidates = [np.sort(rng.permutation(PRODUCTS + COUPONS)[:60]).astype(np.int32) for _ in kept]
        return CutData(
            users=[users[row] for row in kept],
            positions=np.array(kept, np.int32),
            candidates=candidates,
            snapshot=snapshot,
            source=source,
            labels={task.name: labels(task, self.events, cut, HORIZON, self.items) for task in BLENDED},
        )

    def snapshot(self, stats: pl.DataFrame, cut: datetime) -> ItemSnapshot:
        frame = pl.concat(
            [self.items, stats.drop(ITEM).rename(dict(zip(ITEM_STATS_COLUMNS, ITEM_STATS, strict=True)))],
            how="horizontal",
        ).with_columns(pl.Series(CATEGORY, self.categories), pl.lit(True).alias("eligible"))
        return ItemSnapshot.from_frame(frame, as_of=cut, attributes=("kind",))

    def source(self, users: Sequence[UserFeatures]) -> CutSource:
        matrix = np.zeros((USERS, PRODUCTS + COUPONS), np.float32)
        decay = HISTORY_STATS.index("decayed_90")
        for row, user in enumerate(users):
            matrix[row, user.items] = user.history[:, decay]
        interactions = sparse.csr_matrix(matrix)
        als, knn = AlsConfig(factors=8, iterations=3), KnnConfig(neighbours=20)
        rng = np.random.default_rng(2)
        item_vectors = rng.normal(size=(PRODUCTS + COUPONS, 8)).astype(np.float32)
        user_vectors = (matrix @ item_vectors).astype(np.float32)
        norms = np.maximum(np.linalg.norm(user_vectors, axis=1, keepdims=True), 1e-6)
        item_vectors /= np.linalg.norm(item_vectors, axis=1, keepdims=True)
        return CutSource(
            collaborative=Collaborative.of(fit_als(interactions, als), fit_knn(interactions, knn), als, knn),
            sides=HeadSides(self.heads, item_vectors),
            item_vectors=item_vectors,
            user_vectors=user_vectors / norms,
            positions={user.user_id: row for row, user in enumerate(users)},
        )


def write_heads(folder: Path) -> None:
    """An exported encoder's heads, without its transformer."""
    rng = np.random.default_rng(5)
    arrays = {}
    for task in ("purchase", "coupon_response"):
        own = {"left": (3, 8), "right": (3, 8), "user": (8,), "item": (8,), "bias": (1,)}
        arrays |= {f"head/{task}/{name}": rng.normal(size=shape).astype(np.float32) for name, shape in own.items()}
    arrays |= {"head/retrieval/scale": np.array([20.0], np.float32)}
    for task, outputs in {"churn": 1, "spend": 1, "club": 1, "demand": 1, "topic": len(TOPICS), "urgent": 1}.items():
        arrays[f"head/{task}/outer"] = rng.normal(size=(outputs, 8)).astype(np.float32)
        arrays[f"head/{task}/bias"] = np.zeros(outputs, np.float32)
    arrays |= {"head/slots/outer": np.zeros((2, 8), np.float32), "head/slots/bias": np.zeros(2, np.float32)}
    arrays |= {"head/answer/scale": np.array([20.0], np.float32)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / "heads.safetensors")
    Description(
        format=FORMAT, backbone="none", dim=8, pad_id=0, max_tokens={}, prefixes={}, sides={},
        tasks=(
            TaskEntry(name="retrieval", kind="contrastive", on="pair"),
            TaskEntry(name="purchase", kind="binary", on="pair"),
            TaskEntry(name="coupon_response", kind="binary", on="pair"),
            TaskEntry(name="churn", kind="binary", on="user"),
            TaskEntry(name="spend", kind="regression", on="user"),
            TaskEntry(name="club", kind="binary", on="user"),
            TaskEntry(name="demand", kind="regression", on="item"),
            TaskEntry(name="topic", kind="multiclass", on="text", classes=TOPICS),
            TaskEntry(name="urgent", kind="binary", on="text"),
            TaskEntry(name="slots", kind="token_tags", on="text", classes=("O", "B")),
            TaskEntry(name="answer", kind="contrastive", on="text"),
        ),
    ).write(folder)  # fmt: skip


class WordVectors:
    """A text encoder without a transformer: each text has a direction of its own; counts its passes."""

    def __init__(self) -> None:
        self.passes = 0

    def encode(self, texts: Sequence[str], kind: Literal["text", "item"]) -> Float32:
        assert kind in {"text", "item"}
        self.passes += 1
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=8) for text in texts]
        vectors = np.stack(rows).astype(np.float32)
        unit: Float32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def read(self, texts: Sequence[str], tasks: Sequence[str]) -> ReadTexts:
        """Reads three words of each text, whose tag is B where they start with a capital, else O."""
        vectors = self.encode(texts, "text")
        return ReadTexts(vectors=vectors, tags={task: [_capitals(text) for text in texts] for task in tasks})


def _capitals(text: str) -> TextTags:
    spans = unit_spans(text, "word")
    units = TextUnits.of(text, "word", spans[:3])
    rows = [((0.125, 0.875) if text[start].isupper() else (0.75, 0.25)) for start, _ in spans[:3]]
    return TextTags(
        units=units, probabilities=np.array([*rows, *[(np.nan, np.nan)] * len(spans[3:])], np.float32).reshape(-1, 2)
    )


def _world(folder: Path) -> World:
    write_heads(folder)
    rng = np.random.default_rng(0)
    kinds = ["product"] * PRODUCTS + ["coupon"] * COUPONS
    ids = [f"item-{number}" for number in range(PRODUCTS + COUPONS)]
    items = pl.DataFrame({ITEM_ID: ids, "kind": kinds, "title": [f"title of {name}" for name in ids]})
    categories = np.array([n % CATEGORIES if n < PRODUCTS else -1 for n in range(PRODUCTS + COUPONS)], np.int32)
    rows: list[tuple[int, int, str, datetime, float, float]] = []
    for user in range(USERS):
        liked = rng.permutation(PRODUCTS)[:12]
        gap, alive_until = rng.integers(4, 15), 168 if user % 2 else int(rng.integers(70, 115))
        for day in range(int(rng.integers(0, gap)), alive_until, gap):
            basket = {int(item) for item in rng.choice(liked, 4)} | {int(rng.zipf(1.6)) % PRODUCTS}
            when = START + timedelta(days=day, hours=int(rng.integers(8, 20)))
            rows += [(user, item, "purchase", when, float(rng.uniform(1, 9)), 1.0) for item in sorted(basket)]
        for day in range(50, 168, 20):
            when = START + timedelta(days=day)
            for coupon in rng.permutation(COUPONS)[:4]:
                rows.append((user, PRODUCTS + int(coupon), "exposure", when, 0.0, 0.0))
                if rng.random() < (0.5 if user % 2 else 0.1):
                    rows.append((user, PRODUCTS + int(coupon), "response", when + timedelta(days=3), 0.0, 0.0))
    schema = {USER: pl.Int32, ITEM: pl.Int32, EVENT: pl.String, TIMESTAMP: pl.Datetime("us", "UTC"),
              VALUE: pl.Float64, QUANTITY: pl.Float64}  # fmt: skip
    events = pl.DataFrame(rows, schema=schema, orient="row").sort(TIMESTAMP)
    return World(items, [f"user-{number}" for number in range(USERS)], events, categories, Heads.load(folder))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return _world(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def cut_data(world: World) -> CutData:
    return world.at(CUTS[1])


@pytest.fixture(scope="session")
def serving_data(world: World) -> CutData:
    return world.at(CUTS[2])


@pytest.fixture(scope="session")
def cut_rows(world: World, cut_data: CutData, serving_data: CutData) -> list[CutRows]:
    cuts = (world.at(CUTS[0]), cut_data, serving_data)
    return [build_rows(data, TASKS, world.schema) for data in cuts]


@pytest.fixture(scope="session")
def config() -> RankingConfig:
    return CONFIG


@pytest.fixture(scope="session")
def tasks() -> tuple[TaskSpec, ...]:
    return TASKS


@pytest.fixture(scope="session")
def schema(world: World) -> SignalSchema:
    return world.schema


@pytest.fixture(scope="session")
def models(cut_rows: list[CutRows], world: World) -> RankingModels:
    return fit_ranking(cut_rows[:1], cut_rows[1], TASKS, world.schema, CONFIG)


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, serving_data: CutData, models: RankingModels) -> Path:
    """A release directory as of the last cut, with everything but the text encoder."""
    folder = tmp_path_factory.mktemp("releases") / "first"
    write_release(folder, serving_data, models)
    return folder


def write_release(folder: Path, data: CutData, models: RankingModels) -> None:
    source = data.source
    assert isinstance(source, CutSource)
    for name in ("vectors", "items", "ranking"):
        (folder / name).mkdir(parents=True)
    write_heads(folder / layout.ENCODER_DIR)
    np.save(folder / layout.ITEM_VECTORS, source.item_vectors)
    np.save(folder / layout.USER_VECTORS, source.user_vectors)
    (folder / layout.USER_IDS).write_text(json.dumps(list(source.positions)))
    index = VectorIndex.build(source.item_vectors, np.arange(len(source.item_vectors), dtype=np.int32), IndexConfig())
    index.save(folder / layout.INDEX_DIR)
    data.snapshot.save(folder / layout.SNAPSHOT)
    assert source.collaborative is not None
    source.collaborative.save(folder / layout.COLLABORATIVE_DIR)
    (folder / layout.TASKS).write_bytes(dump_tasks(TASKS))
    models.save(folder)
    ranker = Ranker.load(folder, Retriever.load(folder))
    write_warmup(folder, [], record(ranker, data.users[:2]))


@pytest.fixture(scope="session")
def ranker(release: Path) -> Ranker:
    return Ranker.load(release, Retriever.load(release))


@pytest.fixture(scope="session")
def text_encoder() -> WordVectors:
    return WordVectors()


@pytest.fixture(scope="session")
def predictor(release: Path, ranker: Ranker) -> Predictor:
    return Predictor.load(release, ranker.retriever, ranker)


@pytest.fixture(scope="session")
def reading_predictor(release: Path, ranker: Ranker, text_encoder: WordVectors) -> Predictor:
    """The same release with a text encoder."""
    return Predictor.load(release, Retriever.load(release, load_encoder=lambda: text_encoder), ranker)
