"""Cold items: how many of the items that training never saw are found for the users who then buy them.

usage: python tests/benchmarks/cold_items.py -w WORKSPACE --as-of DATE [--share .1] [--seed 0] [--k 100]

Of the eligible items that somebody buys in the window after DATE a seeded share becomes cold: every event of theirs is
taken out before anything is computed, then features, encoder and vectors are built of the rest, in the workspace's
folder `cold_items`, where finished steps are reused. For each user who buys a cold item in the window, and bought
something warm before, a full ranking is asked for k items: among the cold ones alone, and among all that are eligible.

- encoder: the semantic source, as a request asks it (the user's text and the last items), and the text alone.
- BM25: Lucene's, k1 1.5, b .75, English stop words, no stemming; of the same user texts and item texts.
- popularity: buyers before DATE; no cold item has any, so these come last, in random order.
- category popularity: buyers in the last 28 days, averaged over the warm items of the category.

Recall is the share of the cold items a user buys; intervals are 95% bootstrap ones over users; `less BM25` is the
encoder's figure less BM25's over the same users.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import bm25s
import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from features.schema import EVENT, ITEM, ITEM_ID, ITEM_STATS, TIMESTAMP, Float32, Int32, UserFeatures
from flows.build import Build
from flows.cli import parse_as_of
from flows.console_tables import figure_cell
from flows.current_tables import load_data
from flows.report import Figure
from flows.stages.data import Data, Mask
from flows.stages.encode import texts_of_users
from flows.stages.rankings import held_out
from flows.steps import StepStore
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.config import RetrievalConfig
from retrieval.engine import Retriever
from retrieval.evaluate import Float64, bootstrap_interval, top_k
from retrieval.index import IndexConfig, VectorIndex
from retrieval.recall import recall

CONSOLE = Console(width=120)
Scores = Callable[[int], Float32]


@dataclass(frozen=True, kw_only=True)
class ColdBuild(Build):
    """A build of everything but the events of some items (int32 positions)."""

    cold: Int32

    @cached_property
    def data(self) -> Data:
        whole = load_data(self.workspace, self.tables, self.as_of, self.item_sequence)
        ids = whole.tables.items[ITEM_ID].gather(self.cold).implode()
        tables = replace(whole.tables, events=whole.tables.events.filter(~pl.col(ITEM_ID).is_in(ids)))
        return replace(whole, tables=tables, events=whole.events.filter(~pl.col(ITEM).is_in(self.cold.tolist())))


def main() -> None:
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    arguments = _arguments()
    whole = Build.start(Workspace.load(arguments.workspace), Settings(), arguments.as_of)
    later = load_data(whole.workspace, whole.tables, None, whole.item_sequence)
    eligible = whole.data.eligible(whole.as_of)
    cold = choose(later, whole, eligible, arguments.share, arguments.seed)
    scratch = Workspace(folder=whole.workspace.folder / "cold_items", config=whole.workspace.config)
    build = ColdBuild(
        workspace=scratch,
        settings=whole.settings,
        tables=whole.tables,
        as_of=whole.as_of,
        item_sequence=whole.item_sequence,
        steps=StepStore(scratch.runs),
        cold=cold,
    )
    encoder = build.encoder()
    retriever = Retriever.load(build.scene(build.as_of, encoder))
    assert build.features is not None, "expected a workspace with events"
    users = build.features.users(build.as_of)

    truth = held_out(later, build.as_of, build.workspace.config.time.horizon, eligible)
    bought = [np.intersect1d(items, cold).astype(np.int32) for items in truth.relevant]
    rows = [
        row
        for row, position in enumerate(truth.positions)
        if len(bought[row])
        and len(users[position].items)
        and retriever.user_vector(users[position].user_id) is not None
    ]
    who, relevant = truth.positions[rows], [bought[row] for row in rows]
    asked = [users[position] for position in who]
    scores = baselines(build, retriever, who)
    warm_texts = set(np.array(build.data.item_texts, object)[eligible & ~_mask(cold, len(eligible))])
    shared = np.mean([build.data.item_texts[item] in warm_texts for item in cold])
    CONSOLE.print(
        f"{len(cold):,} cold items, {shared:.0%} of them with the text of a warm one; {len(who):,} users buy "
        f"{sum(map(len, relevant)):,} of them",
        highlight=False,
    )
    for title, pool in (("the cold items alone", _mask(cold, len(eligible))), ("all eligible items", eligible)):
        found = {
            "encoder (semantic source)": semantic(retriever, pool, asked, arguments.k, retriever.config),
            "encoder, user text alone": semantic(
                retriever, pool, asked, arguments.k, RetrievalConfig(recent_queries=0)
            ),
            **{name: best(way, pool, len(who), arguments.k, arguments.seed) for name, way in scores.items()},
        }
        show(f"among {title} ({pool.sum():,})", arguments.k, {way: recall(own, relevant) for way, own in found.items()})


def choose(later: Data, build: Build, eligible: Mask, share: float, seed: int) -> Int32:
    """Return int32 positions, ascending, of a share of the eligible items with a buyer in the window."""
    end = build.as_of + build.workspace.config.time.horizon
    window = later.events.filter(
        (pl.col(EVENT) == later.features.purchase_event) & pl.col(TIMESTAMP).is_between(build.as_of, end, closed="left")
    )
    sold = np.unique(window[ITEM].to_numpy())
    sold = sold[eligible[sold]]
    return np.sort(np.random.default_rng(seed).choice(sold, round(share * len(sold)), replace=False)).astype(np.int32)


def semantic(
    retriever: Retriever, pool: Mask, users: Sequence[UserFeatures], k: int, config: RetrievalConfig
) -> list[Int32]:
    """Return each user's best items of the pool by the semantic source, all of the pool searched."""
    snapshot = replace(retriever.snapshot, eligible=pool)
    vectors = np.asarray(retriever.item_vectors)
    index = VectorIndex.build(vectors, snapshot.eligible_positions, IndexConfig(type="flat"))
    other = replace(retriever, snapshot=snapshot, index=index, config=config)
    with threadpool_limits(1, "blas"):
        return [other.candidates(user, k, sources=["semantic"]).candidates.items for user in users]


def baselines(build: Build, retriever: Retriever, who: Int32) -> dict[str, Scores]:
    """Return by way the scores of all items, float32 `[n_items]`, for the user in a row."""
    snapshot = retriever.snapshot
    stats = np.nan_to_num(snapshot.stats)
    recent, codes = stats[:, ITEM_STATS.index("buyers_28d")], snapshot.category_codes
    warm = snapshot.eligible & (codes >= 0)
    size = int(codes.max(initial=0)) + 1
    sums = np.bincount(codes[warm], recent[warm], size)
    means = (sums / np.maximum(np.bincount(codes[warm], minlength=size), 1)).astype(np.float32)
    by_category = np.where(codes >= 0, means[codes], 0)
    popularity = stats[:, ITEM_STATS.index("buyers")]

    assert build.features is not None
    positions, texts = texts_of_users(build.data, build.features.frames(build.as_of))
    of_user = dict(zip(positions.to_list(), texts.to_list(), strict=True))
    index = bm25s.BM25()
    index.index(bm25s.tokenize(build.data.item_texts, stopwords="en", show_progress=False), show_progress=False)
    asked = [of_user[position] for position in who.tolist()]
    tokens = bm25s.tokenize(asked, stopwords="en", show_progress=False, return_ids=False)
    return {
        "BM25 on text": lambda row: np.asarray(index.get_scores(tokens[row]), np.float32),
        "popularity": lambda _: popularity,
        "category popularity": lambda _: by_category,
    }


def best(scores: Scores, pool: Mask, users: int, k: int, seed: int) -> list[Int32]:
    """Return each user's best items of the pool, equal ones in random order."""
    rng = np.random.default_rng(seed)
    return [top_k(scores(row), k, rng=rng, allowed=pool) for row in range(users)]


def show(title: str, k: int, ways: dict[str, Float64]) -> None:
    """Print the mean recall of each way, and what each has more than BM25."""
    table = Table(title=f"Recall@{k} of cold items {title}", title_justify="left")
    for heading in ("way", f"recall@{k}", "less BM25"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for way, values in ways.items():
        cells = (_figure(values), _figure(values - ways["BM25 on text"]))
        table.add_row(way, *(figure_cell(cell) for cell in cells))
    CONSOLE.print(table)


def _figure(values: Float64) -> Figure:
    found = bootstrap_interval(values)
    return Figure(value=found.mean, low=found.low, high=found.high, n=found.users)


def _mask(items: Int32, length: int) -> Mask:
    mask = np.zeros(length, bool)
    mask[items] = True
    return mask


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, required=True)
    parser.add_argument("--share", type=float, default=0.1, help="of the items with a buyer in the window")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=int, default=100)
    return parser.parse_args()


if __name__ == "__main__":
    main()
