"""The excerpts hold what ATTRIBUTION.md says, and nothing besides."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.datasets.text_sets import SAMPLES

LINK = r"\s*https?://\S+"


def first_rows(rows: pl.DataFrame, label: str, counts: dict[str, int]) -> pl.DataFrame:
    allowed = pl.col("split").replace_strict(counts, default=0)
    return rows.filter(pl.int_range(pl.len()).over(label, "split") < allowed)


def banking(data: Path, sample: pl.DataFrame) -> pl.DataFrame:
    rows = pl.read_parquet(data / "banking77" / "banking77.parquet")
    chosen = rows.filter(pl.col("category").is_in(sample["category"].unique().implode()))
    return first_rows(chosen, "category", {"train": 20, "test": 5})


def clinc(data: Path, sample: pl.DataFrame) -> pl.DataFrame:
    rows = pl.read_parquet(data / "clinc150" / "clinc150.parquet")
    chosen = rows.filter(pl.col("intent").is_in(sample["intent"].unique().implode()))
    counts = {"train": 6, "val": 2, "test": 2, "oos_train": 60, "oos_val": 20, "oos_test": 20}
    return first_rows(chosen, "intent", counts)


def tweets(data: Path, sample: pl.DataFrame) -> pl.DataFrame:
    rows = pl.read_parquet(data / "twitter_financial_topic" / "tfn_topic.parquet").select(sample.columns)
    bare = pl.col("text").str.replace_all(LINK, "").str.replace_all("&amp;", "&", literal=True).str.strip_chars()
    chosen = rows.filter(~pl.col("text").str.contains("@")).with_columns(bare)
    chosen = chosen.filter(pl.col("text").str.len_chars() >= 20).unique("text", keep="first", maintain_order=True)
    return first_rows(chosen, "topic", {"train": 12, "valid": 4})


@pytest.mark.parametrize(("name", "cut"), [("banking77", banking), ("clinc150", clinc), ("tfn_topic", tweets)])
def test_an_excerpt_is_cut_as_its_attribution_says(published: Path, name: str, cut: object) -> None:
    sample = pl.read_parquet(SAMPLES / f"{name}.parquet")
    assert callable(cut)
    assert_frame_equal(sample, cut(published, sample))


def test_every_file_is_small_and_attributed() -> None:
    attribution = (SAMPLES / "ATTRIBUTION.md").read_text()
    files = [path for path in SAMPLES.iterdir() if path.is_file()]
    assert {path.suffix for path in files} == {".parquet", ".csv", ".md"}
    assert [path.name for path in files if path.suffix != ".md" and path.name not in attribution] == []
    assert max(path.stat().st_size for path in files) < 100_000


def test_tweets_name_no_account_and_hold_no_link() -> None:
    texts = pl.read_parquet(SAMPLES / "tfn_topic.parquet")["text"]
    assert texts.str.contains("@|https?://").sum() == 0
