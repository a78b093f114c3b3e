"""A filter's text is read as it is meant, and a mistake in it is pointed at."""

from __future__ import annotations

import contextlib
import json
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.filters.builder import MAX_VALUES
from features.filters.errors import FilterError
from features.filters.parse import MAX_DEPTH, MAX_LENGTH, MAX_NAMES, parse
from features.filters.tree import Comparison, Membership, Value, canonical


def meaning(text: str) -> str:
    return canonical(parse(text).root)


def mistake(text: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        parse(text)
    return caught.value


def value_of(text: str) -> Value:
    root = parse(text).root
    assert isinstance(root, Comparison)
    assert isinstance(root.other, Value)
    return root.other


# Parts are sorted by code point in the canonical text: "(" before letters. Joined parts inside others stand in
# parentheses.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a or b and c", "(b and c) or a"),
        ("(a or b) and c", "(a or b) and c"),
        ("not a and b", "b and not a"),
        ("not (a and b)", "not (a and b)"),
        ("not not a", "not not a"),
        ("not a == 1", "not a == 1"),
        ("a and (b and (c and d))", "a and b and c and d"),
        ("((a))", "a"),
        ("1 <= price < 5", "price < 5 and price >= 1"),
        ("not 1 <= price < 5", "not (price < 5 and price >= 1)"),
        ("a < b < c", "a < b and b < c"),
        ("5 > price", "price < 5"),
        ("5 == price", "price == 5"),
        ("brand in ['b', 'a', \"a\"]", 'brand in ["a", "b"]'),
        ("brand not in []", "brand not in []"),
        ("brand is missing", "brand is missing"),
        ("brand is not missing", "not brand is missing"),
        ("price==1", "price == 1"),
        ("price>-3", "price > -3"),
        ("\n a\tand\u00a0b\u3000", "a and b"),
        ("android or nothing", "android or nothing"),
        ("`and` and `a b` and `plain`", "`a b` and `and` and plain"),
        ("`a\\`b` == 1", "`a\\`b` == 1"),
        ("价格 < 5 and कीमत > 1 and цена_2 == 3", "цена_2 == 3 and कीमत > 1 and 价格 < 5"),
        ("ok in [true, false, true]", "ok in [false, true]"),
    ],
)
def test_what_a_text_means(text: str, expected: str) -> None:
    assert meaning(text) == expected


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        ("5", 5),
        ("-0.5", -0.5),
        (".5", 0.5),
        ("1e3", 1000),
        ("2.5E-1", 0.25),
        ("007", 7),
        ("9007199254740993", 2**53 + 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", 2.0**63),
        ("1e308", 1e308),
        ("true", True),
        ("false", False),
        ('"a\'b"', "a'b"),
        ("'a\"b'", 'a"b'),
        (r'"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00"', '"\\/\b\f\n\r\tA😀'),
        (r"'it\'s'", "it's"),
        ('"two\nlines"', "two\nlines"),
        ('""', ""),
    ],
)
def test_values(spelled: str, expected: object) -> None:
    for text in (f"x == {spelled}", f"x in [{spelled}]", f"x in [ {spelled} , {spelled} ]"):
        root = parse(text).root
        assert isinstance(root, Comparison | Membership)
        values = root.values if isinstance(root, Membership) else (root.other,)
        for value in values:
            assert isinstance(value, Value)
            assert value.value == expected
            assert type(value.value) is type(expected)
            assert text[value.start :].startswith(spelled)


@given(st.text(), st.booleans())
@example("\U0010ffff\x00\ud7ff", True)
def test_what_a_json_encoder_makes_of_a_string_is_a_text(string: str, ascii_only: bool) -> None:
    assert value_of("x == " + json.dumps(string, ensure_ascii=ascii_only)).value == string


@given(st.text())
def test_any_name_can_be_asked_for(name: str) -> None:
    quoted = "`" + json.dumps(name)[1:-1].replace("`", "\\`") + "`"
    root = parse(f"{quoted} == 1").root
    assert isinstance(root, Comparison)
    assert root.name.name == name
    assert canonical(parse(canonical(root)).root) == canonical(root)


# The character, counted from 1, is the one under the caret.
@pytest.mark.parametrize(
    ("text", "character", "problem"),
    [
        ("", 1, "expected a condition, such as price < 5, found the end"),
        ("  ", 1, "expected a condition, such as price < 5, found the end"),
        ("price <", 8, "expected a value or an attribute, found the end"),
        ("price < 5 and  ", 14, "expected a condition, such as price < 5, found the end"),
        ("price < 5 AND ok", 11, "found 'AND'; did you mean 'and'?"),
        ("brand = 'x'", 7, "expected '==', found '='"),
        ("a && b", 3, "expected 'and', found '&'"),
        ("a || b", 3, "expected 'or', found '|'"),
        ("!a", 1, "expected 'not' or '!=', found '!'"),
        ("brand == 'x", 10, "expected the text that starts here to end with '"),
        ('brand == "x\\"', 10, 'expected the text that starts here to end with "'),
        ("`brand == 1", 1, "expected the name that starts here to end with `"),
        ("(a", 3, "expected ')', found the end"),
        ("a)", 2, "expected the end, found ')'"),
        ("a in 5", 6, "expected a list, such as [1, 2], found '5'"),
        ("a in [1", 8, "expected ',' or ']', found the end"),
        ("a in [1,, 2]", 9, "expected a value, found ','"),
        ("a in [b]", 7, "expected a value or ']', found 'b'"),
        ("a not < 5", 7, "expected 'in', found '<'"),
        ("a is", 5, "expected 'not' or 'missing', found the end"),
        ("a is null", 6, "expected 'not' or 'missing', found 'null'"),
        ("5", 2, "expected a comparison (==, !=, <, <=, >, >=), found the end"),
        ("5 < 6", 5, "expected an attribute on one side of each comparison, found two values"),
        ("1 < a < 2 < 3", 13, "found two values"),
        ("true", 5, "expected a comparison"),
        ("5 in [5]", 3, "expected a comparison (==, !=, <, <=, >, >=), found 'in'"),
        ("a == 5kg", 6, "expected a number, such as -1.5 or 2e3"),
        ("a == 1.2.3", 6, "expected a number"),
        ("a == --1", 6, "expected a number"),
        ("2nd_price < 5", 1, "a name that isn't a word stands in back quotes"),
        ("a == 1e999", 6, "expected a number below 1.8e308"),
        ("price-per-kg < 5", 6, "a name that isn't a word stands in back quotes"),
        ("a == “x”", 6, "unexpected '“': a text stands in quotes"),
        ("prix€ < 5", 5, "unexpected '€'"),
        ("a == 'x\\q'", 8, "expected an escape of JSON after a backslash, found 'q'"),
        ("a in ['x', 'y\\']", 12, "expected the text that starts here to end with '"),
        ("a in ['ab\\x41']", 10, "found 'x'"),
        ("a == '\\ud83d'", 6, "an escape of half a character"),
        ("a == '\ud83d'", 7, "found half a character, '\\ud83d'"),
    ],
)
def test_mistakes_are_pointed_at(text: str, character: int, problem: str) -> None:
    error = mistake(text)
    assert error.position == character - 1
    assert f"filter, character {character}: " in str(error)
    assert problem in str(error)
    first, line, caret = str(error).split("\n")
    assert first
    # Both lines are indented by four.
    assert len(caret) == 4 + character
    assert line[4:] == text.replace("\ud83d", " ")


@pytest.mark.parametrize(
    ("text", "line", "caret"),
    [
        # Each of 品牌 takes two columns, the accent of e + U+0301 none: 4 + 1 ("=") and 1 + 1.
        ("品牌 = 1", "    品牌 = 1", 4 + 5),
        ("e\u0301 = 1", "    e\u0301 = 1", 4 + 2),
        ("a and\n\tb = 1", "    a and  b = 1", 4 + 9),
        # 100 characters before the mistake, 60 are shown, the first of them as dots; 40 from it on, and dots.
        ("a" * 99 + " = " + "b" * 100, "    …" + "a" * 58 + " = " + "b" * 38 + "…", 4 + 60),
    ],
)
def test_the_caret_stands_under_its_character(text: str, line: str, caret: int) -> None:
    assert str(mistake(text)).split("\n")[1:] == [line, " " * caret + "^"]


def test_bounds() -> None:
    for deepest in ("not " * MAX_DEPTH + "a", "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH):
        parse(deepest)
        parse(" or ".join([deepest] * 3))
    # The first one too many: `not ` has four characters, `not (` two levels in five.
    assert mistake("not " * 100_00 + "a").position == 4 * MAX_DEPTH
    assert mistake("(" * 100_000).position == MAX_DEPTH
    assert mistake("not (" * 30_000 + "a").position == 5 * (MAX_DEPTH // 2)
    assert "at most 32 levels of parentheses and 'not'" in str(mistake("(" * 33))
    names = " and ".join(["a"] * MAX_NAMES)
    parse(names)
    assert mistake(names + " or b").position == len(names + " or ")
    values = ", ".join(["7"] * MAX_VALUES)
    parse(f"a in [{values}]")
    error = mistake(f"a in [{values}, 8]")
    assert (error.position, "at most 10000 values, found 10001" in str(error)) == (len(f"a in [{values}, "), True)
    # Without its end it is no list, and read value by value.
    assert mistake(f"a in [{values}, 8").position == len(f"a in [{values}, ")
    error = mistake("a" * (MAX_LENGTH + 1))
    assert (error.position, "at most 200000 characters, found 200001" in str(error)) == (MAX_LENGTH, True)
    assert len(str(error)) < 400


# Each takes milliseconds; a pattern that goes back over what it has read would take years.
@pytest.mark.parametrize(
    "text",
    [
        'a == "' + "\\\\" * 90_000,
        'a in ["' + '", "' * 2_400,
        "a in [" + "1 " * 90_000,
        "a in [" + " " * 190_000,
        "a == " + "1" * 190_000 + "x",
        "a == 1." + "1" * 90_000 + "e" + "1" * 90_000 + "x",
        "`" + "\\`" * 90_000,
        "a" * 190_000 + "€",
        "a " * 90_000,
    ],
)
def test_long_texts_fail_at_once(text: str) -> None:
    assert mistake(text).position <= len(text)


WORDS = st.sampled_from(
    ["a", "`b c`", "品牌", "not", "and", "or", "in", "is", "missing", "true", "(", ")", "[", "]", ",", "==", "<", ">=",
     "1", "-2.5", "'x'", '"', "\\", "=", "€"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=40), st.lists(WORDS, max_size=25).map(" ".join), st.lists(WORDS).map("".join)))
@settings(max_examples=400)
def test_wild_texts_are_filters_or_filter_errors(text: str) -> None:
    # What else might be raised fails the test.
    with contextlib.suppress(FilterError):
        root = parse(text).root
        # Another spelling of the same.
        assert canonical(parse(canonical(root)).root)


def test_spelling_and_order_make_no_difference() -> None:
    parts = ["price < 5", "not brand in ['x', 'y']", "(ok or 1 <= size < 3)"]
    first = meaning(" and ".join(parts))
    for seed in range(5):
        random.Random(seed).shuffle(parts)
        assert meaning("(" + "  and\n".join(parts) + ")") == first
    assert meaning("5 > price and not (brand in [\"y\", 'x', 'x']) and (`ok` or (size < 3.0 and size >= 1))") == first
    assert meaning("price < 5") != meaning("price <= 5")
    assert meaning("ok == true") != meaning("ok == 1") != meaning("ok == '1'")
