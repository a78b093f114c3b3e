"""MovieLens 1M from a folder, in GroupLens' `.dat` files or as Parquet tables of the same content.

Users are viewers, items are films, events are "rating" with the stars in `value`. Two shapes are read:
- `ratings.dat`, `movies.dat`, `users.dat`: fields between `::`, Latin-1, no header; genres between `|`;
- `inter.parquet` (user_id, item_id, rating, timestamp), `item.parquet` (item_id, movie_title, release_year, genre),
  `user.parquet` (user_id, age, gender, occupation).
Timestamps count seconds since the epoch, in UTC. Rows stay in file order, which breaks ties of equal times.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from features.datasets.dataset import TITLE, DatasetMissingError
from features.findings import Finding
from features.schema import EVENT, ITEM_ID, KIND, TIMESTAMP, USER_ID, VALUE
from features.table_config import TableConfig
from features.tables import SHOP_TABLES, TEXTS_TABLE, Tables
from features.timestamps import read_times

RATING: Final = "rating"
FILM: Final = "film"
YEAR: Final = "release_year"
GENRES: Final = "genres"
AGE: Final = "age"
GENDER: Final = "gender"
OCCUPATION: Final = "occupation"

_DAT: Final = ("ratings.dat", "movies.dat", "users.dat")
_PARQUET: Final = ("inter.parquet", "item.parquet", "user.parquet")
_SEPARATOR: Final = "::"
_LINE: Final = "line"

# Codes of GroupLens' README of ml-1m: the least age of each band, and the index of each occupation.
_AGES: Final = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}
_GENDERS: Final = {"F": "female", "M": "male"}
_OCCUPATIONS: Final = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip


class MovieLensConfig(BaseModel):
    """Where the files lie.

    Attributes:
        path: their folder; a relative path is taken from the workspace.
        texts: a table of one's own texts about the films (reviews, plots), for tasks on single texts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["movielens"] = "movielens"
    path: Path
    texts: TableConfig | None = None

    @property
    def declared(self) -> frozenset[str]:
        """Names of the tables that the source has."""
        return SHOP_TABLES if self.texts is None else SHOP_TABLES | {TEXTS_TABLE}


def read_movielens(config: MovieLensConfig) -> tuple[Tables, tuple[Finding, ...]]:
    """Return the canonical tables, not yet validated; this reader leaves nothing out.

    Raises:
        DatasetMissingError: if the folder holds neither shape.
    """
    if all((config.path / name).is_file() for name in _PARQUET):
        return _from_parquet(config.path), ()
    if all((config.path / name).is_file() for name in _DAT):
        return _from_dat(config.path), ()
    found = sorted(entry.name for entry in config.path.iterdir())[:10] if config.path.is_dir() else "no folder"
    msg = f"expected {', '.join(_DAT)} or {', '.join(_PARQUET)} in {config.path}, found {found}"
    raise DatasetMissingError(msg)


def _from_parquet(folder: Path) -> Tables:
    items = pl.scan_parquet(folder / "item.parquet").select(
        ITEM_ID,
        pl.lit(FILM).alias(KIND),
        pl.col("movie_title").alias(TITLE),
        pl.col(YEAR).cast(pl.Int64),
        pl.col("genre").str.replace_all(" ", ", ", literal=True).alias(GENRES),
    )
    users = pl.scan_parquet(folder / "user.parquet").select(USER_ID, *_decoded_user())
    ratings = pl.read_parquet(folder / "inter.parquet", columns=[USER_ID, ITEM_ID, RATING, TIMESTAMP])
    return Tables(items=items.collect(), users=users.collect(), events=_events(ratings))


def _from_dat(folder: Path) -> Tables:
    movies = _read_dat(folder / "movies.dat", (ITEM_ID, "name", "genre"))
    # The year closes the name in brackets: "Toy Story (1995)".
    year = pl.col("name").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64)
    items = movies.select(
        ITEM_ID,
        pl.lit(FILM).alias(KIND),
        pl.col("name").str.replace(r"\s*\(\d{4}\)\s*$", "").alias(TITLE),
        year.alias(YEAR),
        pl.col("genre").str.replace_all("|", ", ", literal=True).alias(GENRES),
    )
    people = _read_dat(folder / "users.dat", (USER_ID, GENDER, AGE, OCCUPATION, "zip"))
    ratings = _read_dat(folder / "ratings.dat", (USER_ID, ITEM_ID, RATING, TIMESTAMP))
    ratings = ratings.with_columns(pl.col(TIMESTAMP).cast(pl.Int64, strict=False))
    users = people.select(USER_ID, *_decoded_user())
    return Tables(items=items, users=users, events=_events(ratings))


def _read_dat(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """Split the lines of a `::` file into text columns; a field that a line lacks is null, for validation to find."""
    # Not splitlines(): it also splits at U+0085, which is a letter's byte in other code pages.
    text = path.read_text(encoding="latin-1").removesuffix("\n")
    lines = pl.Series(_LINE, text.split("\n"), dtype=pl.String).str.strip_suffix("\r")
    fields = lines.str.split_exact(_SEPARATOR, len(columns) - 1).struct.rename_fields(list(columns))
    return fields.struct.unnest()


def _decoded_user() -> list[pl.Expr]:
    codes = {AGE: {str(code): band for code, band in _AGES.items()}, GENDER: _GENDERS}
    codes[OCCUPATION] = {str(code): job for code, job in enumerate(_OCCUPATIONS)}
    # A code that GroupLens doesn't list stays as it is.
    return [pl.col(column).cast(pl.String).replace(names).alias(column) for column, names in codes.items()]


def _events(ratings: pl.DataFrame) -> pl.DataFrame:
    return ratings.select(
        USER_ID,
        ITEM_ID,
        pl.lit(RATING).alias(EVENT),
        read_times(ratings[TIMESTAMP], unit="s").utc,
        pl.col(RATING).alias(VALUE),
    )
