"""The tree of a filter. Every `start` is the position of its first character in the text, counted from 0."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["number", "text", "true or false"]
Symbol = Literal["==", "!=", "<", "<=", ">", ">="]
# Made once: `json.dumps` would make an encoder for each value of a list.
_spelled: Final = json.JSONEncoder(ensure_ascii=False).encode
KEYWORDS: Final = frozenset({"and", "or", "not", "in", "is", "missing", "true", "false"})


@dataclass(frozen=True, slots=True)
class Name:
    """An attribute."""

    name: str
    start: int


@dataclass(frozen=True, slots=True)
class Value:
    """A constant; a number is an int where it is whole and fits 64 bits, else a finite float."""

    value: str | int | float | bool
    start: int

    @property
    def kind(self) -> Kind:
        """What the value is."""
        if isinstance(self.value, bool):
            return "true or false"
        return "text" if isinstance(self.value, str) else "number"


@dataclass(frozen=True, slots=True)
class Operator:
    """A sign of comparison."""

    symbol: Symbol
    start: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`name < 5`, which is also what `5 > name` is read as, or `name < other`."""

    name: Name
    operator: Operator
    other: Name | Value


@dataclass(frozen=True, slots=True)
class Membership:
    """`name in [...]`, or `name not in [...]` where negated."""

    name: Name
    values: tuple[Value, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """`name is missing`; `name is not missing` is its negation."""

    name: Name


@dataclass(frozen=True, slots=True)
class Flag:
    """A name that stands alone."""

    name: Name


@dataclass(frozen=True, slots=True)
class Negation:
    """`not part`."""

    part: Node


@dataclass(frozen=True, slots=True)
class Joined:
    """Two or more parts, none of them joined by the same word; `1 <= price < 5` is two comparisons joined by `and`."""

    word: Literal["and", "or"]
    parts: tuple[Node, ...]


Node = Comparison | Membership | Missing | Flag | Negation | Joined


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed filter: the text as it was given, and its tree."""

    text: str
    root: Node


def canonical(node: Node) -> str:
    """Return one text for all filters that differ only in spacing, quoting, parentheses, or the order of parts.

    It is a filter itself, and parses to the same meaning.
    """
    match node:
        case Joined(word, parts):
            return _joined(f" {word} ", (_closed(part) for part in parts))
        case Negation(part):
            return f"not {_closed(part)}"
        case Flag(name):
            return operand(name)
        case Missing(name):
            return f"{operand(name)} is missing"
        case Membership(name, values, negated):
            return f"{operand(name)} {'not ' if negated else ''}in [{_joined(', ', map(operand, values))}]"
        case Comparison(name, operator, other):
            return f"{operand(name)} {operator.symbol} {operand(other)}"


def _joined(between: str, parts: Iterable[str]) -> str:
    return between.join(sorted(set(parts)))


def _closed(node: Node) -> str:
    return f"({canonical(node)})" if isinstance(node, Joined) else canonical(node)


def operand(part: Name | Value) -> str:
    """Return how a name or a constant is spelled."""
    if isinstance(part, Value):
        # Python's shortest spelling of a number is a number of the language as well.
        return _spelled(part.value)
    if part.name.isidentifier() and part.name not in KEYWORDS:
        return part.name
    return "`" + _spelled(part.name)[1:-1].replace("`", "\\`") + "`"
