from __future__ import annotations

import polars as pl
import pytest

from features.datasets.dataset import DatasetShapeError
from features.datasets.text_sets import hold_out_validation, join_sets, stratified_split, text_key, texts_table
from features.schema import SPLIT, TEXT, TEXT_ID
from features.tables import TEST, TRAIN, VALIDATION


def split_set(name: str, *rows: tuple[str, str]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["said", "part"], orient="row")
    return texts_table(name, frame, "said", pl.col("part"))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("What is the Top-up limit?", "what is the top up limit"),
        ("\n what is  the top up limit", "what is the top up limit"),
        ("ＡＢＣ 一二", "abc 一二"),  # full-width letters are the same letters
        ("CAFE\u0301!", "café"),  # a letter and its accent as two characters
        (":-)", ":-)"),  # nothing but punctuation is its own key, else all such texts were one
        (None, ""),
    ],
)
def test_spellings_of_one_text_share_a_key(text: str | None, key: str) -> None:
    frame = pl.DataFrame({TEXT: [text]}, schema={TEXT: pl.String})
    assert frame.select(text_key(TEXT)).item() == key


def test_ids_are_row_numbers_and_texts_lose_outer_space() -> None:
    made = split_set("set", ("\nhello ", TRAIN), ("bye", TEST))
    assert made.rows() == [("set-0", "hello", "set", TRAIN), ("set-1", "bye", "set", TEST)]


def test_a_text_stays_in_its_latest_part_alone() -> None:
    first = split_set(
        "first",
        ("Top-up?", TRAIN),  # 0: in test as row 4
        ("top up", TRAIN),  # 1: the same
        ("card", TRAIN),  # 2: in validation as row 5
        ("card!", TRAIN),  # 3: the same
        ("TOP UP", TEST),  # 4
        ("CARD", VALIDATION),  # 5
        ("loan", TRAIN),  # 6: twice in one part, which tells a test nothing
        ("loan", TRAIN),  # 7
    )
    second = split_set("second", ("top up", TRAIN), ("fee", VALIDATION), ("fee", TEST))
    joined, finding = join_sets([first, second])
    # Row 0 of the second set stays: its test part doesn't hold that text.
    assert joined[TEXT_ID].to_list() == ["first-4", "first-5", "first-6", "first-7", "second-0", "second-2"]
    assert (finding.rule, finding.action, finding.count) == ("held_out_copy", "drop", 5)
    assert finding.found == "4 of first, 1 of second"
    assert [row[TEXT_ID] for row in finding.first_rows] == ["first-0", "first-1", "first-2"]


def test_one_training_text_in_ten_stops_training_and_its_spellings_go_with_it() -> None:
    said = [f"text number {n}" for n in range(2000)]
    plain = split_set("a", *((text, TRAIN) for text in said))
    shouted = split_set("b", *((f"{text.upper()}!", TRAIN) for text in reversed(said)))
    held = hold_out_validation(plain)
    parts = dict(zip(held[TEXT], held[SPLIT], strict=True))
    # 2,000 draws of 1 in 10: 200 expected, standard deviation sqrt(2000 * .1 * .9) = 13.4.
    assert 150 < list(parts.values()).count(VALIDATION) < 250
    others = hold_out_validation(shouted)
    assert {t.lower().removesuffix("!"): part for t, part in zip(others[TEXT], others[SPLIT], strict=True)} == parts
    tested = split_set("a", *((text, TEST) for text in said))
    assert set(hold_out_validation(tested)[SPLIT]) == {TEST}


def test_a_stratified_split_holds_out_a_fifth_of_each_class() -> None:
    rows = pl.DataFrame({"tone": ["bad"] * 10 + ["good"] * 30})
    parts = rows.with_columns(stratified_split(rows, "tone", "a set"))
    held = parts.filter(pl.col(SPLIT) == TEST)["tone"].value_counts(sort=True)
    assert held.rows() == [("good", 6), ("bad", 2)]
    assert parts[SPLIT].equals(stratified_split(rows, "tone", "a set"))
    # Drawn, not the first or last of a class.
    assert parts[SPLIT].to_list() != sorted(parts[SPLIT].to_list())


def test_a_fifth_may_hold_each_class_once() -> None:
    rows = pl.DataFrame({"tone": list("aabb") * 2})
    # A fifth of 8 rows is 1.6, rounded up to 2.
    parts = rows.with_columns(stratified_split(rows, "tone", "a set"))
    assert sorted(parts.filter(pl.col(SPLIT) == TEST)["tone"]) == ["a", "b"]


@pytest.mark.parametrize("labels", ["aaaaaaaaab", "aabbccdd", ""], ids=["a class of one", "classes > fifth", "no rows"])
def test_classes_too_small_for_a_stratified_split(labels: str) -> None:
    rows = pl.DataFrame({"tone": list(labels)}, schema={"tone": pl.String})
    with pytest.raises(DatasetShapeError, match="a set: expected at least 2 rows of each class of 'tone'"):
        stratified_split(rows, "tone", "a set")
