import numpy as np
import polars as pl
import pytest

from features.groups import Groups
from infra.errors import InvalidInputError


def test_codes_stand_for_sorted_values_and_a_null_has_none() -> None:
    table = pl.DataFrame({"age": ["old", "young", None, "old"]})
    groups = Groups.of(table, "age", "users")
    assert groups.names == ("old", "young")
    np.testing.assert_array_equal(groups.codes(table), np.array([0, 1, -1, 0], np.int32))


def test_a_value_that_was_not_there_before_has_no_group() -> None:
    groups = Groups.of(pl.DataFrame({"n": [2, 10]}), "n", "items")
    assert groups.names == ("10", "2")
    np.testing.assert_array_equal(groups.codes(pl.DataFrame({"n": [10, 3]})), np.array([0, -1], np.int32))


@pytest.mark.parametrize(
    ("values", "found"), [([1, 1], "found 1"), ([None, None], "found 0"), (list(range(101)), "found 101")]
)
def test_a_column_that_makes_no_groups_is_refused(values: list[int | None], found: str) -> None:
    with pytest.raises(InvalidInputError, match=f"table users, column id: expected 2 to 100 different values, {found}"):
        Groups.of(pl.DataFrame({"id": values}), "id", "users")


def test_an_unknown_column_is_named_with_its_neighbour() -> None:
    with pytest.raises(InvalidInputError, match=r"unknown column 'agee'.*age"):
        Groups.of(pl.DataFrame({"age": [1, 2]}), "agee", "users")
