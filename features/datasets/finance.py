"""Finance: sentiment, topic and aspect of headlines, posts and reports, from published sets of texts.

| set | label columns | split |
|---|---|---|
| Financial PhraseBank (Malo et al., 2014) | `sentiment` | stratified 80/20, seed 0 |
| Twitter Financial News, topics | `topic` | as given; its `valid` part is what others report, so it is test here |
| FiQA 2018 task 1 (Maia et al., 2018) | `target_sentiment` in [-1, 1], `aspect` | as given |

A text of FiQA stands once for each company that it speaks of (`target`); the text alone doesn't say which of them a
row is about, and 62 of its 1,173 rows are such repeats. Each set has label columns of its own, null in the other sets'
rows. There are no items, no users and no events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import polars as pl

from features.datasets.synthetic_news import DAYS, FIRST_DAY, SENTIMENT, TARGET, synthetic_news
from features.datasets.text_sets import (
    SAMPLES,
    TextSet,
    TextSetsConfig,
    hold_out_validation,
    join_sets,
    stratified_split,
    texts_table,
)
from features.findings import Finding
from features.schema import TEXT, TIMESTAMP
from features.tables import TEST, TEXTS_TABLE, TRAIN, Tables

TOPIC: Final = "topic"
TARGET_SENTIMENT: Final = "target_sentiment"
ASPECT: Final = "aspect"

PHRASEBANK: Final = TextSet(
    name="phrasebank",
    title="the Financial PhraseBank",
    file="phrasebank.parquet",
    columns=("text", "sentiment"),
    origin="https://www.researchgate.net/publication/251231364 (doi:10.1002/asi.23062)",
    licence="CC BY-NC-SA 3.0",
)
TWITTER_TOPIC: Final = TextSet(
    name="twitter_topic",
    title="Twitter Financial News, topics",
    file="tfn_topic.parquet",
    columns=("text", "topic", "split"),
    origin="https://huggingface.co/datasets/zeroshot/twitter-financial-news-topic",
    licence="MIT",
)
FIQA: Final = TextSet(
    name="fiqa",
    title="FiQA 2018 task 1",
    file="fiqa.parquet",
    columns=("text", "target", "sentiment", "aspect", "split"),
    origin="https://sites.google.com/view/fiqa",
    licence="none stated",
)
NEWS: Final = "synthetic_news"
# The last quarter of the days, with the burst in it.
_NEWS_TEST_FROM: Final = FIRST_DAY + pl.duration(days=DAYS * 3 // 4)


class FinanceConfig(TextSetsConfig):
    """Which sets, each by its folder; a relative path is taken from the workspace.

    Without any folder, the shipped sample is read: an excerpt of Twitter Financial News for topics, and synthetic
    headlines with sentiment, target and time (`features.datasets.synthetic_news`).

    Attributes:
        phrasebank: holds `phrasebank.parquet` (text, sentiment).
        twitter_topic: holds `tfn_topic.parquet` (text, topic, split).
        fiqa: holds `fiqa.parquet` (text, target, sentiment, aspect, split).
        aspect_levels: of an aspect such as "Corporate/M&A/Proposed Merger", how many parts are its class: 1 makes 4
            classes, 2 makes 28.
    """

    type: Literal["finance"] = "finance"
    phrasebank: Path | None = None
    twitter_topic: Path | None = None
    fiqa: Path | None = None
    aspect_levels: Literal[1, 2] = 2

    @property
    def declared(self) -> frozenset[str]:
        """Names of the tables that the source has."""
        return frozenset({TEXTS_TABLE})


def read_finance(config: FinanceConfig, base: Path) -> tuple[Tables, tuple[Finding, ...]]:
    """Return texts, not yet validated, and what was left out.

    Args:
        config: which sets.
        base: folder that relative paths start from.

    Raises:
        DatasetMissingError: a folder lacks its set's file.
        DatasetShapeError: a file isn't what this adapter reads.
    """
    if config.is_sample:
        parts = [_twitter(SAMPLES), _news()]
    else:
        parts = []
        if config.phrasebank is not None:
            parts.append(_phrasebank(base / config.phrasebank))
        if config.twitter_topic is not None:
            parts.append(_twitter(base / config.twitter_topic))
        if config.fiqa is not None:
            parts.append(_fiqa(base / config.fiqa, config.aspect_levels))
    texts, copies = join_sets(parts)
    return Tables(texts=texts), (copies,)


def _phrasebank(folder: Path) -> pl.DataFrame:
    rows = PHRASEBANK.read(folder)
    split = pl.lit(stratified_split(rows, "sentiment", PHRASEBANK.title))
    return hold_out_validation(texts_table(PHRASEBANK.name, rows, "text", split, pl.col(SENTIMENT)))


def _twitter(folder: Path) -> pl.DataFrame:
    rows = TWITTER_TOPIC.read(folder)
    split = pl.col("split").replace({"valid": TEST})
    return hold_out_validation(texts_table(TWITTER_TOPIC.name, rows, "text", split, pl.col(TOPIC)))


def _fiqa(folder: Path, levels: int) -> pl.DataFrame:
    rows = FIQA.read(folder)
    labels = (
        pl.col(TARGET),
        pl.col("sentiment").alias(TARGET_SENTIMENT),
        pl.col(ASPECT).str.split("/").list.head(levels).list.join("/"),
    )
    return hold_out_validation(texts_table(FIQA.name, rows, "text", pl.col("split"), *labels))


def _news() -> pl.DataFrame:
    split = pl.when(pl.col(TIMESTAMP) < _NEWS_TEST_FROM).then(pl.lit(TRAIN)).otherwise(pl.lit(TEST))
    columns = (pl.col(SENTIMENT), pl.col(TARGET), pl.col(TIMESTAMP))
    return hold_out_validation(texts_table(NEWS, synthetic_news(), TEXT, split, *columns))
