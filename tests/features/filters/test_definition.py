"""Random filters, written out and read back, hold where plain Python says of each row that they do."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from features.filters.evaluate import mask
from features.filters.parse import parse

Row = dict[str, Any]
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 2)
# Few distinct ones, so that some are equal; text without surrogates, which are no Unicode.
TEXTS = st.sampled_from(["", "a", "A", "ä", "a\u0308", "牛奶", "\U0001f600", "\uffff"]) | st.text(max_size=3)
OTHER = "a `b` \\"
COLUMNS = {"x": NUMBERS, "y": NUMBERS, "n": WHOLE, "品牌": TEXTS, OTHER: TEXTS, "ok": st.booleans()}
# A fraction may be compared with whole numbers too.
CONSTANTS = COLUMNS | {"n": WHOLE | st.sampled_from([0.5, -1.5])}
TYPES = {"x": pl.Float64, "y": pl.Float64, "n": pl.Int64, "品牌": pl.String, OTHER: pl.String, "ok": pl.Boolean}
ALIKE = (("x", "y"), ("品牌", OTHER))


class Leaf(NamedTuple):
    """A condition as text, and what it says of a row."""

    text: str
    holds: Callable[[Row], bool]


class Branch(NamedTuple):
    """Parts joined by `and` or `or`, or the one that `not` turns round."""

    word: str
    parts: list[Any]


def spelled(value: Any) -> str:
    # JSON's spelling of a text, and Python's shortest of a number, are those of the language.
    return json.dumps(value, ensure_ascii=False)


def named(name: str) -> str:
    return name if name.isidentifier() else "`" + spelled(name)[1:-1].replace("`", "\\`") + "`"


def compared(left: Any, sign: str, right: Any) -> bool:
    return left is not None and right is not None and SIGNS[sign](left, right)


def signs(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(["==", "!="] if name == "ok" else list(SIGNS))


@st.composite
def comparisons(draw: st.DrawFn) -> Leaf:
    """`name < 5`, `5 > name` or `1 < name < 5`."""
    name = draw(st.sampled_from(list(COLUMNS)))
    low, high = draw(CONSTANTS[name]), draw(CONSTANTS[name])
    first, second = draw(signs(name)), draw(signs(name))
    before, after = f"{spelled(low)} {first} {named(name)}", f"{named(name)}{second}{spelled(high)}"
    return draw(
        st.sampled_from([
            Leaf(before, lambda row: compared(low, first, row[name])),
            Leaf(after, lambda row: compared(row[name], second, high)),
            Leaf(
                f"{before} {second} {spelled(high)}",
                lambda row: compared(low, first, row[name]) and compared(row[name], second, high),
            ),
        ])
    )  # fmt: skip


@st.composite
def pairs(draw: st.DrawFn) -> Leaf:
    """`name < other`."""
    left, right = draw(st.permutations(draw(st.sampled_from(ALIKE))))
    sign = draw(signs(left))
    return Leaf(f"{named(left)} {sign} {named(right)}", lambda row: compared(row[left], sign, row[right]))


@st.composite
def members(draw: st.DrawFn) -> Leaf:
    """`name in [...]` or `name not in [...]`."""
    name = draw(st.sampled_from(list(COLUMNS)))
    values, wanted = draw(st.lists(CONSTANTS[name], max_size=4)), draw(st.booleans())
    text = f"{named(name)} {'' if wanted else 'not '}in [{', '.join(map(spelled, values))}]"
    return Leaf(text, lambda row: row[name] is not None and (row[name] in values) == wanted)


@st.composite
def presences(draw: st.DrawFn) -> Leaf:
    """`name is missing`, `name is not missing` or `ok`."""
    name = draw(st.sampled_from(list(COLUMNS)))
    return draw(
        st.sampled_from([
            Leaf(f"{named(name)} is missing", lambda row: row[name] is None),
            Leaf(f"{named(name)} is not missing", lambda row: row[name] is not None),
            Leaf("ok", lambda row: row["ok"] is True),
        ])
    )  # fmt: skip


TREES = st.recursive(
    st.one_of(comparisons(), pairs(), members(), presences()),
    lambda inner: st.one_of(
        st.builds(Branch, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=4)),
        st.builds(Branch, st.just("not"), st.lists(inner, min_size=1, max_size=1)),
    ),
    max_leaves=8,
)
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in COLUMNS.items()}), min_size=1, max_size=8
)


def rendered(tree: Leaf | Branch, inside: int = 0) -> str:
    """Return the text, with no parentheses but those that precedence asks for."""
    if isinstance(tree, Leaf):
        return tree.text
    level = ("or", "and", "not").index(tree.word)
    parts = [rendered(part, level) for part in tree.parts]
    text = f"not {parts[0]}" if tree.word == "not" else f" {tree.word} ".join(parts)
    return f"({text})" if level < inside else text


def holds(tree: Leaf | Branch, row: Row) -> bool:
    """The definition, one row at a time."""
    if isinstance(tree, Leaf):
        return tree.holds(row)
    found = [holds(part, row) for part in tree.parts]
    return {"and": all(found), "or": any(found), "not": not found[0]}[tree.word]


@given(TREES, ROWS)
@settings(max_examples=300, deadline=None)
def test_mask_is_the_definition(tree: Leaf | Branch, rows: list[Row]) -> None:
    text = rendered(tree)
    found = mask(parse(text), pl.DataFrame(rows, schema=TYPES).to_dict())
    assert found.tolist() == [holds(tree, row) for row in rows], text
