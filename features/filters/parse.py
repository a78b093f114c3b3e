"""From the text of a filter to its tree, in time linear in its length."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final, cast

from lark import Lark, Token
from lark.exceptions import UnexpectedInput
from lark.lark import PostLex

from features.filters.builder import MAX_VALUES, OTHERS, TreeBuilder
from features.filters.errors import FilterError
from features.filters.grammar import GRAMMAR, expectation
from features.filters.spelling import MistakeError, start_of, syntax_mistake
from features.filters.tree import KEYWORDS, Expression, Node

# Bounds on what one text may ask, beside MAX_VALUES: each attribute named costs a pass over its column, .1 to 1 ms for
# 100,000 items.
MAX_LENGTH: Final = 200_000
MAX_DEPTH: Final = 32
MAX_NAMES: Final = 500

_VALUES: Final = frozenset({"TEXT", "NUMBER", "TRUE", "FALSE"})
_NAMES: Final = frozenset({"NAME", "QUOTED"})
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def parse(text: str) -> Expression:
    """Return the tree of a filter.

    Raises:
        FilterError: the text is none, or asks for more than the bounds above.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"expected at most {MAX_LENGTH} characters, found {len(text)}", text, MAX_LENGTH)
    lone = _SURROGATE.search(text)
    if lone is not None:
        raise FilterError(f"expected Unicode, found half a character, {lone[0]!r}", text, lone.start())
    try:
        # The transformer makes the tree while parsing, so that what comes back is its root.
        return Expression(text, cast("Node", _parser().parse(text)))
    except UnexpectedInput as error:
        problem, position = syntax_mistake(error, text, expectation=expectation, others=OTHERS, keywords=KEYWORDS)
    except MistakeError as error:
        problem, position = str(error), error.position
    raise FilterError(problem, text, position)


@functools.cache
def _parser() -> Lark:
    return Lark(
        GRAMMAR, parser="lalr", lexer="basic", transformer=TreeBuilder(), postlex=_Bounds(), maybe_placeholders=False
    )


class _Bounds(PostLex):
    """Counts what a text holds while it is read, and stops at the first token too many."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """Yield the tokens."""
        # Levels of each open parenthesis (its own and those of `not` before it), and of `not` just before this token.
        opened: list[int] = []
        nots = depth = names = values = 0
        for token in stream:
            names += token.type in _NAMES
            values += token.type in _VALUES
            if token.type == "LPAR":
                opened.append(nots + 1)
            elif token.type == "RPAR" and opened:
                depth -= opened.pop()
            nots = nots + 1 if token.type == "NOT" else 0
            depth += opened[-1] if token.type == "LPAR" else 0
            if depth + nots > MAX_DEPTH:
                raise _too_many(f"{MAX_DEPTH} levels of parentheses and 'not'", token)
            if names > MAX_NAMES:
                raise _too_many(f"{MAX_NAMES} attributes", token)
            if values > MAX_VALUES:
                raise _too_many(f"{MAX_VALUES} values", token)
            yield token


def _too_many(what: str, token: Token) -> MistakeError:
    return MistakeError(f"expected at most {what}, found more", start_of(token))
