"""Answers to held-out questions: a release's encoder beside BM25 and its backbone before training.

usage: python tests/benchmarks/answers.py -w WORKSPACE [--release ID] [--task NAME]

Every way ranks all eligible items for each text of split `test`. BM25 (Lucene's, k1 1.5, b .75, English stop words, no
stemming) and the untrained backbone (its pooled vectors, by cosine) read the same item texts as the encoder. `unseen`
are the questions whose answer no training text names. Intervals are 95% bootstrap ones over questions; `less BM25` is
the release's figure less BM25's on the same questions.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import bm25s
import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from features.column_labels import Bool, LabelColumn
from features.schema import TEXT, Float32
from features.tables import read_tables
from flows.build import Build
from flows.console_tables import figure_cell
from flows.publish import newest
from flows.report.texts import METRICS
from flows.stages.column_tasks import labelled_parts
from flows.stages.text_metrics import Float64, Statistic, answering, figures
from flows.stages.text_tasks import HeldOutTexts, ranks_of
from flows.words import text_metric_name
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.answers import LoadedRelease
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, Kind
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.tokens import tokenize

CONSOLE = Console(width=120)


def main() -> None:
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    store = ReleaseStore(workspace.releases)
    release = arguments.release or store.current() or newest(workspace)
    build = Build.start(workspace, Settings(), store.manifest(release).as_of)
    predictor = LoadedRelease.load(store.path(release)).predictor
    held = HeldOutTexts.of(read_tables(build.tables), build.as_of, predictor)
    contrastive = [task for task in build.tasks if task.on == "text" and task.kind == "contrastive"]
    task = next((task for task in contrastive if arguments.task in (None, task.name)), None)
    if held is None or task is None or predictor.retriever is None:
        raise SystemExit(f"release {release}: expected texts of split test and a contrastive task on texts, found none")

    column = LabelColumn.of(task, held.tables)
    answered = np.asarray(column.values.is_not_null().to_numpy(), bool)
    questions = held.tables.texts[TEXT].filter(pl.Series(answered)).to_list()
    places = column.where(answered).answers(held.tables.items)
    members = predictor.retriever.snapshot.eligible_positions
    assert np.array_equal(members, np.arange(len(build.data.item_texts))), "expected every item eligible"
    known, _ = labelled_parts([task], build.data.tables, build.plan)
    unseen = ~np.isin(places, LabelColumn.of(task, known).answers(held.tables.items))

    vectors = np.asarray(predictor.retriever.item_vectors)
    backbone = workspace.config.encoder.backbone
    ranks = {
        "release": ranks_of(held.vectors[answered] @ vectors.T, places),
        "BM25": ranks_of(bm25(questions, build.data.item_texts), places),
        "untrained backbone": ranks_of(untrained(backbone, questions, build.data.item_texts), places),
    }
    show(release, ranks, {"all": np.ones(len(places), bool), "unseen": unseen})


def bm25(questions: list[str], items: list[str]) -> Float32:
    """Return scores, float32 `[questions, items]`."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(items, stopwords="en", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(questions, stopwords="en", show_progress=False, return_ids=False)
    return np.stack([index.get_scores(own) if own else np.zeros(len(items), np.float32) for own in tokens])


@torch.no_grad()
def untrained(config: BackboneConfig, questions: list[str], items: list[str]) -> Float32:
    """Return cosines of the backbone's pooled vectors, float32 `[questions, items]`."""
    texts: dict[Kind, list[str]] = {"text": questions, "item": items}
    backbone = load_backbone(config)
    table, found = tokenize(backbone.tokenizer, texts, config)
    pooled = TextPooler(backbone, table, train_layers=None, cache_mb=0)(np.arange(len(table.lengths))).float()
    unit = torch.nn.functional.normalize(pooled, dim=1).numpy()
    cosines: Float32 = unit[found["text"]] @ unit[found["item"]].T
    return cosines


def show(release: str, ranks: dict[str, Float64], parts: dict[str, Bool]) -> None:
    """Print every metric of each way, and what the release has more than BM25."""
    for name, part in parts.items():
        table = Table(title=f"release {release}, {name}: {part.sum():,} questions", title_justify="left")
        for heading in ("way", *(text_metric_name(metric) for metric in METRICS["contrastive"])):
            table.add_column(heading, justify="left" if heading == "way" else "right")
        ways = {way: answering(found[part]) for way, found in ranks.items()}
        ways["less BM25"] = {metric: _less(own, ways["BM25"][metric]) for metric, own in ways["release"].items()}
        for way, statistics in ways.items():
            found = figures(statistics, None, int(part.sum()))
            table.add_row(way, *(figure_cell(own.figure, 3) for own in found))
        CONSOLE.print(table)


def _less(own: Statistic, other: Statistic) -> Statistic:
    return lambda rows: own(rows) - other(rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--release", default=None, help="by id; the published one, or the newest, by default")
    parser.add_argument("--task", default=None, help="contrastive task on texts; the first by default")
    return parser.parse_args()


if __name__ == "__main__":
    main()
