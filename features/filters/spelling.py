"""How names, texts and numbers are spelled in filters and formulas, and what is said of a text that is neither."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, cast

from lark import Token, UnexpectedCharacters, UnexpectedToken
from lark.exceptions import UnexpectedInput

# A text or name in quotes is read without backtracking: what may follow a character never overlaps. A word may hold any
# character that isn't ASCII punctuation, and is looked at once more (`word`): regular expressions don't know the
# combining marks that words of many scripts are spelled with.
NAME: Final = r"/[^\s0-9!-\/:-@\[-^`{-~][^\s!-\/:-@\[-^`{-~]*/"
QUOTED: Final = r"/`[^`\\]*(?:\\[\s\S][^`\\]*)*`/"
# Without a sign.
DIGITS: Final = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])"

_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|[\s\S])")
_ESCAPED: Final = {mark: mark for mark in "\"'`\\/"} | {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SHOWN: Final = 40


class MistakeError(Exception):
    """A mistake at a position of a text that whoever finds it doesn't hold."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(problem)
        self.position = position


def start_of(token: Token) -> int:
    """Return the position of a token's first character, counted from 0."""
    assert token.start_pos is not None, "the lexer places every token"
    return token.start_pos


def word(token: Token, others: Mapping[str, str]) -> str:
    """Return a word, if it is one by Python's notion: letters and digits of any script, their marks, and _.

    Args:
        token: the token.
        others: as for `unexpected`.

    Raises:
        MistakeError: it isn't.
    """
    for place, character in enumerate(token):
        if not (f"_{character}" if place else character).isidentifier():
            raise MistakeError(unexpected(character, others), start_of(token) + place)
    return str(token)


def unquoted(spelled: str, start: int) -> str:
    """Return what stands between the quotes, its escapes resolved as JSON's are.

    Args:
        spelled: the token.
        start: its position in the text.

    Raises:
        MistakeError: an escape is none.
    """
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


def unexpected(character: str, others: Mapping[str, str]) -> str:
    """Return what is wrong with a character that no token starts with, or no word holds.

    Args:
        character: that one.
        others: character -> what ours is for what other languages write so.
    """
    if character in others:
        return f"expected {others[character]}, found {character!r}"
    if character in "\"'":
        return f"expected the text that starts here to end with {character}"
    if character == "`":
        return "expected the name that starts here to end with `"
    if character.isdigit() or character in "-.":
        return "expected a number, such as -1.5 or 2e3; a name that isn't a word stands in back quotes"
    return f"unexpected {character!r}: a text stands in quotes, a name that isn't a word in back quotes"


def syntax_mistake(
    error: UnexpectedInput,
    text: str,
    *,
    expectation: Callable[[Collection[str]], str],
    others: Mapping[str, str],
    keywords: Collection[str] = (),
) -> tuple[str, int]:
    """Return what is wrong with a text that a grammar doesn't know, and where.

    Args:
        error: of the parser.
        text: what was parsed.
        expectation: from the names of terminals that may follow to words.
        others: as for `unexpected`.
        keywords: in lower case, as the grammar has them.
    """
    if isinstance(error, UnexpectedCharacters):
        # lark's annotation of the position is of the class's default, None.
        return unexpected(error.char, others), cast("int", error.pos_in_stream)
    assert isinstance(error, UnexpectedToken), "a LALR parser raises no other"
    expected, token = expectation(error.accepts), error.token
    if token.type == "$END":
        return f"expected {expected}, found the end", len(text.rstrip())
    found = token if len(token) <= _SHOWN else token[:_SHOWN] + "…"
    found = found if token.type in ("TEXT", "QUOTED") else f"'{found}'"
    hint = f"; did you mean {token.lower()!r}?" if token.type == "NAME" and token.lower() in keywords else ""
    return f"expected {expected}, found {found}{hint}", start_of(token)


def listed(words: Collection[str]) -> str:
    """Return "a, b or c"."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
