"""The grammar of filters, and how its errors name what it expects.

It stands here and not in a file of its own, as what the code of a step is hashed from is Python.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from features.filters.spelling import DIGITS, NAME, QUOTED, listed

# LALR(1). A list is one token, so that a thousand texts take 1.3 ms and not 8.8; value by value is read only one with a
# mistake in it, to find that.
GRAMMAR: Final = (
    r"""
?start: either
?either: both ("or" both)*
?both: condition ("and" condition)*
?condition: "(" either ")"
    | "not" condition               -> negated
    | operand (COMPARE operand)+    -> compared
    | name "in" values              -> among
    | name "not" "in" values        -> not_among
    | name "is" "missing"           -> missing
    | name "is" "not" "missing"     -> present
    | name                          -> flag
?operand: name | value
?name: NAME | QUOTED
?value: TEXT | NUMBER | TRUE | FALSE
?values: LIST
    | "[" [value ("," value)*] "]"  -> values

COMPARE: /[=!<>]=|[<>]/
TRUE: "true"
FALSE: "false"
TEXT: /"[^"\\]*(?:\\[\s\S][^"\\]*)*"|'[^'\\]*(?:\\[\s\S][^'\\]*)*'/
LIST: "[" SPACE? (_CONSTANT SPACE? ("," SPACE? _CONSTANT SPACE?)*)? "]"
_CONSTANT: TEXT | NUMBER | TRUE | FALSE
SPACE: /\s+/
%ignore SPACE
"""
    f"NAME: {NAME}\nQUOTED: {QUOTED}\nNUMBER: /-?{DIGITS}/\n"
)

# What lark calls a terminal -> what a person does, in the order in which an error lists them.
_WORDS: Final = {
    "LSQB": "a list, such as [1, 2]",
    "COMPARE": "a comparison (==, !=, <, <=, >, >=)",
    "IN": "'in'",
    "NOT": "'not'",
    "IS": "'is'",
    "MISSING": "'missing'",
    "AND": "'and'",
    "OR": "'or'",
    "COMMA": "','",
    "RPAR": "')'",
    "RSQB": "']'",
    "$END": "the end",
}
# What a condition, an operand and a value may start with; an error names the whole.
_WHOLES: Final = (
    ("a condition, such as price < 5", {"NAME", "QUOTED", "TEXT", "NUMBER", "TRUE", "FALSE", "NOT", "LPAR"}),
    ("a value or an attribute", {"NAME", "QUOTED", "TEXT", "NUMBER", "TRUE", "FALSE"}),
    ("a value", {"TEXT", "NUMBER", "TRUE", "FALSE"}),
)


def expectation(terminals: Collection[str]) -> str:
    """Return in words what a text may go on with, given the names of the terminals."""
    left, words = set(terminals), []
    for word, starts in _WHOLES:
        if starts <= left:
            words.append(word)
            left -= starts
    words += [word for terminal, word in _WORDS.items() if terminal in left]
    return listed(words)
