"""The grammar of formulas, and how its errors name what it expects."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from features.filters.spelling import DIGITS, NAME, QUOTED, listed

# LALR(1), with the precedence of Python: `-2 ** 2` is -4, `2 ** 3 ** 2` is 512, `2 ** -1` is one half.
GRAMMAR: Final = (
    r"""
?start: sum
?sum: product
    | sum "+" product                   -> add
    | sum "-" product                   -> subtract
?product: signed
    | product "*" signed                -> multiply
    | product "/" signed                -> divide
?signed: power
    | "-" signed                        -> negate
?power: atom
    | atom "**" signed                  -> power
?atom: NUMBER
    | NAME                              -> name
    | QUOTED                            -> quoted
    | NAME "(" sum ("," sum)* ")"       -> call
    | "(" sum ")"

SPACE: /\s+/
%ignore SPACE
"""
    f"NAME: {NAME}\nQUOTED: {QUOTED}\nNUMBER: /{DIGITS}/\n"
)
# What other languages write, by the character that stops ours.
OTHERS: Final = {"^": "'**'", '"': "a number or a name", "'": "a number or a name", "%": "an operator (+, -, *, /, **)"}

_OPERATORS: Final = frozenset({"PLUS", "MINUS", "STAR", "SLASH", "__ANON_0"})
_OPERAND: Final = frozenset({"NUMBER", "NAME", "QUOTED", "MINUS", "LPAR"})
# A parenthesis may follow any word, but is rarely what lacks.
_WORDS: Final = {"COMMA": "','", "RPAR": "')'", "$END": "the end"}


def expectation(terminals: Collection[str]) -> str:
    """Return in words what a text may go on with, given the names of the terminals."""
    left, words = set(terminals), []
    if left >= _OPERAND:
        words.append("a number or a name")
        left -= _OPERAND
    if left & _OPERATORS:
        words.append("an operator (+, -, *, /, **)")
    words += [spelled for terminal, spelled in _WORDS.items() if terminal in left]
    return listed(words)
