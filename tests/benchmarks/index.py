"""The vector index under masks: recall, latency, build time and memory of each type, side by side in one run.

Use: .venv/bin/python tests/benchmarks/index.py [--count 1000000] [--dim 384] [--types ivf_sq8,ivf_pq,hnsw]
     [--queries 50] [--folder FOLDER] [--threads N]

Vectors, queries and masks: clustered_vectors.py; below --folder (a temporary one by default), used again where they
are. Each type runs in a process of its own. Latency is one query's on one thread,
k=100, the mask's own costs included; `raw` is FAISS's own call with a selector and the tuned effort, without candidates
scored again; `exact` scores every allowed item. Recall counts an item as near as the exact k-th. Memory of its own is
what the process holds beyond its start's, without the pages of mapped files, which the system can drop.

The tables go into tests/benchmarks/results/index.md, one section a size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from clustered_vectors import make, masks
from rich.console import Console
from tables import RESULTS, row, section, write

from retrieval.index import IndexConfig, VectorIndex
from retrieval.index.exact import exact, products, recall
from retrieval.index.faiss_search import find
from retrieval.index.meta import INVERTED
from retrieval.index.plan import plan_search

CONSOLE = Console(width=150)
HEAD = "# The vector index, measured\n\nWhat each column means: the head of [index.py](../index.py).\n"
K = 100
_faiss: Any = faiss


class Anonymous(threading.Thread):
    """Watches this process's anonymous memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_bytes = self.peak = self.now()
        self.start()

    @staticmethod
    def now() -> int:
        return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, self.now())
            time.sleep(0.05)

    def gib(self, value: int) -> float:
        return round((value - self.start_bytes) / 2**30, 3)


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `act` returns, and its milliseconds."""
    began = time.perf_counter()
    return act(), (time.perf_counter() - began) * 1e3


def measure(folder: Path, kind: str, queries: int, threads: int) -> dict[str, Any]:
    """Build, save, load and search one type."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r").view(np.ndarray)
    labels, centres, asked = (np.load(folder / f"{name}.npy") for name in ("labels", "centres", "queries"))
    asked = asked[:queries]
    _faiss.omp_set_num_threads(threads)
    config = IndexConfig(type=kind)  # type: ignore[arg-type]
    memory = Anonymous()
    index, build = timed(lambda: VectorIndex.build(vectors, np.arange(len(vectors), dtype=np.int32), config))
    index.save(folder / kind)
    built = {"build_s": round(build / 1e3, 1), "peak_gib": memory.gib(memory.peak)}
    del index
    size = sum(path.stat().st_size for path in (folder / kind).iterdir())
    before = memory.now()
    index = VectorIndex.load(folder / kind, vectors)
    _faiss.omp_set_num_threads(1)
    rows: dict[tuple[str, float], list[list[float]]] = {}
    plans: dict[tuple[str, float], set[str]] = {}
    rng = np.random.default_rng(3)
    for query in asked:
        for mask_kind, share, allowed in [("none", 1.0, None), *masks(query, centres, labels, rng)]:
            how, figures = compare(index, query[None], allowed)
            rows.setdefault((mask_kind, share), []).append(figures)
            plans.setdefault((mask_kind, share), set()).add(how)
    table = [
        {"mask": mask_kind, "share": share, "plan": "/".join(sorted(plans[mask_kind, share])),
         "recall": np.mean(every, axis=0)[0], "worst": np.min(every, axis=0)[0], "p50": np.median(every, axis=0)[1],
         "p99": np.quantile(every, 0.99, axis=0)[1], "raw": np.median(every, axis=0)[2],
         "raw_recall": np.mean(every, axis=0)[3], "exact": np.median(every, axis=0)[4]}
        for (mask_kind, share), every in rows.items()
    ]  # fmt: skip
    return {
        **built, "meta": index.meta.model_dump(), "file_gib": round(size / 2**30, 3), "rows": table,
        "loaded_gib": round((memory.now() - before) / 2**30, 3),
        "resident_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }  # fmt: skip


def compare(index: VectorIndex, query: np.ndarray, allowed: np.ndarray | None) -> tuple[str, list[float]]:
    """Return the plan, and recall, milliseconds, those of FAISS alone, its recall, and exact search's milliseconds."""
    members = index.positions if allowed is None else np.flatnonzero(allowed).astype(np.int32)
    k = min(K, len(members))
    meta = index.meta
    keep = min(len(members), int(np.ceil(k * meta.widen)))
    plan = plan_search(meta, k, keep, None if allowed is None else len(members))
    (found, _), taken = timed(lambda: index.search(query, K, allowed))
    effort = meta.probes if meta.type in INVERTED else meta.ef_search
    (_, raw), raw_taken = timed(lambda: find(index.cpu, meta.type, query, k, effort, allowed))
    (_, best), exact_taken = timed(lambda: exact(index.vectors, members, query, k))
    reached = [
        recall(best, products(index.vectors, query, items))
        for items in (found, np.where(raw < 0, -1, index.positions[raw]))
    ]
    return plan.how, [reached[0], taken, raw_taken, reached[1], exact_taken]


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the Markdown tables of one size."""
    lines = row("type", "build s", "build, GiB of its own (resident)", "loaded, GiB of its own", "files GiB", "tuned")
    lines += row(*["---"] * 6)
    for kind, found in results.items():
        memory = f"{found['peak_gib']} ({found['resident_gib']})"
        stored = f"{kind}, {found['meta']['storage']}"
        lines += row(stored, found["build_s"], memory, found["loaded_gib"], found["file_gib"], effort(found["meta"]))
    columns = (
        "mask",
        "open",
        "plan",
        "recall@100",
        "worst query",
        "p50 ms",
        "p99 ms",
        "raw ms",
        "raw recall",
        "exact ms",
    )
    lines += ["", *row("type", *columns), *row(*["---"] * 11)]
    for kind, found in results.items():
        for one in found["rows"]:
            times = [f"{one[name]:.2f}" for name in ("p50", "p99", "raw")]
            recalls = f"{one['recall']:.4f}", f"{one['worst']:.2f}"
            ends = f"{one['raw_recall']:.3f}", f"{one['exact']:.2f}"
            lines += row(kind, one["mask"], f"{one['share']:.2%}", one["plan"], *recalls, *times, *ends)
    return lines


def effort(meta: dict[str, Any]) -> str:
    """Return what was tuned, in words."""
    words = [f"{meta['probes']} of {meta['lists']} lists, slack {meta['slack']:.2f}"] if meta["lists"] else []
    words += [f"breadth {meta['ef_search']}"] if meta["type"] == "hnsw" else []
    if meta["recall"] is not None:
        words += [f"{meta['widen']:g} candidates a result, doubt {meta['doubt']:.4f}, recall@200 {meta['recall']:.4f}"]
    return ", ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--types", default="flat_fp16,ivf_sq8,ivf_pq,hnsw")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the build")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS / "index.md")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        sys.stdout.write(json.dumps(measure(args.folder, args.one, args.queries, args.threads)) + "\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder, args.count, args.dim)
        results = {}
        for kind in args.types.split(","):
            options = ["--queries", str(args.queries), "--threads", str(args.threads), "--folder", str(folder)]
            done = subprocess.run(
                [sys.executable, __file__, "--one", kind, *options], stdout=subprocess.PIPE, check=True
            )
            results[kind] = json.loads(done.stdout.splitlines()[-1])
            CONSOLE.print(kind, {name: value for name, value in results[kind].items() if name != "rows"})
    title = f"{args.count:,} vectors of {args.dim} dimensions"
    given = {name: getattr(args, name) for name in ("count", "dim", "types", "queries")}
    command = "python tests/benchmarks/index.py " + " ".join(f"--{name} {value}" for name, value in given.items())
    text = section(title, command, tables(results))
    CONSOLE.print(text)
    write(args.results, HEAD, text)


if __name__ == "__main__":
    main()
