"""Latency of the served answers beside their raw parts and beside the path that reads Feast for every candidate.

usage: python tests/benchmarks/serving.py -w WORKSPACE [--requests 300] [--rounds 5]

Starts `polyrank serve` on a free port, asks it as one client over loopback, and in between, round by round, times the
raw parts in this process: one FAISS search, the trees' predictions, one Feast read of the user. The naive path is what
a feature-store tutorial does: the same parts, but item features read from Feast's online store for every candidate, by
one call for all of them. Our flows put no item online, so they are brought there in a copy of the feature store first:
reading rows that are absent would be cheaper than any real request.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from features.store import FeatureStore
from features.views import ITEM_STATS_VIEW
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking import gbdt
from ranking.ranker import Ranker
from retrieval.engine import Retriever

CONSOLE = Console(width=110)
CANDIDATES, RETURNED, RANKED = 500, 20, 100


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    release = ReleaseStore(workspace.releases)
    current = release.current()
    assert current is not None, "expected a published release; `polyrank demo` makes one"
    retriever = Retriever.load(release.path(current))
    ranker = Ranker.load(release.path(current), retriever)
    as_of = release.manifest(current).as_of
    assert as_of is not None, "expected a release that says of when its data is"
    with items_online(workspace, as_of) as store:
        measure(arguments, workspace, ranker, store)


def measure(arguments: argparse.Namespace, workspace: Workspace, ranker: Ranker, store: FeatureStore) -> None:
    """Time every path in turn and print the figures."""
    retriever = ranker.retriever
    users = _known_users(store, retriever, arguments.users)
    samples: dict[str, list[float]] = {}
    with serving(workspace.folder) as (url, process, ready_s):
        # The standard library's client: httpx adds 1 ms of its own to each call, which is not the service's.
        with closing(HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=30)) as client:
            calls = _calls(client, ranker, store, users)
            per_round = max(1, arguments.requests // arguments.rounds)
            for call in calls.values():
                for user in users[:20]:
                    call(user)
            rng = random.Random(0)
            naive = [name for name in calls if name.startswith("naive")]
            for _ in range(arguments.rounds):
                # Call by call in turn, so that the parts find caches as cold as a request does; in a loop of its own
                # each part took half as long. The naive reads would wipe out every cache, and come last.
                for _ in range(per_round):
                    for name in (name for name in calls if name not in naive):
                        _time(samples, name, calls[name], rng.choice(users))
                for name in naive:
                    for _ in range(max(1, per_round // 4)):
                        _time(samples, name, calls[name], rng.choice(users))
        memory = _resident_mb(process.pid)
    _print(samples, ready_s, memory)


def _time(samples: dict[str, list[float]], name: str, call: Callable[[str], object], user: str) -> None:
    began = time.perf_counter()
    call(user)
    samples.setdefault(name, []).append((time.perf_counter() - began) * 1000)


@contextmanager
def items_online(workspace: Workspace, as_of: datetime) -> Iterator[FeatureStore]:
    """Yield a copy of the workspace's feature store with the item statistics of `as_of` online as well."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "feast"
        shutil.copytree(workspace.feast, folder)
        store = FeatureStore(folder, Settings())
        store.apply()
        CONSOLE.print("bringing the items online in a copy of the feature store, for the naive path ...")
        store.materialize(as_of, items=True)
        yield store


def _calls(
    client: HTTPConnection, ranker: Ranker, store: FeatureStore, users: Sequence[str]
) -> dict[str, Callable[[str], object]]:
    retriever = ranker.retriever
    features = {user: store.online_user(user) for user in users}
    items = {user: retriever.candidates(features[user], CANDIDATES).candidates.items for user in users}
    rows = {user: ranker.score(features[user], items[user]).features for user in users[:50]}
    bodies = {user: [{"item_id": retriever.snapshot.item_ids[item]} for item in items[user][:RANKED]] for user in users}
    fallback = next(iter(rows.values()))
    boosters = [*ranker.models.trees.values(), ranker.models.rank]

    def trees(user: str, n: int) -> None:
        matrix = rows.get(user, fallback)[:n]
        for booster in boosters:
            gbdt.predict_raw(booster, matrix)

    def search(user: str) -> None:
        vector = retriever.user_vector(user)
        assert vector is not None
        retriever.index.search(vector[None], 200)

    def post(path: str, body: dict[str, object]) -> None:
        client.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = client.getresponse()
        answered = json.loads(answer.read())
        assert answer.status == 200, answered

    def naive_items(user: str, n: int) -> None:
        ids = [{"item_id": retriever.snapshot.item_ids[item]} for item in items[user][:n]]
        _online_items(store, ids)

    return {
        "/v1/recommend (500 -> 20)": lambda user: post("/v1/recommend", {"user_id": user, "k": RETURNED}),
        "/v1/rank (100 items)": lambda user: post("/v1/rank", {"user_id": user, "items": bodies[user]}),
        "raw: one Feast read": store.online_user,
        "raw: FAISS search, k=200": search,
        "raw: trees, 500 rows": lambda user: trees(user, CANDIDATES),
        "raw: trees, 100 rows": lambda user: trees(user, RANKED),
        "naive: Feast read of every candidate, 500": lambda user: naive_items(user, CANDIDATES),
        "naive: Feast read of every candidate, 100": lambda user: naive_items(user, RANKED),
    }


def _online_items(store: FeatureStore, rows: list[dict[str, str]]) -> None:
    online = store._feast
    view = online.get_feature_view(ITEM_STATS_VIEW)
    names = [f"{ITEM_STATS_VIEW}:{field.name}" for field in view.features]
    found = online.get_online_features(names, rows).to_dict()
    assert all(len(values) == len(rows) for values in found.values())
    assert any(value is not None for value in found[view.features[0].name]), "expected items online, found none"


def _known_users(store: FeatureStore, retriever: Retriever, count: int) -> list[str]:
    known = [user for user in retriever.user_ids if retriever.user_vector(user) is not None]
    random.Random(1).shuffle(known)
    return [user for user in known[: 2 * count] if store.online_user(user).known][:count]


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """Run `polyrank serve` on a free port; yield its URL, its process and the seconds until it was ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "-w", str(folder), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"POLYRANK_LOG_LEVEL": "warning"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            assert process.poll() is None, f"polyrank serve ended with {process.returncode}"
            try:
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        yield url, process, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def _print(samples: dict[str, list[float]], ready_s: float, memory_mb: float) -> None:
    table = Table(title="milliseconds, one client, warm", title_justify="left")
    for column in ("what", "p50", "p99", "n"):
        table.add_column(column, justify="left" if column == "what" else "right")
    p50 = {name: float(np.percentile(values, 50)) for name, values in samples.items()}
    for name, values in samples.items():
        table.add_row(name, f"{p50[name]:.2f}", f"{np.percentile(values, 99):.2f}", str(len(values)))
    CONSOLE.print(table)
    for path, rows, with_search in (("/v1/recommend (500 -> 20)", 500, True), ("/v1/rank (100 items)", 100, False)):
        raw = p50["raw: one Feast read"] + p50[f"raw: trees, {rows} rows"]
        raw += p50["raw: FAISS search, k=200"] if with_search else 0
        naive = raw + p50[f"naive: Feast read of every candidate, {rows}"]
        CONSOLE.print(
            f"{path}: p50 {p50[path]:.2f} ms = {p50[path] / raw:.2f} x the raw parts ({raw:.2f} ms); "
            f"the naive path's parts take {naive:.2f} ms = {naive / p50[path]:.1f} x as long",
            highlight=False,
        )
    CONSOLE.print(f"polyrank serve: ready after {ready_s:.1f} s, {memory_mb:.0f} MB resident", highlight=False)


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=300, help="per path, over all rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    main()
