"""Public libraries beside our sequence model: the same split, the same metrics, the same machine.

usage: python tests/benchmarks/peers.py [FOLDER] [--data NAMES] [--peers NAMES] [--ways [WAYS]] [--keep FOLDER]

Users' last event among all items, those of the history removed: data, split, ranks and intervals are those of
sequences.py, whose models (`--ways`) stand beside; with the same `--keep` what it has trained is taken, else it is
trained here. Each library has an environment of its own, made under KEEP/peers-venv by pip from peer_implicit.txt and
peer_rectools.txt; one that doesn't install says so in its row. A fit is a process there: it reads the events, and
writes each user's 50 best items with their scores; equal scores are ranked in a seeded random order, as ours are.

Validation, the event before the last, chooses from each peer's grid (`PEERS`) by NDCG@10; then it is fitted anew on all
but the test's events. The grids of als, bpr, cosine and bm25 were widened, or cut for time, between runs whose test
rows had been printed; what a row says was chosen by validation alone.

- co-occurrence, popularity: ours, with nothing trained; the first as in sequences.py, the other by number of events.
- als, bpr, cosine, bm25: implicit's, which the wrappers of RecTools call too. 15 iterations of als.
- ease: RecTools's, closed form.
- sasrec: RecTools's, with its softmax over all items, one seed, width, blocks and heads of ours, learning rate and
  batch of its own, dropout of the paper (Kang and McAuley 2018); validation stops it after 3 epochs without a better
  NDCG@10 and so chooses the epoch. Its loss is worked out at events alone, not at padding: the same value, sooner. It
  reads the last 50 events on Beauty, as ours does, and 200 on MovieLens, where it learns from these alone; ours reads
  100, and learns from all. An epoch on Beauty took 1.7 minutes of a core, a fit of ease there more than 5.

No peer reads texts; of ours, CF only and co-occurrence don't either.

The table goes into tests/benchmarks/results/peers.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from candidates import exported_encoder
from peer_environments import NotInstalledError, fit, version
from peer_lists import ITEM, SCORE, USER
from sequence_data import READERS
from sequences import CONSOLE, COUNTED, FUSED, WAYS, Scores, Study, counted_best, figures, gains, measure
from tables import RESULTS, row, section, write

from features.schema import Float32
from retrieval.encoder.runtime import TextEncoder
from retrieval.sequence.histories import Histories, Int64

Settings = Mapping[str, Any]
HEAD = """# Public libraries beside the sequence model

What each row means: the head of [peers.py](../peers.py). Ours, where not trained in this run, stand in
[sequences.md](sequences.md): the same data, split, ranks and intervals, on another day.
"""
POPULAR = "popularity"


def grid(**values: Sequence[Any]) -> list[Settings]:
    """Return every combination."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def transformer(**others: Any) -> list[Settings]:
    """Return one setting of SASRec, of a size with ours."""
    size = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "lr": 1e-3, "batch_size": 128, "epochs": 40}
    return [size | others]


# By model its library, and its settings by data set, or those of all under "".
PEERS: Mapping[str, tuple[str, Mapping[str, list[Settings]]]] = {
    "als": ("implicit", {"": grid(factors=[64, 256, 512], alpha=[1, 10, 40], regularization=[0.01])}),
    "bpr": ("implicit", {"": grid(factors=[64], learning_rate=[0.01, 0.05, 0.2], iterations=[100])}),
    "cosine": ("implicit", {"": grid(K=[100, 500, 2000])}),
    "bm25": ("implicit", {"": grid(K=[100, 500], K1=[0.05, 0.3, 1.2, 10], B=[0.75])}),
    "ease": ("rectools", {"": grid(regularization=[100, 300, 1000])}),
    "sasrec": (
        "rectools",
        {
            "amazon_beauty_2014": transformer(session_max_len=50, dropout_rate=0.5),
            "movielens_1m": transformer(session_max_len=200, dropout_rate=0.2),
        },
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """What peers learn from and are asked, as arrays and as files.

    Attributes:
        study: whose ranks.
        folder: where events and lists are kept.
        full, known, early: all events, those before the test's, those before validation's.
        threads: of a fit.
    """

    study: Study
    folder: Path
    full: Histories
    known: Histories
    early: Histories
    threads: int

    @classmethod
    def of(cls, study: Study, folder: Path, threads: int) -> Split:
        """Split off each user's last two events, and write what is left for the peers."""
        full = study.data.histories
        known = full.without_last(np.arange(len(full)))
        early = known.without_last(np.arange(len(known)))
        found = cls(study=study, folder=folder, full=full, known=known, early=early, threads=threads)
        for stage, histories in {"test": known, "validation": early}.items():
            users = np.repeat(np.arange(len(histories), dtype=np.int32), histories.lengths)
            pl.DataFrame({USER: users, ITEM: histories.items}).write_parquet(found.file("events", stage))
        pl.DataFrame({ITEM: known.items[known.starts[1:] - 1]}).write_parquet(found.file("truth", "validation"))
        return found

    def file(self, name: str, stage: str) -> Path:
        """Return where a table lies."""
        return self.folder / f"{self.study.data.name}-{name}-{stage}.parquet"

    def lists(self, peer: str, settings: Settings, stage: str) -> Path:
        """Return the file of a peer's lists, fitted now if it isn't kept."""
        library = PEERS[peer][0]
        asked = json.dumps(settings, sort_keys=True)
        out = self.file(f"{peer}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}", stage)
        if not out.exists():
            truth = ["--truth", self.file("truth", stage)] if stage == "validation" else []
            arguments = [peer, asked, self.file("events", stage), str(len(self.study.data.texts)), out, *truth]
            fit(library, self.folder / "peers-venv", self.threads, arguments)
        return out

    def ranks(self, lists: Path, stage: str) -> Int64:
        """Return int64 `[users]` ranks, from 0, of the event that follows what the peer was given."""
        histories = {"validation": (self.early, self.known), "test": (self.known, self.full)}[stage]
        return self.study.ranks(*histories, {"peer": by_list(lists, len(self.study.data.texts))}, [])["peer"]


def by_list(lists: Path, n_items: int) -> Scores:
    """Return how users get scores of their lists: the order alone, above 0, where items on no list are."""
    listed = pl.read_parquet(lists).with_columns(pl.col(SCORE).rank("dense").over(USER).alias(SCORE)).sort(USER)
    users, items, values = (listed[name].to_numpy() for name in (USER, ITEM, SCORE))

    def found(asked: Int64) -> Float32:
        span = slice(*np.searchsorted(users, [asked[0], asked[-1] + 1]))
        scores = np.zeros((len(asked), n_items), np.float32)
        scores[users[span] - asked[0], items[span]] = values[span]
        return scores

    return found


def chosen(peer: str, split: Split) -> tuple[Int64, str, str]:
    """Return a peer's ranks of the test, the settings that validation chose, and the fits' seconds, in words."""
    grids = PEERS[peer][1]
    tried = []
    for settings in grids.get(split.study.data.name, grids.get("", [])):
        lists = split.lists(peer, settings, "validation")
        told = pl.read_parquet_metadata(lists)
        value = float(gains(split.ranks(lists, "validation")).mean())
        tried.append((value, settings | json.loads(told["told"]), float(told["seconds"])))
        CONSOLE.print(
            f"{peer} {tried[-1][1]}: N@10 {value:.4f} of validation, {told['seconds']} s",
            highlight=False,
            soft_wrap=True,
        )
    value, settings, _ = max(tried, key=lambda one: one[0])
    lists = split.lists(peer, settings, "test")
    seconds = [*(one[2] for one in tried), float(pl.read_parquet_metadata(lists)["seconds"])]
    settled = ", ".join(f"{name} {settings[name]}" for name in settings)
    times = f"{seconds[-1]:.0f} s; all {len(seconds)} fits {sum(seconds):.0f} s"
    return split.ranks(lists, "test"), f"{settled}; N@10 {value:.4f}", times


def lines_of(split: Split, peers: Sequence[str], ours: Mapping[str, list[Int64]]) -> list[str]:
    """Return the Markdown table: ours, then the peers."""
    study, known, full = split.study, split.known, split.full
    lines = [*row("way", "R@10", "95%", "N@10", "95%", "validation chose", "fit"), *row(*["---"] * 7)]
    for way in (name for name in (*WAYS, FUSED) if name in ours):
        lines += row(f"Polyrank: {way}", *figures(ours[way]), "above", "above")
    settings = counted_best(study, split.early, known)
    events = np.bincount(known.items, minlength=len(study.data.texts)).astype(np.float32)
    counts = {COUNTED: study.by_count(known, settings), POPULAR: lambda users: np.tile(events, (len(users), 1))}
    told = {COUNTED: f"decay {settings.decay}, popularity {settings.popularity}", POPULAR: "-"}
    for name, ranks in study.ranks(known, full, counts, []).items():
        lines += row(name, *figures([ranks]), told[name], "-")
    for peer in peers:
        named = f"{version(PEERS[peer][0])}: {peer}"
        try:
            ranks, settled, seconds = chosen(peer, split)
        except NotInstalledError as error:
            lines += row(named, *["-"] * 4, f"not installed: {error}", "-")
        else:
            lines += row(named, *figures([ranks]), settled, seconds)
        CONSOLE.print(lines[-1], highlight=False, soft_wrap=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("POLYRANK_DATA"))
    parser.add_argument("--data", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--ways", nargs="*", default=["sequence", "CF only"], help="of ours; none leaves ours out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where environments, lists and ranks are stored for another run")
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("expected FOLDER or POLYRANK_DATA, found neither")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        keep = (arguments.keep or Path(scratch)).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        for name in arguments.data:
            data, ours, told = READERS[name](Path(arguments.folder) / name), {}, ""
            if arguments.ways:
                encoder = TextEncoder.load(exported_encoder(Path(scratch) / "encoder"), threads=arguments.threads)
                study = Study.of(data, encoder)
                ours, told = measure(study, arguments.ways, 1, keep)
            else:
                # Ranks read no texts.
                study = Study(data=data, vectors=np.zeros((len(data.texts), 0), np.float32))
            lines = lines_of(Split.of(study, keep, arguments.threads), arguments.peers, ours)
            asked = shlex.join(["--data", name, "--peers", *arguments.peers, "--ways", *arguments.ways])
            command = f"python tests/benchmarks/peers.py {asked}"
            about = f"{len(data.histories):,} users, {len(data.texts):,} items, {len(data.histories.items):,} events."
            write(RESULTS / "peers.md", HEAD, section(name, command, [f"{about} {told}".strip(), "", *lines]))


if __name__ == "__main__":
    main()
