"""What the parser makes of each token and rule: the tree, from the inside out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal, cast

from lark import Token, Transformer

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
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|[\s\S])")
_ESCAPED: Final = {mark: mark for mark in "\"'`\\/"} | {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# The same comparison seen from its other side.
_TURNED: Final[Mapping[Symbol, Symbol]] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
# What other languages write, by the character that stops ours.
_OTHERS: Final = {"=": "'=='", "&": "'and'", "|": "'or'", "!": "'not' or '!='"}


class MistakeError(Exception):
    """A mistake at a position of a text that whoever finds it doesn't hold."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(problem)
        self.position = position


class TreeBuilder(Transformer[Token, Node]):
    """Makes each part of the tree as soon as its last token is read, from the inside out, so nothing recurses."""

    def NAME(self, token: Token) -> Name:  # noqa: N802 - lark calls it by the terminal's name
        """A word."""
        for place, character in enumerate(token):
            # Python's own notion of a word: letters and digits of any script, their marks, and _.
            if not (f"_{character}" if place else character).isidentifier():
                raise MistakeError(unexpected(character), start_of(token) + place)
        return Name(str(token), start_of(token))

    def QUOTED(self, token: Token) -> Name:  # noqa: N802
        """A name in back quotes."""
        return Name(_unquoted(token, start_of(token)), start_of(token))

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


def start_of(token: Token) -> int:
    """Return the position of a token's first character, counted from 0."""
    assert token.start_pos is not None, "the lexer places every token"
    return token.start_pos


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
        return Value(_unquoted(spelled, start), start)
    if spelled in ("true", "false"):
        return Value(spelled == "true", start)
    number = float(spelled)
    if not math.isfinite(number):
        raise MistakeError("expected a number below 1.8e308", start)
    # Twenty characters hold every whole number of 64 bits, which a float may not.
    exact = int(spelled) if len(spelled) <= 20 and spelled.lstrip("-").isdigit() else number
    fits = exact == int(exact) and -(2**63) <= exact < 2**63
    return Value(int(exact) if fits else number, start)


def _unquoted(spelled: str, start: int) -> str:
    """Return what stands between the quotes, its escapes resolved as JSON's are."""
    body = spelled[1:-1]
    if "\\" not in body:
        return str(body)

    def resolved(found: re.Match[str]) -> str:
        if len(found[1]) > 1:
            return chr(int(found[1][1:], 16))
        if found[1] not in _ESCAPED:
            problem = f"expected an escape of JSON after a backslash, found {found[1]!r}; a backslash itself is \\\\"
            raise MistakeError(problem, start + 1 + found.start())
        return _ESCAPED[found[1]]

    try:
        # Two escapes may be the halves of one character.
        return _ESCAPE.sub(resolved, body).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise MistakeError("expected Unicode, found an escape of half a character", start) from None


def unexpected(character: str) -> str:
    """Return what is wrong with a character that no token starts with, or no word holds."""
    if character in "\"'":
        return f"expected the text that starts here to end with {character}"
    if character == "`":
        return "expected the name that starts here to end with `"
    if character in _OTHERS:
        return f"expected {_OTHERS[character]}, found {character!r}"
    if character.isdigit() or character in "-.":
        return "expected a number, such as -1.5 or 2e3; a name that isn't a word stands in back quotes"
    return f"unexpected {character!r}: a text stands in quotes, a name that isn't a word in back quotes"
