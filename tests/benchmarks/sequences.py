"""The sequence model leave-one-out: every user's last event among all items, those of the history removed.

usage: python tests/benchmarks/sequences.py [FOLDER] [--data NAMES] [--ways WAYS] [--seeds 1] [--keep FOLDER]

FOLDER (else POLYRANK_DATA) holds the data sets. Of each user the last event is the test's, the one before it
validation's. A first model learns on what comes before both: validation chooses its epoch, the settings of the
co-occurrence and the one weight of the fusion. Where a data set says so (`refit`), the models tested learn on all but
the test's events up to that epoch; else on what comes before both, each up to its own best epoch. The test is read
once, at the end.

- sequence: the model as the product has it, over text vectors of the packaged encoder as it comes and learnt ones.
- text only, CF only, order-blind: without learnt vectors, without texts, with the mean of the history for its order.
- co-occurrence: in a window of 5, see cooccurrence.py.
- fusion: w P(sequence) + (1 - w) P(co-occurrence), both made to sum to 1 over the items.

Intervals are 95% bootstrap ones over users, of values averaged over the seeds; equal scores are ranked in a seeded
random order. `--keep` stores each model's ranks, so that a run can be stopped and started again.

The table goes into tests/benchmarks/results/sequences.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cooccurrence
import numpy as np
import torch
from candidates import exported_encoder
from rich.console import Console
from sequence_data import READERS, Data
from tables import RESULTS, row, section, write

from features.schema import Float32
from retrieval.encoder.runtime import TextEncoder
from retrieval.evaluate import Float64, bootstrap_interval
from retrieval.sequence.histories import Histories, Int64
from retrieval.sequence.model import SequenceNet
from retrieval.sequence.texts import TextScale
from retrieval.sequence.train import Trained, train
from retrieval.sequence.validate import user_vectors

CONSOLE = Console(width=150)
HEAD = "# The sequence model, measured\n\nWhat each row means: the head of [sequences.py](../sequences.py).\n"
WAYS: Mapping[str, Mapping[str, Any]] = {
    "sequence": {},
    "text only": {"learnt": False},
    "CF only": {},
    "order-blind": {"reader": "mean"},
}
COUNTED, FUSED = "co-occurrence", "fusion"
WEIGHTS = np.linspace(0, 1, 21).round(2).tolist()
CUT, ROWS = 10, 1_000
Scores = Callable[[Int64], Float32]
Ranks = Mapping[str, Int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One data set's models: training, scoring, ranking.

    Attributes:
        data: the set.
        vectors: float32 `[n_items, dim]` standardised text vectors.
    """

    data: Data
    vectors: Float32

    @classmethod
    def of(cls, data: Data, encoder: TextEncoder) -> Study:
        """Encode a set's texts."""
        vectors = encoder.encode(data.texts, "item")
        return cls(data=data, vectors=TextScale.of(vectors).standardised(vectors))

    def fit(self, way: str, seed: int, histories: Histories, until: int | None = None, **others: Any) -> Trained:
        """Train one way's model."""
        changed = dict(WAYS[way]) | {"seed": seed} | others
        texts = self.vectors[:, :0] if way == "CF only" else self.vectors
        return train(histories, texts, self.data.config.model_copy(update=changed), until=until, show=True)

    def by_model(self, net: SequenceNet, known: Histories) -> Scores:
        """Return how users of `known` get a model's P(item), float32 `[users, n_items]`."""

        def found(users: Int64) -> Float32:
            with torch.no_grad():
                vectors = user_vectors(net, known, users, self.data.config.length)
                made: Float32 = torch.softmax(net.scale * vectors @ net.items().T, 1).numpy()
            return made

        return found

    def by_count(self, known: Histories, settings: cooccurrence.Settings) -> Scores:
        """Return the same of the co-occurrence in `known`."""
        near = cooccurrence.counts(known, len(self.vectors), settings)
        return lambda users: cooccurrence.scores(near, known, users, settings)

    def ranks(self, known: Histories, full: Histories, ways: Mapping[str, Scores], weights: list[float]) -> Ranks:
        """Return int64 `[users]` ranks, from 0, of the event that `full` has more of each user.

        By way, and by weight those of the fusion of the first two ways.
        """
        truth, rng = full.items[full.starts[1:] - 1], np.random.default_rng(0)
        found: dict[str, list[Int64]] = {}
        for users in blocks(len(known)):
            named = {name: scores(users) for name, scores in ways.items()}
            for values in named.values():
                for place, user in enumerate(users.tolist()):
                    values[place, known.user(user)[0]] = -1
            first, second, *_ = [*named.values(), None]
            for weight in weights:
                named[f"{weight:.2f}"] = weight * first + (1 - weight) * second
            for name, values in named.items():
                found.setdefault(name, []).append(ranked(values, truth[users], rng))
        return {name: np.concatenate(parts) for name, parts in found.items()}


def blocks(users: int) -> Iterator[Int64]:
    """Yield the users' positions, so many at once that their scores fit the memory."""
    for first in range(0, users, ROWS):
        yield np.arange(first, min(first + ROWS, users))


def ranked(values: Float32, truth: Int64, rng: np.random.Generator) -> Int64:
    """Return int64 `[users]`: how many items stand before the true one, equal ones in random order."""
    own = values[np.arange(len(values)), truth][:, None]
    ties = (values == own).sum(1) - 1
    places: Int64 = (values > own).sum(1) + rng.integers(0, ties + 1)
    return places


def gains(ranks: Int64) -> Float64:
    """Return float64 `[users]` NDCG@10."""
    return np.where(ranks < CUT, 1 / np.log2(ranks + 2.0), 0)


def measure(study: Study, wanted: Sequence[str], seeds: int, keep: Path) -> tuple[dict[str, list[Int64]], str]:
    """Return by way each seed's ranks of the test, and what validation chose, in words."""
    full, refit = study.data.histories, study.data.refit
    everyone = np.arange(len(full))
    known = full.without_last(everyone)
    early = known.without_last(everyone)
    place = keep / f"{study.data.name}.json"
    first = None
    if not place.exists():
        first = study.fit("sequence", 0, known)
        place.write_text(json.dumps(choose(study, first, early, known)), encoding="utf-8")
    chosen = json.loads(place.read_text(encoding="utf-8"))
    CONSOLE.print(chosen["told"], highlight=False)
    counted = study.by_count(known, cooccurrence.Settings(**chosen["settings"]))
    found: dict[str, list[Int64]] = {}
    for seed in range(seeds):
        for way in wanted:
            stored = keep / f"{study.data.name}-{way.replace(' ', '-')}-{seed}.npz"
            if not stored.exists():
                if refit:
                    trained = study.fit(way, seed, known, until=chosen["epoch"], held_out=0)
                elif first is not None and (way, seed) == ("sequence", 0):
                    trained = first
                else:
                    trained = study.fit(way, seed, known)
                ways = {way: study.by_model(trained.net, known), COUNTED: counted}
                np.savez(stored, **study.ranks(known, full, ways, [chosen["weight"]]))
            with np.load(stored, allow_pickle=False) as ranks:
                found.setdefault(way, []).append(ranks[way])
                if way == "sequence":
                    found.setdefault(FUSED, []).append(ranks[f"{chosen['weight']:.2f}"])
                    found.setdefault(COUNTED, []).append(ranks[COUNTED])
    return found, chosen["told"]


def counted_best(study: Study, early: Histories, known: Histories) -> cooccurrence.Settings:
    """Return the settings of the co-occurrence in `early` that best foretell what `known` has more of each user."""
    options = [cooccurrence.Settings(decay=decay, popularity=pop) for decay in (0.5, 0.7) for pop in (0.0, 0.25, 0.5)]
    found = [study.ranks(early, known, {COUNTED: study.by_count(early, one)}, []) for one in options]
    return options[int(np.argmax([gains(ranks[COUNTED]).mean() for ranks in found]))]


def choose(study: Study, first: Trained, early: Histories, known: Histories) -> dict[str, Any]:
    """Return what validation chooses: the epoch, the co-occurrence's settings and the fusion's weight."""
    settings = counted_best(study, early, known)
    both = {"sequence": study.by_model(first.net, early), COUNTED: study.by_count(early, settings)}
    values = {name: float(gains(ranks).mean()) for name, ranks in study.ranks(early, known, both, WEIGHTS).items()}
    weight = max(WEIGHTS, key=lambda one: values[f"{one:.2f}"])
    told = (
        f"Validation chose epoch {first.best} of {len(first.epochs)} run ({first.steps:,} steps, "
        f"{first.epochs[-1].seconds / 60:.0f} minutes on a shared core), a decay of {settings.decay} and a popularity "
        f"of {settings.popularity} for the co-occurrence, and w = {weight:.2f}. N@10 there: sequence "
        f"{values['sequence']:.4f}, co-occurrence {values[COUNTED]:.4f}, fusion {values[f'{weight:.2f}']:.4f}."
    )
    own = {"decay": settings.decay, "popularity": settings.popularity}
    return {"epoch": first.best, "settings": own, "weight": weight, "told": told}


def lines_of(found: Mapping[str, list[Int64]]) -> list[str]:
    """Return the Markdown table."""
    lines = [*row("way", "R@10", "95%", "N@10", "95%", "seeds"), *row(*["---"] * 6)]
    for way in (name for name in (*WAYS, COUNTED, FUSED) if name in found):
        lines += row(way, *figures(found[way]), 1 if way == COUNTED else len(found[way]))
    return lines


def figures(seeds: Sequence[Int64]) -> list[str]:
    """Return R@10 and N@10 of each seed's ranks (int64 `[users]`), each with its interval."""
    cells = []
    for measured in (lambda ranks: (ranks < CUT).astype(np.float64), gains):
        interval = bootstrap_interval(np.mean([measured(ranks) for ranks in seeds], axis=0))
        cells += [f"{interval.mean:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("POLYRANK_DATA"))
    parser.add_argument("--data", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="of the models")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where ranks are stored for another run")
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("expected FOLDER or POLYRANK_DATA, found neither")
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        encoder = TextEncoder.load(exported_encoder(Path(scratch) / "encoder"), threads=arguments.threads)
        keep = arguments.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        for name in arguments.data:
            data = READERS[name](Path(arguments.folder) / name)
            study = Study.of(data, encoder)
            found, told = measure(study, arguments.ways, arguments.seeds, keep)
            lines = lines_of(found)
            CONSOLE.print("\n".join(lines), highlight=False)
            ways = " ".join(f"'{way}'" if " " in way else way for way in arguments.ways)
            command = f"python tests/benchmarks/sequences.py --data {name} --ways {ways} --seeds {arguments.seeds}"
            events, users = len(data.histories.items), len(data.histories)
            about = f"{users:,} users, {len(data.texts):,} items, {events:,} events. {told}"
            write(RESULTS / "sequences.md", HEAD, section(name, command, [about, "", *lines]))


if __name__ == "__main__":
    main()
