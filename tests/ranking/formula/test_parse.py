from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.formula.parse import MAX_LENGTH, FormulaError, parse


def value(text: str, **columns: float) -> float:
    return float(parse(text).compute({name: np.array([own]) for name, own in columns.items()}, 1)[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 - 4 - 2", 1),
        ("8 / 4 / 2", 1),
        ("-2 ** 2", -4),
        ("2 ** 3 ** 2", 512),
        ("2 ** -1", 0.5),
        ("2 * -3", -6),
        ("--2", 2),
        (".5e1 - 1", 4),
        ("min(3, 1, 2) + max(1, 2) + abs(-4)", 7),
        ("sqrt(16) + log(exp(2))", 6),
        ("coalesce(log(0) * 0, 5)", 5),
    ],
)
def test_by_hand(text: str, expected: float) -> None:
    assert value(text) == pytest.approx(expected)


def test_names_are_words_or_stand_in_back_quotes() -> None:
    assert value("purchase * `list price` ** 0.5 + préis", **{"purchase": 0.5, "list price": 4.0, "préis": 1.0}) == 2.0
    # A function's name is one only before a parenthesis.
    assert value("max + max(max, 2)", max=1.0) == 3.0
    assert [(load.name, load.start) for load in parse("a + b * a + `a`").names] == [("a", 0), ("b", 4)]


NUMBERS = st.floats(-9, 9, allow_nan=False).map(lambda number: round(number, 3))
# Python's own arithmetic is the reference: same precedence, same association.
FORMULAS = st.recursive(
    st.sampled_from(["a", "b", "2", "0.5"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map("-{}".format),
        inner.map("({})".format),
        st.tuples(st.sampled_from("ab"), st.sampled_from(["2", "-1", "a"])).map(" ** ".join),
    ),
    max_leaves=12,
)


@given(FORMULAS, NUMBERS, NUMBERS)
def test_agrees_with_python(text: str, a: float, b: float) -> None:
    try:
        expected = eval(text, {"__builtins__": {}}, {"a": a, "b": b})  # noqa: S307 - the test's own text
    except (ZeroDivisionError, OverflowError):
        expected = None
    found = value(text, a=a, b=b)
    if expected is None or isinstance(expected, complex):
        # What has no value may have been an infinity on the way, as in 1 / (1 / 0).
        assert math.isnan(found) or math.isfinite(found)
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_what_is_missing_stays_missing() -> None:
    rows = {"price": np.array([4.0, np.nan]), "zero": np.zeros(2)}
    assert parse("price ** 0.5").compute(rows, 2).tolist() == pytest.approx([2.0, math.nan], nan_ok=True)
    assert parse("max(price, 1)").compute(rows, 2).tolist() == pytest.approx([4.0, math.nan], nan_ok=True)
    assert parse("coalesce(price, zero, 3)").compute(rows, 2).tolist() == [4.0, 0.0]
    assert np.isnan(parse("price / zero").compute(rows, 2)).all()
    assert parse("2").compute({}, 3).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("text", "said", "position"),
    [
        ("", "expected a number or a name, found the end", 0),
        ("price *", "expected a number or a name, found the end", 7),
        ("price 2", "expected an operator (+, -, *, /, **) or the end, found '2'", 6),
        ("price ^ 2", "expected '**', found '^'", 6),
        ("(price", "expected an operator (+, -, *, /, **) or ')', found the end", 6),
        ("min(1 2)", "expected an operator (+, -, *, /, **), ',' or ')', found '2'", 6),
        ("price * 'x'", 'expected a number or a name, found "\'"', 8),
        ("sqr(4)", "unknown function 'sqr'; did you mean 'sqrt'?", 0),
        ("1 + log(2, 3)", "expected 1 argument of log, found 2", 4),
        ("coalesce(1)", "expected at least 2 arguments of coalesce, found 1", 0),
        ("1e999", "expected a number below 1.8e308", 0),
        ("a.b", "expected a number, such as -1.5 or 2e3; a name that isn't a word stands in back quotes", 1),
        ("__import__('os')", "expected a number or a name", 11),
        ("`a", "expected the name that starts here to end with `", 0),
        ("1" * (MAX_LENGTH + 1), f"expected at most {MAX_LENGTH} characters, found {MAX_LENGTH + 1}", MAX_LENGTH),
    ],
)
def test_mistakes_are_pointed_at(text: str, said: str, position: int) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert caught.value.position == position
    assert str(caught.value).startswith(f"formula, character {position + 1}: ")


@pytest.mark.parametrize("text", ["(" * 499 + "1" + ")" * 499, "-" * 999 + "1", "1" + "+1" * 499, "2" + "**1" * 333])
def test_the_deepest_formula_neither_recurses_nor_fails(text: str) -> None:
    assert math.isfinite(value(text))


@given(st.text(max_size=40))
def test_any_text_is_a_formula_or_an_error(text: str) -> None:
    position = 0
    try:
        parse(text)
    except FormulaError as error:
        position = error.position
    assert 0 <= position <= len(text)
