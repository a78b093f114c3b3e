from __future__ import annotations

import polars as pl
import pytest

from features.datasets.answers import answered_questions
from features.schema import SPLIT
from features.tables import TEST, VALIDATION

SCHEMA = ["item_id", "question", "answer_text", "faq_class"]


def test_questions_name_the_item_that_answers_them() -> None:
    rows = pl.DataFrame(
        [
            ("a-0", "Lost card?", "Block it.", "cards"),
            ("a-1", "lost  card", "block it", "cards"),  # the same question and the same answer, spelled otherwise
            ("a-2", "My card is gone", "BLOCK IT!", "cards"),  # another question of that answer
            ("a-3", "Lost card?", "Call us.", "cards"),  # another answer to that question
            ("a-4", "Any fee?", "None.", "fees"),
        ],
        schema=SCHEMA,
        orient="row",
    )
    texts, items, findings = answered_questions("faq", rows)
    assert texts.drop(SPLIT).rows() == [
        ("faq-0", "Lost card?", "faq", "a-0", "cards"),
        ("faq-1", "My card is gone", "faq", "a-0", "cards"),
        ("faq-2", "Lost card?", "faq", "a-3", "cards"),
        ("faq-3", "Any fee?", "faq", "a-4", "fees"),
    ]
    assert items.rows() == [
        ("a-0", "answer", "Block it.", "Block it.", "cards"),
        ("a-3", "answer", "Call us.", "Call us.", "cards"),
        ("a-4", "answer", "None.", "None.", "fees"),
    ]
    # One row merged; two rows (a-0 and a-3) share the question that has two answers.
    assert [(f.rule, f.action, f.count) for f in findings] == [
        ("repeated_question", "merge", 1),
        ("several_answers", "assume", 2),
    ]


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        # 78 letters, a space and 7 letters: the whole would be 86 long, so it ends at the space.
        ("a" * 78 + " " + "b" * 7, "a" * 78),
        ("一" * 100, "一" * 80),  # no space to end at
        ("one\ntwo", "one\ntwo"),
    ],
)
def test_a_title_ends_at_a_space(answer: str, title: str) -> None:
    rows = pl.DataFrame([("a", "q", answer, "c")], schema=SCHEMA, orient="row")
    assert answered_questions("faq", rows)[1]["title"].to_list() == [title]


def test_questions_are_held_out_whole_and_some_answers_with_all_of_theirs() -> None:
    # 400 answers of 5 questions; besides, question 0 of each even answer is asked of the next answer too.
    own = [(f"a-{a}", f"question {q} of {a}", f"answer {a}", "c") for a in range(400) for q in range(5)]
    shared = [(f"a-{a + 1}", f"question 0 of {a}", f"answer {a + 1}", "c") for a in range(0, 400, 2)]
    texts, _, _ = answered_questions("faq", pl.DataFrame([*own, *shared], schema=SCHEMA, orient="row"))
    by_question = texts.group_by("text").agg(pl.col(SPLIT).n_unique())
    assert by_question[SPLIT].max() == 1
    tested = texts.filter(pl.col(SPLIT) == TEST)
    counts = tested["answer"].value_counts()
    answers = texts["answer"].value_counts().rename({"count": "all"}).join(counts, on="answer", how="left")
    unseen = answers.filter(pl.col("count") == pl.col("all")).height
    # 1 in 20 of 400 answers is 20, standard deviation sqrt(400 * .05 * .95) = 4.4; by the questions' own draws alone
    # all 5 are held out in 400 * .2 ** 5 = 0.1 answers.
    assert 8 <= unseen <= 33
    # 1 in 5 questions, and those of 1 in 20 answers: 1 - .8 * .95 = 24% (a shared question goes with either answer,
    # 1 - .8 * .95 ** 2 = 27.8%).
    assert 0.2 < tested.height / texts.height < 0.3
    # One in ten of the remaining 76%, a draw of its own.
    assert 0.05 < texts[SPLIT].eq(VALIDATION).mean() < 0.1
