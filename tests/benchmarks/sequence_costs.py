"""What the sequence source adds to a candidates call, in process and on one thread.

Use: .venv/bin/python tests/benchmarks/sequence_costs.py [--counts 2000 100000]

Two retrievers of one made-up catalogue, merged by quotas, differ by the model alone: of the default width and blocks,
untrained, since weights don't change the work. Users have bought 100 items once each. Times are CPU milliseconds of
`candidates(k=500)` at p50, the two asked in turn.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from datetime import UTC, datetime

import faiss
import numpy as np
import polars as pl
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from features.schema import CATEGORY_STATS, HISTORY_STATS, ITEM_STATS, USER_STATS, Float32, UserFeatures
from retrieval.collaborative import Als, AlsConfig, Collaborative, Knn, KnnConfig
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.export import exported
from retrieval.sequence.model import SequenceNet
from retrieval.sequence.runtime import SequenceModel
from retrieval.sequence.texts import TextScale
from retrieval.snapshot import ItemSnapshot

CONSOLE = Console(width=120)
DIM, FACTORS, NEIGHBOURS, BOUGHT, USERS = 384, 64, 200, 100, 50


def unit(rng: np.random.Generator, *shape: int) -> Float32:
    rows = rng.standard_normal(shape, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def retriever(count: int, vectors: Float32, rng: np.random.Generator) -> Retriever:
    """Return a release of `count` items, all of them eligible."""
    knn = Knn(
        indptr=np.arange(count + 1, dtype=np.int64) * NEIGHBOURS,
        indices=rng.integers(0, count, count * NEIGHBOURS).astype(np.int32),
        data=rng.random(count * NEIGHBOURS, dtype=np.float32),
    )
    als = Als(users=unit(rng, USERS, FACTORS), items=unit(rng, count, FACTORS))
    snapshot = ItemSnapshot(
        item_ids=[str(item) for item in range(count)],
        stats=rng.random((count, len(ITEM_STATS)), dtype=np.float32),
        attributes=pl.DataFrame({"kind": ["product"] * count}),
        category_codes=np.zeros(count, np.int32),
        eligible=np.ones(count, bool),
        titles=[""] * count,
        as_of=datetime(2024, 1, 1, tzinfo=UTC),
    )
    return Retriever(
        snapshot=snapshot,
        item_vectors=vectors,
        index=VectorIndex.build(vectors, snapshot.eligible_positions, IndexConfig()),
        user_ids=[str(user) for user in range(USERS)],
        user_vectors=unit(rng, USERS, DIM),
        collaborative=Collaborative.of(als, knn, AlsConfig(factors=FACTORS), KnnConfig(neighbours=NEIGHBOURS)),
    )


def model(vectors: Float32) -> SequenceModel:
    torch.manual_seed(0)
    config, scale = SequenceConfig(), TextScale.of(vectors)
    net = SequenceNet(scale.standardised(vectors), torch.ones(len(vectors), dtype=torch.bool), 1, config)
    return exported(net, scale, config)


def people(count: int, rng: np.random.Generator) -> list[UserFeatures]:
    found = []
    for user in range(USERS):
        history = np.ones((BOUGHT, len(HISTORY_STATS)), np.float32)
        for name in ("last_age_days", "first_age_days"):
            history[:, HISTORY_STATS.index(name)] = np.arange(1, BOUGHT + 1)
        found.append(
            UserFeatures(
                user_id=str(user), known=True, as_of=0.0, stats=np.zeros(len(USER_STATS), np.float32),
                items=rng.choice(count, BOUGHT, replace=False).astype(np.int32), history=history,
                categories=np.empty(0, np.int32), category_stats=np.empty((0, len(CATEGORY_STATS)), np.float32),
            )
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2_000, 100_000])
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    for count in arguments.counts:
        rng = np.random.default_rng(0)
        vectors = unit(rng, count, DIM)
        without = retriever(count, vectors, rng)
        ways = {"without": without, "with": dataclasses.replace(without, sequence=model(vectors))}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        with threadpool_limits(1, "blas"):
            for _ in range(arguments.rounds):
                for user in people(count, rng):
                    for way, own in ways.items():
                        began = time.process_time_ns()
                        own.candidates(user, 500)
                        taken[way].append((time.process_time_ns() - began) / 1e6)
        p50 = {way: float(np.median(times[USERS:])) for way, times in taken.items()}
        CONSOLE.print(
            f"{count:,} items: {p50['without']:.2f} ms without, {p50['with']:.2f} ms with the sequence source",
            highlight=False,
        )


if __name__ == "__main__":
    main()
