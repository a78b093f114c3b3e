"""Labels of columns by hand, and the errors that name what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from features.column_labels import LabelColumn
from features.schema import EVENT, ITEM_ID, TEXT, TEXT_ID, USER_ID
from features.tables import Tables
from features.tasks import TaskError, TaskSpec

ITEMS = pl.DataFrame({ITEM_ID: ["7", "9"]})


def column(kind: str, values: list[Any], texts: list[str] | None = None, **parts: Any) -> LabelColumn:
    """A task's column `mark` over texts t0, t1, ..."""
    frame = pl.DataFrame(
        {
            TEXT_ID: [f"t{row}" for row in range(len(values))],
            TEXT: texts or ["tea please"] * len(values),
            "mark": values,
        }
    )
    label = {"type": "column", "column": "mark", **parts.pop("label", {})}
    task = TaskSpec.model_validate({"name": "k", "kind": kind, "on": "text", "label": label, **parts})
    users, events = pl.DataFrame({USER_ID: ["u"]}), pl.DataFrame(schema={EVENT: pl.String})
    return LabelColumn.of(task, Tables(items=ITEMS, users=users, events=events, texts=frame))


def labels(own: LabelColumn) -> list[float]:
    return own.labels({"k": own.classes()} if own.task.kind == "multiclass" else {}).tolist()


def test_classes_are_those_of_the_rows_in_order_or_those_declared() -> None:
    own = column("multiclass", ["tea", "soap", None, "tea"])
    assert own.classes() == ("soap", "tea")
    np.testing.assert_array_equal(own.labels({"k": own.classes()}), [1, 0, np.nan, 1])
    declared = column("multiclass", ["tea", "soap", None], classes=["tea", "bread", "soap"])
    np.testing.assert_array_equal(declared.labels({"k": declared.classes()}), [0, 2, np.nan])


def test_a_class_that_only_the_held_out_rows_have_is_no_label() -> None:
    np.testing.assert_array_equal(column("multiclass", ["tea", "milk"]).labels({"k": ("soap", "tea")}), [1, np.nan])


def test_whole_numbers_are_classes_too() -> None:
    own = column("multiclass", [3, 12, 3])
    assert own.classes() == ("12", "3")
    assert labels(own) == [1, 0, 1]


@pytest.mark.parametrize("values", [[True, False, None], [1, 0, None], [1.0, 0.0, None], ["1", "0", None]])
def test_binary_labels(values: list[Any]) -> None:
    np.testing.assert_array_equal(labels(column("binary", values)), [1, 0, np.nan])


@pytest.mark.parametrize("values", [[1.5, -2, None], ["1.5", "-2", None]])
def test_numbers(values: list[Any]) -> None:
    np.testing.assert_array_equal(labels(column("regression", values)), [1.5, -2, np.nan])


def test_answers_are_positions_of_items() -> None:
    assert column("contrastive", ["9", None, "7"]).answers(ITEMS).tolist() == [1, -1, 0]
    assert column("contrastive", [9, None, 7]).answers(ITEMS).tolist() == [1, -1, 0]


@pytest.mark.parametrize("values", [[["O", "B"], None, ["B"]], ["O B", None, "B"]])
def test_tags_of_words(values: list[Any]) -> None:
    texts = ["two  words", "untagged", " one"]
    own = column("token_tags", values, texts)
    found = own.tags(pl.Series(texts), {"k": own.classes()})
    assert own.classes() == ("B", "O")
    assert found.text.tolist() == [0, 0, 2]
    # "two" is [0, 3); two spaces; "words" is [5, 10). "one" stands after a space: [1, 4).
    assert found.span.tolist() == [[0, 3], [5, 10], [1, 4]]
    assert found.code.tolist() == [1, 0, 0]


def test_tags_of_characters_skip_spaces() -> None:
    own = column("token_tags", [["B", "I", "O"]], ["\u8fa3\u6912 x"], label={"unit": "character"})
    found = own.tags(pl.Series(["\u8fa3\u6912 x"]), {"k": ("B", "I", "O")})
    assert found.span.tolist() == [[0, 1], [1, 2], [3, 4]]
    assert found.code.tolist() == [0, 1, 2]


def test_a_tag_that_only_the_held_out_texts_have_is_left_out() -> None:
    found = column("token_tags", [["O", "NEW"], ["B", "O"]]).tags(pl.Series(["tea please"] * 2), {"k": ("B", "O")})
    assert (found.text.tolist(), found.code.tolist()) == ([0, 1, 1], [1, 0, 1])
    assert found.span.tolist() == [[0, 3], [0, 3], [4, 10]]


def test_some_rows_of_a_column() -> None:
    own = column("regression", [1.0, 2.0, 3.0]).where(np.array([True, False, True]))
    assert labels(own) == [1, 3]
    assert own.keys.to_list() == ["t0", "t2"]


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(TaskError, match=r"task k: table texts: unknown column 'marc'; did you mean 'mark'\?"):
        column("binary", [1], label={"column": "marc"})


FIRST = "1 row with others; first rows: text_id='t1'"


@pytest.mark.parametrize(
    ("kind", "values", "parts", "expected"),
    [
        ("regression", ["1", "x", "y"], {}, "a finite number, found 2 rows with others; .* text_id='t1', found='x'"),
        ("regression", [1.0, float("inf")], {}, f"a finite number, found {FIRST}, found='inf'"),
        ("regression", [[1.0], [2.0]], {}, r"numbers, found type List\(Float64\)"),
        ("binary", [0, 2], {}, f"0 or 1, found {FIRST}, found='2'"),
        ("multiclass", ["a", "c"], {"classes": ["a", "b"]}, rf"2 declared classes \(a, b\), found {FIRST}, found='c'"),
        ("multiclass", ["a", "a"], {}, r"at least two classes among the labels to train on, found \['a'\]"),
        ("multiclass", [["a"], ["b"]], {}, r"one value a row, found type List\(String\)"),
    ],
)
def test_labels_that_a_task_cannot_learn_from(
    kind: str, values: list[Any], parts: dict[str, Any], expected: str
) -> None:
    with pytest.raises(TaskError, match=f"task k: texts.mark: expected (one of the )?{expected}"):
        labels(column(kind, values, **parts))


def test_an_answer_that_is_no_item() -> None:
    with pytest.raises(TaskError, match=rf"one of the 2 ids of the items table, found {FIRST}, found='8'"):
        column("contrastive", ["7", "8"]).answers(ITEMS)


DECLARED = {"classes": ["B", "O"]}


@pytest.mark.parametrize(
    ("values", "parts", "expected"),
    [
        (
            [["O"], ["O", "B", "B"]],
            {},
            r"one tag a word, found 2 rows with more or fewer \(1 tags for 2 words\); .*'t0'",
        ),
        ([["O", "B"], ["O", "C"]], DECLARED, f"declared classes .*, found {FIRST}"),
        ([["O", "B"], ["O", None]], DECLARED, f"declared classes .*, found {FIRST}"),
        ([["O", "O"]], {}, "at least two classes"),
        ([1, 2], {}, "a list of tags a row, or text with a space between them, found type Int64"),
    ],
)
def test_tags_that_do_not_fit(values: list[Any], parts: dict[str, Any], expected: str) -> None:
    own = column("token_tags", values, **parts)
    with pytest.raises(TaskError, match=expected):
        own.tags(pl.Series(["tea please"] * len(values)), {"k": own.classes()})


def test_a_column_without_any_label_trains_nothing() -> None:
    with pytest.raises(TaskError, match="a label of at least one row to train on, found none in 2 rows"):
        column("regression", [None, None]).require_any()
    column("regression", [None, 1.0]).require_any()
