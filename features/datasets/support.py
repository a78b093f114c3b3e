"""Customer service: intents, out-of-scope questions, and the answer to a question, from published sets of texts.

| set | label columns | split |
|---|---|---|
| BANKING77 (Casanueva et al., 2020) | `banking_intent` | as given |
| CLINC150 (Larson et al., 2019) | `clinc_intent`, `domain`, `in_scope` | as given, validation too |
| bank FAQ | `faq_class`, `answer` | by hashes: see `features.datasets.answers` |
| SMP2017-ECDT (Zhang et al., 2017), Chinese | `zh_intent` | stratified 80/20, seed 0 |

Each set has label columns of its own, so that each is a task of its own; they are null in the other sets' rows. Only
`in_scope` is everybody's: an out-of-scope question of CLINC150 has 0 and neither intent nor domain, and the texts of
every other set have 1, since somebody here has an answer to them. The answers are the items; there are no users and no
events.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import polars as pl

from features.datasets.answers import ANSWER_TEXT, FAQ_CLASS, QUESTION, answered_questions
from features.datasets.help_desk import HELP_DESK, read_help_desk
from features.datasets.text_sets import (
    SAMPLES,
    TextSet,
    TextSetsConfig,
    hold_out_validation,
    join_sets,
    stratified_split,
    texts_table,
)
from features.findings import Finding
from features.schema import ITEM_ID
from features.tables import ITEMS_TABLE, TEST, TEXTS_TABLE, TRAIN, VALIDATION, Tables, no_items

BANKING_INTENT: Final = "banking_intent"
CLINC_INTENT: Final = "clinc_intent"
DOMAIN: Final = "domain"
IN_SCOPE: Final = "in_scope"
ZH_INTENT: Final = "zh_intent"

BANKING77: Final = TextSet(
    name="banking77",
    title="BANKING77",
    file="banking77.parquet",
    columns=("text", "category", "split"),
    origin="https://github.com/PolyAI-LDN/task-specific-datasets",
    licence="CC BY 4.0",
)
CLINC150: Final = TextSet(
    name="clinc150",
    title="CLINC150",
    file="clinc150.parquet",
    columns=("text", "intent", "domain", "split"),
    origin="https://github.com/clinc/oos-eval",
    licence="CC BY 3.0",
)
BANK_FAQ: Final = TextSet(
    name="bank_faq",
    title="the bank FAQ",
    file="bank_faq.parquet",
    columns=("Question", "Answer", "Class"),
    origin="copies of BankFAQs.csv, the FAQ pages of an Indian bank, in public repositories",
    licence="none stated",
)
SMP2017: Final = TextSet(
    name="smp2017",
    title="SMP2017-ECDT task 1 (Chinese utterances)",
    file="smp2017.parquet",
    columns=("text", "intent"),
    origin="https://arxiv.org/abs/1709.10217",
    licence="none stated",
)
# CLINC150 keeps its out-of-scope questions in parts of their own.
_CLINC_PARTS: Final = {
    "train": TRAIN, "oos_train": TRAIN,
    "val": VALIDATION, "oos_val": VALIDATION,
    "test": TEST, "oos_test": TEST,
}  # fmt: skip
_OUT_OF_SCOPE: Final = "oos"


class SupportConfig(TextSetsConfig):
    """Which sets, each by its folder; a relative path is taken from the workspace.

    Without any folder, the shipped sample is read: excerpts of BANKING77 and CLINC150, and a help desk's questions and
    answers that were written for this project.

    Attributes:
        banking77: holds `banking77.parquet` (text, category, split).
        clinc150: holds `clinc150.parquet` (text, intent, domain, split).
        bank_faq: holds `bank_faq.parquet` (Question, Answer, Class).
        smp2017: holds `smp2017.parquet` (text, intent).
    """

    type: Literal["support"] = "support"
    banking77: Path | None = None
    clinc150: Path | None = None
    bank_faq: Path | None = None
    smp2017: Path | None = None

    @property
    def declared(self) -> frozenset[str]:
        """Names of the tables that the source has: items are answers."""
        return frozenset({TEXTS_TABLE, ITEMS_TABLE} if self.is_sample or self.bank_faq else {TEXTS_TABLE})


def read_support(config: SupportConfig, base: Path) -> tuple[Tables, tuple[Finding, ...]]:
    """Return texts and, where there are answers, items, not yet validated; and what was left out.

    Args:
        config: which sets.
        base: folder that relative paths start from.

    Raises:
        DatasetMissingError: a folder lacks its set's file.
        DatasetShapeError: a file isn't what this adapter reads.
    """
    readers = {BANKING77.name: _banking, CLINC150.name: _clinc, SMP2017.name: _smp}
    folders = dict.fromkeys((BANKING77.name, CLINC150.name), SAMPLES) if config.is_sample else config.given
    parts = [readers[name](base / folder) for name, folder in folders.items() if name in readers]
    items = no_items()
    notes: tuple[Finding, ...] = ()
    answered = _answered(config, base)
    if answered is not None:
        asked, items, notes = answered
        parts.append(asked)
    texts, copies = join_sets(parts)
    if IN_SCOPE in texts.columns:
        texts = texts.with_columns(pl.col(IN_SCOPE).fill_null(1))
    return Tables(items=items, texts=texts), (*notes, copies)


def _answered(config: SupportConfig, base: Path) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...]] | None:
    """Return questions, answers and findings of the set that has answers, if it is read."""
    if config.is_sample:
        return answered_questions(HELP_DESK, read_help_desk())
    if config.bank_faq is not None:
        return answered_questions(BANK_FAQ.name, _bank_faq(base / config.bank_faq))
    return None


def _banking(folder: Path) -> pl.DataFrame:
    rows = BANKING77.read(folder)
    intent = pl.col("category").alias(BANKING_INTENT)
    return hold_out_validation(texts_table(BANKING77.name, rows, "text", pl.col("split"), intent))


def _clinc(folder: Path) -> pl.DataFrame:
    in_scope = pl.col("intent") != _OUT_OF_SCOPE
    return texts_table(
        CLINC150.name,
        CLINC150.read(folder),
        "text",
        # A part of another name is for validation to refuse.
        pl.col("split").replace(_CLINC_PARTS),
        pl.when(in_scope).then("intent").alias(CLINC_INTENT),
        pl.when(in_scope).then("domain").alias(DOMAIN),
        in_scope.cast(pl.Int8).alias(IN_SCOPE),
    )


def _smp(folder: Path) -> pl.DataFrame:
    rows = SMP2017.read(folder)
    split = pl.lit(stratified_split(rows, "intent", SMP2017.title))
    return hold_out_validation(texts_table(SMP2017.name, rows, "text", split, pl.col("intent").alias(ZH_INTENT)))


def _bank_faq(folder: Path) -> pl.DataFrame:
    """Return the rows as `answered_questions` takes them; an answer is numbered by its first row."""
    return BANK_FAQ.read(folder).select(
        pl.format("bank_faq-answer-{}", pl.int_range(pl.len())).alias(ITEM_ID),
        pl.col("Question").str.strip_chars().alias(QUESTION),
        pl.col("Answer").str.strip_chars().alias(ANSWER_TEXT),
        pl.col("Class").alias(FAQ_CLASS),
    )
