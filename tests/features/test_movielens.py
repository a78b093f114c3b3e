from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.datasets.dataset import DatasetMissingError
from features.datasets.movielens import MovieLensConfig, read_movielens
from features.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, VALUE
from features.sources import load
from features.validate import InvalidTablesError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RATINGS = "1::1193::5::978300760\n1::73::3::978302109\n"
MOVIES = "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n73::Misérables, Les (1995)::Drama|Musical\n"
USERS = "1::F::1::10::48067\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("ratings", RATINGS), ("movies", MOVIES), ("users", USERS)):
        (tmp_path / f"{name}.dat").write_text(text, encoding="latin-1")
    return tmp_path


def test_grouplens_files(folder: Path) -> None:
    tables, report = load(MovieLensConfig(path=folder), Path(), NOW)
    assert tables.items.rows() == [
        ("1193", "film", "One Flew Over the Cuckoo's Nest", 1975, "Drama"),
        ("73", "film", "Misérables, Les", 1995, "Drama, Musical"),
    ]
    # Age code 1 is "under 18" and occupation 10 is a K-12 student, by GroupLens' README.
    assert tables.users.rows() == [("1", "under 18", "female", "K-12 student")]
    # 978300760 s after the epoch is 2000-12-31 22:12:40 UTC.
    assert tables.events.select(USER_ID, ITEM_ID, EVENT, TIMESTAMP, VALUE).row(0) == (
        "1", "1193", "rating", datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC), 5.0,
    )  # fmt: skip
    assert report.dropped == 0


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("1::1193::five::978300761", "events.value: wrong_type"),
        ("1::1193::5::soon", "events.timestamp: null_key"),
        ("1", "events.item_id: null_key"),
    ],
)
def test_a_broken_line_fails_at_the_door(folder: Path, line: str, rule: str) -> None:
    (folder / "ratings.dat").write_text(f"{RATINGS}{line}\n", encoding="latin-1")
    with pytest.raises(InvalidTablesError, match=rule):
        load(MovieLensConfig(path=folder), Path(), NOW)


def test_a_folder_of_neither_shape_says_what_it_holds(folder: Path) -> None:
    (folder / "users.dat").unlink()
    with pytest.raises(DatasetMissingError, match=r"found \['movies\.dat', 'ratings\.dat'\]"):
        read_movielens(MovieLensConfig(path=folder))


@pytest.mark.skipif(
    "POLYRANK_MOVIELENS_DIR" not in os.environ, reason="set POLYRANK_MOVIELENS_DIR to a folder of MovieLens 1M"
)
def test_the_real_folder() -> None:
    tables, report = load(MovieLensConfig(path=Path(os.environ["POLYRANK_MOVIELENS_DIR"])), Path(), NOW)
    # GroupLens' README: 1,000,209 ratings of 6,040 users; movies.dat lists 3,883 films.
    assert (tables.events.height, tables.users.height, tables.items.height) == (1_000_209, 6_040, 3_883)
    assert report.dropped == 0
    assert tables.events[VALUE].is_between(1, 5).all()
    assert "Toy Story" in tables.items["title"]
