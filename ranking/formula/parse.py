"""From the text of a formula to its steps."""

from __future__ import annotations

import functools
import math
from typing import Annotated, Final, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput
from pydantic import AfterValidator

from features.filters.errors import ExpressionError
from features.filters.spelling import MistakeError, start_of, syntax_mistake, unquoted, word
from infra.errors import unknown_name
from ranking.formula.functions import FUNCTIONS
from ranking.formula.grammar import GRAMMAR, OTHERS, expectation
from ranking.formula.steps import Apply, Formula, Load, Push, Step

# A formula is a line that a person wrote; one of this length takes 3 ms to read.
MAX_LENGTH: Final = 1_000


class FormulaError(ExpressionError):
    """The text is no formula, or names what the candidates lack."""

    language = "formula"


def parse(text: str) -> Formula:
    """Return a formula's steps.

    Raises:
        FormulaError: the text is none, or longer than MAX_LENGTH characters.
    """
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"expected at most {MAX_LENGTH} characters, found {len(text)}", text, MAX_LENGTH)
    return _parsed(text)


# What a service is asked repeats.
@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> Formula:
    try:
        return Formula(text, cast("tuple[Step, ...]", _parser().parse(text)))
    except UnexpectedInput as error:
        problem, position = syntax_mistake(error, text, expectation=expectation, others=OTHERS)
    except MistakeError as error:
        problem, position = str(error), error.position
    raise FormulaError(problem, text, position)


def _is_formula(text: str) -> str:
    parse(text)
    return text


# What is no formula is refused where a workspace is read; what columns there are is not known yet.
FormulaText = Annotated[str, AfterValidator(_is_formula)]


@functools.cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="basic", transformer=_Steps(), maybe_placeholders=False)


Steps = tuple[Step, ...]


class _Steps(Transformer[Token, Steps]):
    """Makes the steps of each part as soon as its last token is read, from the inside out, so nothing recurses."""

    def NUMBER(self, token: Token) -> Steps:  # noqa: N802 - lark calls it by the terminal's name
        """A constant."""
        number = float(token)
        if not math.isfinite(number):
            raise MistakeError("expected a number below 1.8e308", start_of(token))
        return (Push(number),)

    def name(self, parts: list[Token]) -> Steps:
        """A word that no parenthesis follows."""
        return (Load(word(parts[0], OTHERS), start_of(parts[0])),)

    def quoted(self, parts: list[Token]) -> Steps:
        """A name in back quotes."""
        return (Load(unquoted(parts[0], start_of(parts[0])), start_of(parts[0])),)

    def call(self, parts: list[Token | Steps]) -> Steps:
        """A function of one or more arguments."""
        token, *arguments = parts
        assert isinstance(token, Token), "the grammar begins a call with a name"
        name = word(token, OTHERS)
        if name not in FUNCTIONS:
            raise MistakeError(unknown_name("function", name, FUNCTIONS), start_of(token))
        least, most = FUNCTIONS[name].arguments
        if not least <= len(arguments) <= most:
            wanted = f"{least} argument{'s' if least > 1 else ''}" if least == most else f"at least {least} arguments"
            raise MistakeError(f"expected {wanted} of {name}, found {len(arguments)}", start_of(token))
        return (*_joined(arguments), Apply(name, len(arguments)))

    def add(self, parts: list[Steps]) -> Steps:
        """A sum."""
        return (*_joined(parts), Apply("+", 2))

    def subtract(self, parts: list[Steps]) -> Steps:
        """A difference."""
        return (*_joined(parts), Apply("-", 2))

    def multiply(self, parts: list[Steps]) -> Steps:
        """A product."""
        return (*_joined(parts), Apply("*", 2))

    def divide(self, parts: list[Steps]) -> Steps:
        """A quotient."""
        return (*_joined(parts), Apply("/", 2))

    def power(self, parts: list[Steps]) -> Steps:
        """A power."""
        return (*_joined(parts), Apply("**", 2))

    def negate(self, parts: list[Steps]) -> Steps:
        """What follows a minus sign."""
        return (*_joined(parts), Apply("negate", 1))


def _joined(parts: list[Token | Steps] | list[Steps]) -> Steps:
    return tuple(step for part in parts if not isinstance(part, Token) for step in part)
