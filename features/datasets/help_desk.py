"""A bank's help desk, written for this project: questions, their answers, and reply templates by intent.

It stands in for data of one's own, so that intents, answer retrieval and replies can be tried at once. No bank's terms
are meant by it.
"""

from __future__ import annotations

import string
from typing import Final

import polars as pl

from features.datasets.answers import ANSWER_TEXT, FAQ_CLASS, QUESTION
from features.datasets.text_sets import SAMPLES
from features.schema import ITEM_ID

HELP_DESK: Final = "help_desk"
# Of the reply templates: the intent they answer (a `banking_intent`), the text with slots, and the slots' names.
INTENT: Final = "intent"
REPLY: Final = "reply"
SLOTS: Final = "slots"


def read_help_desk() -> pl.DataFrame:
    """Return one row a question: `item_id` of its answer, `question`, `answer_text`, `faq_class`."""
    answers = pl.read_csv(SAMPLES / "help_desk_answers.csv")
    questions = pl.read_csv(SAMPLES / "help_desk_questions.csv")
    joined = questions.join(answers, on=ITEM_ID, how="left", maintain_order="left")
    return joined.select(ITEM_ID, QUESTION, ANSWER_TEXT, FAQ_CLASS)


def reply_templates() -> pl.DataFrame:
    """Return a reply to each intent of the sample: `intent`, `reply` with `{slots}`, and `slots`, their names."""
    replies = pl.read_csv(SAMPLES / "help_desk_replies.csv")
    slots = [[name for _, name, _, _ in string.Formatter().parse(reply) if name] for reply in replies[REPLY]]
    return replies.with_columns(pl.Series(SLOTS, slots, dtype=pl.List(pl.String)))
