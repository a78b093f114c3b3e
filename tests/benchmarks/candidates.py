"""`/v1/candidates` over loopback beside FAISS's own call at several sizes of the catalogue, and items added meanwhile.

Use: .venv/bin/python tests/benchmarks/candidates.py [--counts 10000 100000 1000000] [--dim 384] [--k 500]
     [--requests 400] [--clients 16] [--seconds 10] [--added 1000] [--folder FOLDER]

For each size a release of items alone is made: vectors as in index.py, two attributes, the index that `auto` takes. Its
service runs in a process of its own; requests ask for items like one item. Each round times a request, the same search
by the retriever in this process, and FAISS's own call with the effort that the index was tuned to, in turn. Then so
many clients ask at once, first alone, then while items are posted whose texts the packaged encoder reads (its 384
dimensions must be the index's). Requests that aren't answered 200 and items that aren't found afterwards are counted.

The table goes into tests/benchmarks/results/candidates.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
from clustered_vectors import make
from rich.console import Console
from tables import RESULTS, row, section, write

from features.item_log import ItemChange, ItemLog
from features.schema import ITEM_STATS
from features.texts import TextConfig
from infra.heap import settle
from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.telemetry import Metrics, configure_logging
from infra.watcher import ReleaseWatcher
from infra.web import serve
from retrieval import layout
from retrieval.catalogue import CatalogueConfig
from retrieval.contract import CandidatesRequest
from retrieval.engine import Retriever
from retrieval.index import IndexConfig, VectorIndex
from retrieval.index.faiss_search import find
from retrieval.index.meta import INVERTED
from retrieval.live.follow import ItemFollower
from retrieval.service import create_app
from retrieval.snapshot import ItemSnapshot
from retrieval.warmup import answer, load_ready

CONSOLE = Console(width=150)
PORT, POSTED = 18_731, 50
HEAD = "# /v1/candidates, measured\n\nWhat each column means: the head of [candidates.py](../candidates.py).\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def write_release(folder: Path, store: ReleaseStore, encoder: Path) -> None:
    """Publish a release of the vectors in `folder`, with the exported `encoder`."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy")
    count = len(vectors)
    snapshot = ItemSnapshot(
        item_ids=[f"item-{n}" for n in range(count)],
        stats=np.full((count, len(ITEM_STATS)), np.nan, np.float32),
        attributes=pl.DataFrame({"name": [f"thing {label}" for label in labels], "category": labels % 97}),
        category_codes=labels,
        eligible=np.ones(count, bool),
        titles=[f"thing {label}" for label in labels],
        as_of=NOW,
    )
    with store.create("one") as writer:
        (writer.path / layout.VECTORS_DIR).mkdir()
        os.link(folder / "vectors.npy", writer.path / layout.ITEM_VECTORS)
        snapshot.save(writer.path / layout.SNAPSHOT)
        index = VectorIndex.build(np.asarray(vectors), np.arange(count, dtype=np.int32), IndexConfig())
        index.save(writer.path / layout.INDEX_DIR)
        catalogue = CatalogueConfig(texts=TextConfig(item="{name}", title="{name}"))
        (writer.path / layout.CATALOGUE).write_text(catalogue.model_dump_json())
        shutil.copytree(encoder, writer.path / layout.ENCODER_DIR)
    store.publish("one")


def run_service(root: Path, port: int) -> None:
    """Serve until killed."""
    items = ItemFollower[Retriever](
        ItemLog(root / "items.sqlite"), lambda found: found, lambda _, changed: changed.retriever, 0.5
    )
    watcher = ReleaseWatcher(ReleaseStore(root / "releases"), items.loader(load_ready), 60.0, settle)
    settings = Settings(port=port)
    configure_logging("warning", json=False)
    serve(create_app(watcher, None, settings, Metrics(), items.follow(watcher)), settings)


@contextmanager
def service(root: Path, port: int) -> Iterator[httpx.Client]:
    """Run a service in a process of its own and yield a client, once it is ready."""
    process = multiprocessing.get_context("spawn").Process(target=run_service, args=(root, port))
    process.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 300
            while not _ready(client):
                if not process.is_alive() or time.monotonic() > deadline:
                    raise RuntimeError("the service did not get ready")
                time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.join()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def latencies(port: int, retriever: Retriever, k: int, requests: int) -> dict[str, np.ndarray]:
    """Return the milliseconds of each way to ask, `[requests]`, taken in turn."""
    index = retriever.index
    assert isinstance(index, VectorIndex)
    rng = np.random.default_rng(0)
    asked = rng.integers(0, len(retriever.snapshot), requests + 20)
    effort = index.meta.probes if index.meta.type in INVERTED else index.meta.ef_search
    more = max(1.0, k / 200)  # as the plan does for k above the tuned one

    # The barest client there is: an answer's last byte is what is timed.
    connection = HTTPConnection("127.0.0.1", port)

    def over_http(item: int) -> None:
        body = json.dumps({"item_id": f"item-{item}", "k": k})
        connection.request("POST", "/v1/candidates", body, {"Content-Type": "application/json"})
        answered = connection.getresponse()
        assert answered.status == HTTPStatus.OK, answered.read()
        assert answered.read().endswith(b'"degraded":[]}')

    def in_process(item: int) -> None:
        answer(retriever, CandidatesRequest(item_id=f"item-{item}", k=k), None)

    def by_faiss(item: int) -> None:
        find(index.cpu, index.meta.type, np.asarray(retriever.item_vectors[item])[None], k + 1, int(effort * more))

    ways: dict[str, Callable[[int], None]] = {"http": over_http, "in process": in_process, "faiss": by_faiss}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number, item in enumerate(asked.tolist()):
        for name, way in ways.items():
            began = time.perf_counter()
            way(item)
            if number >= len(asked) - requests:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: np.array(values) for name, values in taken.items()}


def throughput(port: int, count: int, k: int, clients: int, seconds: float) -> tuple[float, int]:
    """Return answers a second of so many clients at once, and how many requests failed."""
    done, failed, stop = [0] * clients, [0] * clients, time.monotonic() + seconds

    def ask(number: int) -> None:
        rng = np.random.default_rng(number)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while time.monotonic() < stop:
                body = {"item_id": f"item-{rng.integers(0, count)}", "k": k}
                good = client.post("/v1/candidates", json=body).status_code == httpx.codes.OK
                done[number] += good
                failed[number] += not good

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds, sum(failed)


def add_items(client: httpx.Client, added: int) -> tuple[float, int]:
    """Post items in batches and return how many a second were taken and searchable, and how many were lost."""
    began = time.perf_counter()
    names = [f"new-{number}" for number in range(added)]
    for first in range(0, added, POSTED):
        changes = [
            ItemChange(item_id=name, values={"name": f"novelty {name}", "category": 999}).model_dump()
            for name in names[first : first + POSTED]
        ]
        client.post("/v1/items", json={"items": changes}).raise_for_status()
    while client.get(f"/v1/items/{names[-1]}").status_code != httpx.codes.OK:
        time.sleep(0.05)
    rate = added / (time.perf_counter() - began)
    body = {"text": "novelty", "k": min(added, 10_000), "filter": "category == 999"}
    found = {candidate["item_id"] for candidate in client.post("/v1/candidates", json=body).json()["candidates"]}
    return rate, len(set(names) - found)


def measure(folder: Path, encoder: Path, count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one size."""
    k = arguments.k
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, count, arguments.dim)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch)
        store = ReleaseStore(root / "releases")
        write_release(folder, store, encoder)
        retriever = Retriever.load(store.path("one"))
        with service(root, PORT) as client:
            times = latencies(PORT, retriever, k, arguments.requests)
            rate, failed = throughput(PORT, count, k, arguments.clients, arguments.seconds)
            beside: list[tuple[float, int]] = []
            asking = threading.Thread(
                target=lambda: beside.append(throughput(PORT, count, k, arguments.clients, arguments.seconds))
            )
            asking.start()
            adds, lost = add_items(client, arguments.added)
            asking.join()
    assert isinstance(retriever.index, VectorIndex)
    return {
        "count": count, "type": retriever.index.meta.type, "times": times, "rate": rate, "adds": adds, "lost": lost,
        "beside": beside[0][0], "failed": failed + beside[0][1],
    }  # fmt: skip


def lines_of(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the Markdown table."""
    names = ("items", "index", "http p50 ms", "p99", "in process p50", "FAISS p50", "http over FAISS, ms", "answers/s")
    adds = ("answers/s while items come", "items/s", "requests failed", "items lost")
    lines = [*row(*names, *adds), *row(*["---"] * (len(names) + len(adds)))]
    for one in found:
        http, inside, raw = (one["times"][name] for name in ("http", "in process", "faiss"))
        p50, p99 = np.percentile(http, [50, 99])
        cells = (f"{p50:.2f}", f"{p99:.2f}", f"{np.median(inside):.2f}", f"{np.median(raw):.2f}")
        over = f"{p50 - np.median(raw):.2f}"
        figures = (f"{one['rate']:.0f}", f"{one['beside']:.0f}", f"{one['adds']:.0f}", one["failed"], one["lost"])
        lines += row(f"{one['count']:,}", one["type"], *cells, over, *figures)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, default=500)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--added", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, help="where vectors are kept for another run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        encoder = exported_encoder(Path(scratch) / "encoder")
        found = []
        for count in arguments.counts:
            found.append(measure(folder / str(count), encoder, count, arguments))
            CONSOLE.print("\n".join(lines_of(found)), highlight=False)
    given = ("counts", "dim", "k", "requests", "clients", "seconds", "added")
    command = "python tests/benchmarks/candidates.py " + " ".join(
        f"--{name} {' '.join(map(str, np.atleast_1d(getattr(arguments, name))))}" for name in given
    )
    text = section(f"k = {arguments.k}, {arguments.dim} dimensions", command, lines_of(found))
    write(RESULTS / "candidates.md", HEAD, text)


def exported_encoder(out: Path) -> Path:
    """Export the packaged backbone as it comes, untrained, and return the folder."""
    # torch takes seconds to import, and the service's process, which imports this file, needs none of it.
    from retrieval.encoder.backbone import load_backbone
    from retrieval.encoder.config import EncoderConfig
    from retrieval.encoder.export import export
    from retrieval.encoder.model import MultiTaskEncoder

    config = EncoderConfig()
    model = MultiTaskEncoder(load_backbone(config.backbone), (), config)
    export(model, config.backbone, out, golden=["a thing"])
    return out


if __name__ == "__main__":
    main()
