"""What the parser makes of each token and rule: the tree, from the inside out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal, cast

from lark import Token, Transformer

from features.filters.spelling import MistakeError, start_of, unquoted, word
from features.filters.tree import (
    Comparison,
    Flag,
    Joined,
    Membership,
    Missing,
    Name,
    Negation,
    Node,
    Operator,
    Symbol,
    Value,
)

# A thousand brands in one list is real, more than ten thousand values is not.
MAX_VALUES: Final = 10_000

# The values of a list, which its token has shown to be well-formed.
_LISTED: Final = re.compile(r""""[^"\\]*(?:\\[\s\S][^"\\]*)*"|'[^'\\]*(?:\\[\s\S][^'\\]*)*'|[^\s,\[\]]+""")
# What other languages write, by the character that stops ours.
OTHERS: Final = {"=": "'=='", "&": "'and'", "|": "'or'", "!": "'not' or '!='"}
# The same comparison seen from its other side.
_TURNED: Final[Mapping[Symbol, Symbol]] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class TreeBuilder(Transformer[Token, Node]):
    """Makes each part of the tree as soon as its last token is read, from the inside out, so nothing recurses."""

    def NAME(self, token: Token) -> Name:  # noqa: N802 - lark calls it by the terminal's name
        """A word."""
        return Name(word(token, OTHERS), start_of(token))

    def QUOTED(self, token: Token) -> Name:  # noqa: N802
        """A name in back quotes."""
        return Name(unquoted(token, start_of(token)), start_of(token))

    def TEXT(self, token: Token) -> Value:  # noqa: N802
        """A value, of whatever kind."""
        return _value(token, start_of(token))

    NUMBER = TRUE = FALSE = TEXT

    def LIST(self, token: Token) -> tuple[Value, ...]:  # noqa: N802
        """A well-formed list."""
        start = start_of(token)
        return self.values([_value(found[0], start + found.start()) for found in _LISTED.finditer(token)])

    def COMPARE(self, token: Token) -> Operator:  # noqa: N802
        """A sign between two operands."""
        return Operator(cast("Symbol", str(token)), start_of(token))

    def either(self, parts: list[Node]) -> Node:
        """Two or more parts with `or` between them."""
        return _joined("or", parts)

    def both(self, parts: list[Node]) -> Node:
        """Two or more parts with `and` between them."""
        return _joined("and", parts)

    def negated(self, parts: list[Node]) -> Node:
        """What follows `not`."""
        return Negation(parts[0])

    def compared(self, parts: list[Name | Value | Operator]) -> Node:
        """Operands and the signs between them, in turn."""
        pairs = [_comparison(*parts[place : place + 3]) for place in range(0, len(parts) - 1, 2)]
        return pairs[0] if len(pairs) == 1 else Joined("and", tuple(pairs))

    def values(self, parts: list[Value]) -> tuple[Value, ...]:
        """A list read value by value."""
        if len(parts) > MAX_VALUES:
            problem = f"expected a list of at most {MAX_VALUES} values, found {len(parts)}"
            raise MistakeError(problem, parts[MAX_VALUES].start)
        return tuple(parts)

    def among(self, parts: tuple[Name, tuple[Value, ...]]) -> Node:
        """A name and the list that it is to be in."""
        return Membership(*parts, negated=False)

    def not_among(self, parts: tuple[Name, tuple[Value, ...]]) -> Node:
        """A name and the list that it is not to be in."""
        return Membership(*parts, negated=True)

    def missing(self, parts: list[Name]) -> Node:
        """The name before `is missing`."""
        return Missing(parts[0])

    def present(self, parts: list[Name]) -> Node:
        """The name before `is not missing`."""
        return Negation(Missing(parts[0]))

    def flag(self, parts: list[Name]) -> Node:
        """A name alone."""
        return Flag(parts[0])


def _joined(word: Literal["and", "or"], parts: list[Node]) -> Node:
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Joined) and part.word == word else [part])
    return Joined(word, tuple(flat))


def _comparison(left: Name | Value | Operator, sign: Name | Value | Operator, right: Name | Value | Operator) -> Node:
    assert isinstance(sign, Operator), "the grammar alternates operands and signs"
    assert not isinstance(left, Operator)
    assert not isinstance(right, Operator)
    if isinstance(left, Name):
        return Comparison(left, sign, right)
    if isinstance(right, Value):
        raise MistakeError("expected an attribute on one side of each comparison, found two values", right.start)
    return Comparison(right, Operator(_TURNED[sign.symbol], sign.start), left)


def _value(spelled: str, start: int) -> Value:
    """Return the value that a token, or an entry of a list, spells at a position."""
    if spelled[0] in "\"'":
        return Value(unquoted(spelled, start), start)
    if spelled in ("true", "false"):
        return Value(spelled == "true", start)
    number = float(spelled)
    if not math.isfinite(number):
        raise MistakeError("expected a number below 1.8e308", start)
    # Twenty characters hold every whole number of 64 bits, which a float may not.
    exact = int(spelled) if len(spelled) <= 20 and spelled.lstrip("-").isdigit() else number
    fits = exact == int(exact) and -(2**63) <= exact < 2**63
    return Value(int(exact) if fits else number, start)
