from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from features.datasets.dataset import DatasetMissingError
from features.datasets.finance import FinanceConfig, read_finance
from features.datasets.synthetic_news import (
    BURST_COMPANY,
    BURST_DAYS,
    BURST_PER_DAY,
    DAYS,
    FIRST_DAY,
    synthetic_news,
)
from features.schema import SPLIT, TEXT, TEXT_ID, TIMESTAMP
from features.sources import load
from features.tables import TEST, TRAIN, VALIDATION

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def parts(texts: pl.DataFrame, dataset: str) -> dict[str, int]:
    return dict(texts.filter(dataset=dataset)[SPLIT].value_counts().rows())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tones = ["positive"] * 5 + ["negative"] * 5
    frames = {
        "phrasebank": pl.DataFrame({"text": [f"Profit rose to {n}" for n in range(10)], "sentiment": tones}),
        "tfn_topic": pl.DataFrame(
            {"text": ["Fed raises", "Oil falls"], "label": [1, 6], "topic": ["Fed", "Oil"], "split": ["train", "valid"]}
        ),
        "fiqa": pl.DataFrame(
            [
                ("ARM joins IBM", "ARM", 0.273, "Corporate/M&A/Merger", "train"),
                ("ARM joins IBM", "IBM", -0.345, "Corporate/Strategy", "train"),
                ("Gold up", "Gold", 0.5, "Market", "test"),
            ],
            schema=["text", "target", "sentiment", "aspect", "split"],
            orient="row",
        ),
    }
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_each_set_has_label_columns_of_its_own(folder: Path) -> None:
    here = Path()
    tables, report = load(FinanceConfig(phrasebank=here, twitter_topic=here, fiqa=here), folder, NOW)
    assert report.dropped == 0
    labels = ("sentiment", "topic", "target", "target_sentiment", "aspect")
    rows = {row[0]: row[1:] for row in tables.texts.select(TEXT_ID, TEXT, *labels).rows()}
    assert rows["phrasebank-9"] == ("Profit rose to 9", "negative", None, None, None, None)
    assert rows["twitter_topic-1"] == ("Oil falls", None, "Oil", None, None, None)
    # One text, two companies: both rows stay.
    assert rows["fiqa-0"] == ("ARM joins IBM", None, None, "ARM", 0.273, "Corporate/M&A")
    assert rows["fiqa-1"] == ("ARM joins IBM", None, None, "IBM", -0.345, "Corporate/Strategy")
    assert rows["fiqa-2"][-1] == "Market"
    # The part that the set calls `valid` is test.
    assert parts(tables.texts, "twitter_topic")[TEST] == 1
    assert parts(tables.texts, "phrasebank")[TEST] == 2
    assert tables.items.is_empty()
    assert TIMESTAMP not in tables.texts.columns


def test_an_aspect_is_cut_at_the_level_asked_for(folder: Path) -> None:
    tables, _ = load(FinanceConfig(fiqa=folder, aspect_levels=1), Path(), NOW)
    assert tables.texts["aspect"].to_list() == ["Corporate", "Corporate", "Market"]


@pytest.mark.parametrize(
    ("name", "file", "licence"),
    [
        ("phrasebank", "phrasebank", "CC BY-NC-SA 3.0"),
        ("twitter_topic", "tfn_topic", "MIT"),
        ("fiqa", "fiqa", "none stated"),
    ],
)
def test_an_absent_set_says_where_it_comes_from(tmp_path: Path, name: str, file: str, licence: str) -> None:
    config = FinanceConfig.model_validate({name: "absent"})
    with pytest.raises(DatasetMissingError, match=rf"at {tmp_path}/absent/{file}\.parquet.*licence: {licence}"):
        read_finance(config, tmp_path)


def test_the_sample_needs_no_folder() -> None:
    tables, report = load(FinanceConfig(), Path(), NOW)
    texts = tables.texts
    # 20 topics of 12 + 4: ATTRIBUTION.md.
    assert texts["topic"].drop_nulls().value_counts()["count"].to_list() == [16] * 20
    assert parts(texts, "twitter_topic")[TEST] == 80
    # 8 headlines on each of 60 days and 3 x 6 of the burst, none of them in two parts.
    news = texts.filter(dataset="synthetic_news")
    assert news.height == 60 * 8 + 3 * 6
    assert report.dropped == 0
    # The last quarter, 15 days, is test.
    start = FIRST_DAY + timedelta(days=45)
    assert set(news.filter(pl.col(TIMESTAMP) >= start)[SPLIT]) == {TEST}
    assert set(news.filter(pl.col(TIMESTAMP) < start)[SPLIT]) == {TRAIN, VALIDATION}
    # Tweets carry no time, and have a split in its place.
    assert texts.filter(dataset="twitter_topic")[TIMESTAMP].null_count() == 320


def test_bad_news_of_one_company_bursts() -> None:
    news = synthetic_news()
    assert news.equals(synthetic_news())
    assert news[TIMESTAMP].is_sorted()
    day = (pl.col(TIMESTAMP) - FIRST_DAY).dt.total_days().alias("day")
    assert news.select(day.n_unique()).item() == DAYS
    bad = news.filter(sentiment="negative").group_by("target", day).len()
    burst = bad.filter(pl.col("len") >= BURST_PER_DAY)
    # Elsewhere a company has one headline a day, so the burst's days stand out, and no others.
    assert set(burst["target"]) == {BURST_COMPANY}
    assert sorted(burst["day"]) == list(BURST_DAYS)
    assert bad.filter(pl.col("len") < BURST_PER_DAY)["len"].max() == 1
    assert news.filter(~pl.col("target").eq(BURST_COMPANY)).group_by("target").len()["len"].unique().to_list() == [DAYS]
    assert all(target in text for target, text in news.select("target", TEXT).iter_rows())


def test_the_published_sets(published: Path) -> None:
    config = FinanceConfig(
        phrasebank=Path("financial_phrasebank"), twitter_topic=Path("twitter_financial_topic"), fiqa=Path("fiqa_absa")
    )
    tables, report = load(config, published, NOW)
    # A fifth of 4,846, rounded up; the given parts; 6 training texts stand in test.
    assert {name: parts(tables.texts, name)[TEST] for name in ("phrasebank", "twitter_topic", "fiqa")} == {
        "phrasebank": 970,
        "twitter_topic": 4_117,
        "fiqa": 219,
    }
    assert report.count("held_out_copy") == 6
    assert tables.texts.height == 4_846 + 21_107 + 1_173 - 6
    assert tables.texts["aspect"].drop_nulls().n_unique() == 28
    assert tables.texts["target_sentiment"].drop_nulls().is_between(-1, 1).all()
