"""What the adapters of published text sets share: finding their file, and a split that no text crosses.

Two texts that differ in case, punctuation or spacing alone count as one (`text_key`). A set's own split is kept; one
training text in ten becomes validation by a hash of its key, and a training text that also stands in a held-out part
is dropped and counted, since a model could answer it from memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from features.datasets.dataset import DatasetMissingError, DatasetShapeError
from features.findings import Finding, first_rows
from features.schema import SPLIT, TEXT, TEXT_ID
from features.splits import held_out_ids
from features.tables import TEST, TEXTS_TABLE, TRAIN, VALIDATION

# Excerpts of the sets that may be passed on, and texts written for this project: see ATTRIBUTION.md there.
SAMPLES: Final = Path(__file__).parent / "samples"
# Which set a text is of.
DATASET: Final = "dataset"

_TEST_SHARE: Final = 0.2
_SEED: Final = 0
# A text that stands in two parts is kept in the later one.
_PARTS: Final = {TRAIN: 0, VALIDATION: 1, TEST: 2}
_PART: Final = "__part__"
_KEY: Final = "__key__"


class TextSetsConfig(BaseModel):
    """Which sets a source is made of: a field for each, its folder or None; the shipped sample where none is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def given(self) -> dict[str, Path]:
        """The folders given, by the set's name."""
        return {name: value for name, value in self if isinstance(value, Path)}

    @property
    def is_sample(self) -> bool:
        """Whether the shipped sample is read."""
        return not self.given

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder that is read."""
        return tuple(self.given.values()) or (SAMPLES,)


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """A published set of texts, as one Parquet file.

    Attributes:
        name: what its texts' ids begin with, and their value of `dataset`.
        title: as its authors call it.
        file: the file's name in its folder.
        columns: that the file must have.
        origin: where it comes from.
        licence: as its source states it.
    """

    name: str
    title: str
    file: str
    columns: tuple[str, ...]
    origin: str
    licence: str

    def read(self, folder: Path) -> pl.DataFrame:
        """Return the file's rows: its columns, others left out.

        Raises:
            DatasetMissingError: the folder holds no such file.
            DatasetShapeError: the file lacks a column.
        """
        path = folder / self.file
        if not path.is_file():
            msg = (
                f"expected {self.title} at {path}, found no such file: it comes from {self.origin} "
                f"(licence: {self.licence}), and is read as Parquet with columns {', '.join(self.columns)}"
            )
            raise DatasetMissingError(msg)
        rows = pl.read_parquet(path)
        missing = [column for column in self.columns if column not in rows.columns]
        if missing:
            found = ", ".join(rows.columns)
            raise DatasetShapeError(
                f"{path}: expected columns {', '.join(self.columns)}, found {found} without {', '.join(missing)}"
            )
        return rows.select(self.columns)


def texts_table(name: str, rows: pl.DataFrame, text: str, split: pl.Expr, *labels: pl.Expr) -> pl.DataFrame:
    """Return a set's rows of the texts table; an id is the set's name and the row's number among those given.

    Args:
        name: the set's.
        rows: of one set, in its file's order.
        text: their column of texts.
        split: String, one of `train`, `validation`, `test`.
        labels: further columns.
    """
    return rows.select(
        pl.format("{}-{}", pl.lit(name), pl.int_range(pl.len())).alias(TEXT_ID),
        # Some texts of BANKING77 begin with a line break.
        pl.col(text).cast(pl.String).str.strip_chars().alias(TEXT),
        pl.lit(name).alias(DATASET),
        split.alias(SPLIT),
        *labels,
    )


def text_key(column: str) -> pl.Expr:
    """Return what spellings of one text share: its letters and digits in lower case, or all of it if it has none."""
    folded = pl.col(column).fill_null("").str.normalize("NFKC").str.to_lowercase()
    bare = folded.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ").str.strip_chars()
    return pl.when(bare == "").then(folded).otherwise(bare)


def stratified_split(rows: pl.DataFrame, label: str, place: str) -> pl.Series:
    """Return `train` or `test` for each row, String `[n]`: 80/20 within each class, seed 0.

    It is scikit-learn's `train_test_split(test_size=0.2, stratify=labels, random_state=0)` over the rows in their
    order, so that figures compare with others' of that protocol.

    Args:
        rows: of one set.
        label: their column of classes.
        place: the set, for errors.

    Raises:
        DatasetShapeError: a class has fewer than two rows, or there are more classes than rows to hold out.
    """
    # The services load the workspace's config too, and are installed without scikit-learn.
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    counts = rows[label].value_counts()["count"].to_list()
    smallest, held = min(counts, default=0), math.ceil(rows.height * _TEST_SHARE)
    if smallest < 2 or held < len(counts):
        raise DatasetShapeError(
            f"{place}: expected at least 2 rows of each class of {label!r}, and as many rows in a fifth as classes, "
            f"found {rows.height} rows of {len(counts)} classes, the smallest of {smallest}"
        )
    positions = np.arange(rows.height)
    _, test = train_test_split(
        positions, test_size=_TEST_SHARE, stratify=rows[label].cast(pl.String).to_list(), random_state=_SEED
    )
    held_out = np.isin(positions, test)
    return pl.Series(SPLIT, np.where(held_out, TEST, TRAIN), dtype=pl.String)


def hold_out_validation(texts: pl.DataFrame) -> pl.DataFrame:
    """Return the texts with one training text in ten moved to validation, by the hash of its key.

    The key rather than the id, so that spellings of one text go together.
    """
    held = pl.Series(held_out_ids(texts.select(text_key(TEXT)).to_series()))
    moved = pl.when((pl.col(SPLIT) == TRAIN) & held).then(pl.lit(VALIDATION)).otherwise(SPLIT)
    return texts.with_columns(moved.alias(SPLIT))


def join_sets(parts: Sequence[pl.DataFrame]) -> tuple[pl.DataFrame, Finding]:
    """Return the texts of several sets as one table, each text in one part of its set, and what that left out.

    A label that a set hasn't is null in its rows. A text that two parts of one set hold is kept in the later one (test
    before validation before training).
    """
    part = pl.col(SPLIT).replace_strict(_PARTS, default=0, return_dtype=pl.Int8)
    placed = pl.concat(parts, how="diagonal_relaxed").with_columns(part.alias(_PART), text_key(TEXT).alias(_KEY))
    is_copy = pl.col(_PART) < pl.col(_PART).max().over(DATASET, _KEY)
    copies = placed.filter(is_copy)
    counts = copies[DATASET].value_counts().sort(DATASET).rows()
    finding = Finding(
        table=TEXTS_TABLE,
        column=TEXT,
        rule="held_out_copy",
        action="drop",
        count=copies.height,
        expected="no text of training in validation or test",
        found=", ".join(f"{count:,} of {name}" for name, count in counts),
        first_rows=first_rows(copies, [TEXT_ID, TEXT]),
    )
    return placed.filter(~is_copy).drop(_PART, _KEY), finding
