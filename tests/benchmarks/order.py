"""What rules on the order cost a request, and what diversity costs in relevance.

usage: python tests/benchmarks/order.py [--items 500] [--k 50] [--dim 384] [--requests 200] [-w WORKSPACE]

Milliseconds of each rule on lists of so many items of a synthetic catalogue, in turn, one thread as a service has. With
a published workspace with events beside, its held-out users are ranked by each method and weight of relevance: NDCG@10
of what they then buy, the mean cosine of any two of the ten (intra-list similarity), and how many categories they are
of, with 95% bootstrap intervals over users.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from features.schema import ITEM_STATS, Float32, Int32
from features.store import FeatureStore
from flows.current_tables import latest_tables, load_data
from flows.stages.rankings import held_out
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.ranker import Ranker
from ranking.rules.apply import Listed, apply
from ranking.rules.catalogue import Catalogue
from ranking.rules.config import Diversity, Rules
from retrieval.engine import Retriever
from retrieval.evaluate import bootstrap_interval, ranking_metrics
from retrieval.filters import ItemFilters
from retrieval.snapshot import ItemSnapshot

CONSOLE = Console(width=120)
CATALOGUE = 100_000
SHOWN = 10
WEIGHTS = (0.9, 0.8, 0.7, 0.5, 0.3)

RULES: dict[str, dict[str, Any]] = {
    "block, by filter": {"block": {"items": "brand == 3"}},
    "block, 1,000 ids": {"block": {"ids": [f"item-{n}" for n in range(1_000)]}},
    "deduplicate by title": {"deduplicate": [{"by": ["title"]}]},
    "boost": {"boost": [{"items": "brand < 40", "places": 10}]},
    "frequency, 50 items shown": {"frequency": {"times": 2}},
    "bury": {"bury": {"items": "brand == 4"}},
    "diversity, MMR of 100": {"diversity": {"method": "mmr"}},
    "diversity, MMR of all": {"diversity": {"method": "mmr", "first": 1_000}},
    "diversity, DPP of 100": {"diversity": {"method": "dpp"}},
    "diversity, DPP of all": {"diversity": {"method": "dpp", "first": 1_000}},
    "cap, 2 of a brand in 10": {"caps": [{"attribute": "brand", "most": 2, "first": 10}]},
    "caps, and 1 in any 3": {
        "caps": [{"attribute": "brand", "most": 2, "first": 10}, {"attribute": "title", "most": 1, "within": 3}]
    },
    "exposure of 20": {"exposure": [{"items": "brand < 100", "share": 0.3, "first": 20}]},
    "discovery": {"discovery": {"every": 10}},
    "pin": {"pin": [{"ids": ["item-7"], "places": [1]}, {"items": "brand == 5", "places": [3, 9]}]},
}


def synthetic(dim: int) -> Catalogue:
    """Return a catalogue of items of 200 brands and 50,000 titles."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(CATALOGUE, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"item-{n}" for n in range(CATALOGUE)]
    brands, titles = rng.zipf(1.3, CATALOGUE) % 200, rng.integers(0, CATALOGUE // 2, CATALOGUE)
    snapshot = ItemSnapshot(
        item_ids=ids,
        stats=np.full((CATALOGUE, len(ITEM_STATS)), np.nan, np.float32),
        attributes=pl.DataFrame({"brand": brands, "title": [f"title {n}" for n in titles]}),
        category_codes=np.zeros(CATALOGUE, np.int32),
        eligible=np.ones(CATALOGUE, bool),
        titles=ids,
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Catalogue(snapshot=snapshot, matching=ItemFilters(snapshot).mask, vectors=vectors)


def lists(catalogue: Catalogue, items: int, requests: int) -> list[Listed]:
    """Return so many lists of random items, half of them bought, with probabilities as scores."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(requests):
        own = rng.choice(CATALOGUE, items, replace=False).astype(np.int32)
        scores = rng.beta(0.3, 5, items)
        shown = {catalogue.snapshot.item_ids[item]: 3 for item in own[:50]}
        found.append(
            Listed(items=own, scores=scores, order=np.argsort(-scores), bought=rng.random(items) < 0.5, shown=shown)
        )
    return found


def latencies(arguments: argparse.Namespace) -> None:
    """Time every rule on every list, in turn."""
    catalogue = synthetic(arguments.dim)
    asked = lists(catalogue, arguments.items, arguments.requests)
    ways = {name: Rules.model_validate(rules) for name, rules in RULES.items()}
    every = {key: value for rules in RULES.values() for key, value in rules.items()}
    ways["all of them"] = Rules.model_validate(every | {"diversity": {"method": "dpp"}})
    none = Rules()
    taken: dict[str, list[float]] = {name: [] for name in ("none set", *ways)}
    for listed in asked:
        began = time.perf_counter()
        # What `Ranker.order` does where nothing is set.
        assert not none.are_set
        listed.order[: arguments.k]
        taken["none set"].append(time.perf_counter() - began)
        for name, rules in ways.items():
            began = time.perf_counter()
            apply(rules, listed, catalogue, arguments.k)
            taken[name].append(time.perf_counter() - began)
    title = f"ms a request: {arguments.items} items, k={arguments.k}, {arguments.dim} dimensions"
    table = _table(title, "rule", "p50", "p99")
    for name, seconds in taken.items():
        p50, p99 = np.percentile(1e3 * np.array(seconds[len(seconds) // 10 :]), [50, 99])
        table.add_row(name, f"{p50:.3f}", f"{p99:.3f}")
    CONSOLE.print(table)


def trade_off(folder: Path) -> None:
    """Rank a workspace's held-out users by each weight and print what it does to relevance and to likeness."""
    workspace = Workspace.load(folder)
    store = ReleaseStore(workspace.releases)
    current = store.current()
    tables = latest_tables(workspace)
    assert current is not None, "expected a published release"
    assert tables is not None, "expected the tables of its refresh"
    retriever = Retriever.load(store.path(current))
    ranker = Ranker.load(store.path(current), retriever)
    data = load_data(workspace, tables, None, retriever.item_sequence)
    cut = retriever.snapshot.as_of
    truth = held_out(data, cut, workspace.config.time.horizon, retriever.snapshot.eligible)
    features = FeatureStore(workspace.feast, Settings())
    ways = {("as scored", 1.0): Rules()}
    for method in ("mmr", "dpp"):
        ways |= {(method, weight): Rules(diversity=Diversity(method=method, relevance=weight)) for weight in WEIGHTS}
    found: dict[tuple[str, float], list[Int32]] = {way: [] for way in ways}
    for position in truth.positions:
        user = features.online_user(retriever.user_ids[position])
        scored = ranker.score(user, retriever.candidates(user, 500).candidates.items)
        for way, rules in ways.items():
            found[way].append(ranker.order(user, scored, k=SHOWN, rules=rules).items)
    catalogue = int(retriever.snapshot.eligible.sum())
    title = f"the best {SHOWN} of {len(truth.positions):,} held-out users"
    table = _table(title, "method", "relevance", f"NDCG@{SHOWN}", "cosine of any two", "categories")
    for (method, weight), served in found.items():
        ndcg = ranking_metrics(served, truth.relevant, k=SHOWN, catalogue=catalogue).ndcg
        alike = np.array([likeness(retriever.item_vectors[items]) for items in served])
        kinds = np.array([len(np.unique(retriever.snapshot.category_codes[items])) for items in served], np.float64)
        table.add_row(method, f"{weight:g}", *(_figure(values) for values in (ndcg, alike, kinds)))
    CONSOLE.print(table)


def likeness(vectors: Float32) -> float:
    """Return the mean cosine of any two of float32 `[n, dim]`, n > 1."""
    return float((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)].mean())


def _figure(values: np.ndarray) -> str:
    ends = bootstrap_interval(values)
    return f"{values.mean():.4f} ({ends.low:.4f} to {ends.high:.4f})"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("-w", "--workspace", type=Path)
    arguments = parser.parse_args(given)
    with threadpool_limits(1, "blas"):
        latencies(arguments)
        if arguments.workspace is not None:
            trade_off(arguments.workspace)


if __name__ == "__main__":
    main()
