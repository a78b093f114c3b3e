"""The vector index under masks: recall, latency, build time and memory of each type, side by side in one run.

Use: .venv/bin/python tests/benchmarks/index.py [--count 1000000] [--dim 384] [--types ivf_sq8,ivf_pq,hnsw]
     [--queries 50] [--folder FOLDER] [--threads N]

Vectors: topics (64), categories of unequal size (Zipf) about each topic, and items about each category, whose noise has
a falling spectrum (its k-th direction weighs k^-0.5), as text embeddings have; length 1. They are written block by
block into a mapped file below --folder (a temporary one by default) and used again where it is there. Queries are new
draws of the same kind, unknown to the index. Masks: `random`; `near` opens the categories nearest to the query until
the share is reached, `far` the farthest. Each type runs in a process of its own. Latency is one query's on one thread,
k=100, the mask's own costs included; `raw` is FAISS's own call with a selector and the tuned effort, without candidates
scored again; `exact` scores every allowed item. Recall counts an item as near as the exact k-th. Anonymous memory is what
the process holds itself, over the start's: pages of mapped files can be dropped by the system.

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
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from rich.console import Console

from infra.machine import memory_limit
from retrieval.index import IndexConfig, VectorIndex
from retrieval.index.exact import exact, products, recall
from retrieval.index.faiss_search import find
from retrieval.index.meta import INVERTED
from retrieval.index.plan import plan_search

CONSOLE = Console(width=150)
RESULTS = Path(__file__).parent / "results" / "index.md"
SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
TOPICS, BLOCK, K = 64, 100_000, 100
_faiss: Any = faiss


def draw(rng: np.random.Generator, centres: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return float32 `[m, dim]` of length 1 about `centres[labels]`."""
    dim = centres.shape[1]
    spectrum = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
    noise = rng.standard_normal((len(labels), dim), dtype=np.float32) * (spectrum / np.linalg.norm(spectrum))
    vectors = centres[labels] + 0.8 * noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make(folder: Path, count: int, dim: int) -> None:
    """Write vectors.npy, labels.npy, centres.npy and queries.npy below `folder`, unless they are there."""
    if (folder / "queries.npy").exists() and np.load(folder / "vectors.npy", mmap_mode="r").shape == (count, dim):
        return
    rng = np.random.default_rng(7)
    categories = max(TOPICS, count // 500)
    topics = rng.standard_normal((TOPICS, dim), dtype=np.float32) / np.sqrt(dim)
    centres = topics[rng.integers(0, TOPICS, categories)]
    centres = (centres + rng.standard_normal((categories, dim), dtype=np.float32) * 0.8 / np.sqrt(dim)).astype(
        np.float32
    )
    weights = 1 / np.arange(10, categories + 10)
    labels = rng.choice(categories, count, p=weights / weights.sum()).astype(np.int32)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=(count, dim))
    for start in range(0, count, BLOCK):
        vectors[start : start + BLOCK] = draw(rng, centres, labels[start : start + BLOCK])
    vectors.flush()
    np.save(folder / "labels.npy", labels)
    np.save(folder / "centres.npy", centres)
    np.save(folder / "queries.npy", draw(rng, centres, rng.choice(labels, 1_000)))


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


def masks(query: np.ndarray, centres: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Iterator[Any]:
    """Yield kind, share and mask."""
    sizes = np.bincount(labels, minlength=len(centres))
    order = np.argsort(-(centres @ query))
    for share in SHARES:
        yield "random", share, rng.random(len(labels)) < share
        for kind, clusters in (("near", order), ("far", order[::-1])):
            needed = int(np.searchsorted(np.cumsum(sizes[clusters]), share * len(labels))) + 1
            inside = np.zeros(len(centres), bool)
            inside[clusters[:needed]] = True
            allowed = inside[labels]
            # The last category may be large: take of it what the share needs.
            surplus = np.flatnonzero(allowed)[int(share * len(labels)) :] if needed == 1 else []
            allowed[surplus] = False
            yield kind, share, allowed


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
    head = query if meta.prefix is None else query[:, : meta.prefix]
    (_, raw), raw_taken = timed(lambda: find(index.cpu, meta.type, head, k, effort, allowed))
    (_, best), exact_taken = timed(lambda: exact(index.vectors, members, query, k))
    reached = [
        recall(best, products(index.vectors, query, items))
        for items in (found, np.where(raw < 0, -1, index.positions[raw]))
    ]
    return plan.how, [reached[0], taken, raw_taken, reached[1], exact_taken]


def section(title: str, command: str, results: dict[str, dict[str, Any]]) -> str:
    """Return the Markdown of one size."""
    lines = [title, "", f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine()}.", ""]
    lines += [
        "| type | build s | build, GiB of its own (resident) | loaded, GiB of its own | files GiB | tuned |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in results.items():
        meta = found["meta"]
        effort = (
            {"probes": f"{meta['probes']} of {meta['lists']} lists, slack {meta['slack']:.2f}, "}
            if meta["lists"]
            else {}
        )
        effort |= {"ef": f"breadth {meta['ef_search']}, "} if kind == "hnsw" else {}
        tuned = "".join(effort.values()) + (
            f"{meta['widen']:g} candidates a result, doubt {meta['doubt']:.4f}, recall@200 {meta['recall']:.4f}"
            if meta["recall"]
            else ""
        )
        lines.append(
            f"| {kind}, {meta['storage']} | {found['build_s']} | {found['peak_gib']} ({found['resident_gib']}) | {found['loaded_gib']} | {found['file_gib']} | {tuned} |"
        )
    lines += [
        "",
        "| type | mask | open | plan | recall@100 | worst query | p50 ms | p99 ms | raw ms | raw recall | exact ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, found in results.items():
        for row in found["rows"]:
            lines.append(
                f"| {kind} | {row['mask']} | {row['share']:.2%} | {row['plan']} | {row['recall']:.4f} | {row['worst']:.2f} | "
                f"{row['p50']:.2f} | {row['p99']:.2f} | {row['raw']:.2f} | {row['raw_recall']:.3f} | {row['exact']:.2f} |"
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return cores, memory and what the processor can, without a name."""
    flags = set(Path("/proc/cpuinfo").read_text().split("flags")[1].split("\n")[0].split())
    simd = ", ".join(flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags)
    return f"{os.cpu_count()} cores ({simd}), {memory_limit() / 2**30:.0f} GiB, FAISS {faiss.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--types", default="flat_fp16,ivf_sq8,ivf_pq,hnsw")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the build")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
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
    title = f"## {args.count:,} vectors of {args.dim} dimensions"
    command = f"python tests/benchmarks/index.py --count {args.count} --dim {args.dim} --types {args.types} --queries {args.queries}"
    text = section(title, command, results)
    CONSOLE.print(text)
    old = (
        args.results.read_text(encoding="utf-8")
        if args.results.exists()
        else "# The vector index, measured\n\nWhat each column means: the head of [index.py](../index.py).\n"
    )
    head, *parts = old.split("\n## ")
    kept = [f"## {part}".rstrip("\n") + "\n" for part in parts if not f"## {part}".startswith(title + "\n")]
    args.results.parent.mkdir(exist_ok=True)
    args.results.write_text("\n".join([head.rstrip("\n") + "\n", *kept, text]), encoding="utf-8")


if __name__ == "__main__":
    main()
