"""Questions and answers: each distinct answer is an item, each question a text that names the one that answers it.

Held out are one question in five, by a hash, and every question of one answer in twenty: the first ask whether a new
wording finds its answer, the others whether an answer is found that training never saw. The rows of one question stay
together, whichever answers they name. Answers that differ in case, punctuation or spacing alone are one item, named by
the first of them, because nothing could tell them apart.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from features.datasets.dataset import TITLE
from features.datasets.text_sets import hold_out_validation, text_key, texts_table
from features.findings import Action, Finding
from features.schema import ITEM_ID, KIND
from features.splits import held_out_ids
from features.tables import TEST, TEXTS_TABLE, TRAIN

# Of the rows that this module takes.
QUESTION: Final = "question"
ANSWER_TEXT: Final = "answer_text"
FAQ_CLASS: Final = "faq_class"
# The texts' label: the `item_id` that answers.
ANSWER: Final = "answer"
ANSWER_KIND: Final = "answer"

_QUESTION_KEY: Final = "__question__"
_ANSWER_KEY: Final = "__answer__"
_HELD: Final = "__held__"
_QUESTIONS_HELD_IN: Final = 5
_ANSWERS_HELD_IN: Final = 20
# A title is shown, not read: as much of the answer as fits, up to a space.
_TITLE_CHARACTERS: Final = 80
_TITLE: Final = rf"(?s)^(.{{1,{_TITLE_CHARACTERS}}})(?:\s|$)"


def answered_questions(name: str, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...]]:
    """Return a set's questions as texts, its answers as items, and what was merged.

    Args:
        name: the set's.
        rows: `question`, `answer_text`, `faq_class` and the answer's `item_id`; of one answer under several ids, that
            of its first row is taken.

    Returns:
        Texts with the label columns `answer` and `faq_class`; items `item_id`, `kind`, `title`, `answer_text`,
        `faq_class`; the findings.
    """
    keyed = rows.with_columns(
        text_key(QUESTION).alias(_QUESTION_KEY),
        text_key(ANSWER_TEXT).alias(_ANSWER_KEY),
    ).with_columns(pl.col(ITEM_ID).first().over(_ANSWER_KEY))
    pairs = keyed.unique([_QUESTION_KEY, _ANSWER_KEY], keep="first", maintain_order=True)
    several = pairs.filter(pl.len().over(_QUESTION_KEY) > 1)
    findings = (
        _finding("repeated_question", "merge", keyed.height - pairs.height, f"a question of {name} once for an answer"),
        _finding("several_answers", "assume", several.height, f"one answer to a question of {name}"),
    )
    split = pl.when(pl.lit(_held_out(pairs))).then(pl.lit(TEST)).otherwise(pl.lit(TRAIN))
    texts = texts_table(name, pairs, QUESTION, split, pl.col(ITEM_ID).alias(ANSWER), pl.col(FAQ_CLASS))
    return hold_out_validation(texts), _items(keyed), findings


def _held_out(pairs: pl.DataFrame) -> pl.Series:
    """Return which rows are test, bool `[n]`: a question goes whole, for its own sake or for one of its answers'."""
    # The prefixes make the two draws, and that of validation texts, independent of each other.
    question = _drawn("question", pairs[_QUESTION_KEY], _QUESTIONS_HELD_IN)
    answer = _drawn("answer", pairs[_ANSWER_KEY], _ANSWERS_HELD_IN)
    drawn = pairs.select(_QUESTION_KEY, (question | answer).alias(_HELD))
    return drawn.select(pl.col(_HELD).any().over(_QUESTION_KEY)).to_series()


def _drawn(draw: str, keys: pl.Series, one_in: int) -> pl.Series:
    return pl.Series(held_out_ids(draw + " " + keys, one_in))


def _items(keyed: pl.DataFrame) -> pl.DataFrame:
    answer = pl.col(ANSWER_TEXT)
    short = pl.coalesce(answer.str.extract(_TITLE), answer.str.slice(0, _TITLE_CHARACTERS))
    return keyed.unique(_ANSWER_KEY, keep="first", maintain_order=True).select(
        ITEM_ID, pl.lit(ANSWER_KIND).alias(KIND), short.alias(TITLE), ANSWER_TEXT, FAQ_CLASS
    )


def _finding(rule: str, action: Action, count: int, expected: str) -> Finding:
    found = f"{count:,} rows otherwise" if count else ""
    return Finding(
        table=TEXTS_TABLE, column=QUESTION, rule=rule, action=action, count=count, expected=expected, found=found
    )
