"""The constants of `retrieval/index/plan.py`, in nanoseconds on one core, fitted to searches of one run.

Use: .venv/bin/python tests/benchmarks/index_costs.py [--count 200000] [--dim 384]

Every search has a mask and a query of its own, so that rows come from memory and not from the cache; times are the
medians of `--rounds`. The plan compares costs, so their ratios count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from clustered_vectors import make
from rich.console import Console

from retrieval.index.build import fill
from retrieval.index.config import IndexConfig, IndexType
from retrieval.index.exact import exact, ordered, products
from retrieval.index.faiss_search import find, scan
from retrieval.index.rows import Rows

CONSOLE = Console(width=120)
SHARES = (0.01, 0.03, 0.1, 0.3)
BREADTHS = (256, 512, 1_024, 2_048)
SCANNED: tuple[IndexType, ...] = ("flat_fp16", "ivf_sq8", "ivf_pq")
GRAPH_ROWS = 20_000  # what a graph of more would take to build tells no more of a step


def median(rounds: int, act: Callable[[int], object]) -> float:
    """Return the median nanoseconds of `act`, which is given the round."""
    taken = []
    for turn in range(rounds):
        began = time.perf_counter_ns()
        act(turn)
        taken.append(time.perf_counter_ns() - began)
    return float(np.median(taken))


def fitted(columns: list[list[float]], taken: list[float]) -> list[float]:
    """Return the factors of `columns` (one list a search) that make up `taken`, relative errors counting alike."""
    weights = 1 / np.array(taken)
    factors, *_ = np.linalg.lstsq(np.array(columns) * weights[:, None], np.ones(len(taken)), rcond=None)
    return [round(float(factor), 2) for factor in factors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    count, dim, rounds = args.count, args.dim, args.rounds
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), count, dim)
        vectors = np.load(Path(folder) / "vectors.npy")
        queries = np.load(Path(folder) / "queries.npy")
    rows = Rows.checked(vectors, np.arange(count, dtype=np.int32), None)
    masks = {share: [rng.random(count) < share for _ in range(rounds)] for share in SHARES}

    def exactly(share: float) -> Callable[[int], object]:
        members = [np.flatnonzero(mask).astype(np.int32) for mask in masks[share]]
        return lambda turn: exact(vectors, members[turn], queries[turn : turn + 1], 100)

    gather = fitted([[share * count * dim] for share in SHARES], [median(rounds, exactly(share)) for share in SHARES])
    CONSOLE.print("gather, a value:", *gather)
    for kind in SCANNED:
        index = fill(kind, rows, IndexConfig(lists=1_000))

        def scanning(share: float, index: object = index, kind: IndexType = kind) -> Callable[[int], object]:
            return lambda turn: scan(index, kind, queries[turn : turn + 1], 125, masks[share][turn])

        taken = [median(rounds, scanning(share)) for share in SHARES]
        check, code = fitted([[count, share * count * dim] for share in SHARES], taken)
        CONSOLE.print(f"{kind}: check, a row: {check}; code, a value: {code}")
    candidates = rng.integers(0, count, (rounds, 4_000)).astype(np.int32)

    def again(turn: int) -> object:
        part, query = candidates[turn : turn + 1], queries[turn : turn + 1]
        return ordered(part, products(vectors, query, part), 100)

    CONSOLE.print("keep, a candidate, its gather included:", round(median(rounds, again) / 4_000))
    graph = fill("hnsw", Rows.checked(vectors, rows.positions[:GRAPH_ROWS], None), IndexConfig())
    walks = [
        median(
            rounds, lambda turn, breadth=breadth: find(graph, "hnsw", queries[turn : turn + 1], breadth // 2, breadth)
        )
        for breadth in BREADTHS
    ]
    step, queue = fitted([[breadth * dim, breadth**2] for breadth in BREADTHS], walks)
    CONSOLE.print(f"graph, a value of the breadth: {step}; queue, its square: {queue}")


if __name__ == "__main__":
    main()
