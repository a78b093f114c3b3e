from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.datasets.dataset import DatasetMissingError, DatasetShapeError
from features.datasets.help_desk import read_help_desk, reply_templates
from features.datasets.support import SupportConfig, read_support
from features.schema import SPLIT, TEXT, TEXT_ID
from features.sources import load
from features.tables import TEST, TRAIN
from features.validate import InvalidTablesError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def parts(texts: pl.DataFrame, dataset: str) -> dict[str, int]:
    return dict(texts.filter(dataset=dataset)[SPLIT].value_counts().rows())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frames = {
        "banking77": pl.DataFrame(
            [("\nWhere is my card?", "card_arrival", TRAIN), ("Top up failed", "top_up_failed", TEST)],
            schema=["text", "category", "split"],
            orient="row",
        ),
        "clinc150": pl.DataFrame(
            [
                ("pay my bill", "pay_bill", "banking", "train"),
                ("pay this bill", "pay_bill", "banking", "val"),
                ("pay that bill", "pay_bill", "banking", "test"),
                ("who won", "oos", "oos", "oos_train"),
                ("who lost", "oos", "oos", "oos_val"),
                ("who cares", "oos", "oos", "oos_test"),
            ],
            schema=["text", "intent", "domain", "split"],
            orient="row",
        ),
        "bank_faq": pl.DataFrame(
            [("Lost card?", "Block it.", "cards"), ("Card gone?", "Block it.", "cards"), ("Fees?", "None.", "fees")],
            schema=["Question", "Answer", "Class"],
            orient="row",
        ),
        "smp2017": pl.DataFrame(
            {"text": [f"打开{n}" for n in range(10)], "intent": ["app"] * 5 + ["chat"] * 5},
        ),
    }
    for name, frame in frames.items():
        frame.write_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_each_set_has_label_columns_of_its_own(folder: Path) -> None:
    here = Path()
    config = SupportConfig(banking77=here, clinc150=here, bank_faq=here, smp2017=here)
    tables, report = load(config, folder, NOW)
    assert report.dropped == 0
    labels = ("banking_intent", "clinc_intent", "domain", "in_scope", "answer", "faq_class", "zh_intent")
    rows = {row[0]: row[1:] for row in tables.texts.select(TEXT_ID, TEXT, *labels).rows()}
    assert rows["banking77-0"] == ("Where is my card?", "card_arrival", None, None, 1, None, None, None)
    assert rows["clinc150-0"] == ("pay my bill", None, "pay_bill", "banking", 1, None, None, None)
    assert rows["clinc150-3"] == ("who won", None, None, None, 0, None, None, None)
    assert rows["bank_faq-1"] == ("Card gone?", None, None, None, 1, "bank_faq-answer-0", "cards", None)
    assert rows["smp2017-9"] == ("打开9", None, None, None, 1, None, None, "chat")
    assert tables.items["item_id"].to_list() == ["bank_faq-answer-0", "bank_faq-answer-2"]
    assert tables.users.is_empty()
    assert tables.events.is_empty()


def test_given_parts_keep_their_rows(folder: Path) -> None:
    tables, _ = load(SupportConfig(clinc150=folder, smp2017=folder), Path(), NOW)
    clinc = tables.texts.filter(dataset="clinc150")
    assert clinc[SPLIT].to_list() == ["train", "validation", "test", "train", "validation", "test"]
    # A fifth of 10 rows of two classes alike: one of each.
    smp = tables.texts.filter(pl.col(SPLIT) == TEST, dataset="smp2017")
    assert sorted(smp["zh_intent"]) == ["app", "chat"]
    assert tables.items.is_empty()
    assert "answer" not in tables.texts.columns


def test_without_anything_out_of_scope_nothing_says_what_is_in_it(folder: Path) -> None:
    tables, _ = load(SupportConfig(banking77=folder, smp2017=folder), Path(), NOW)
    assert "in_scope" not in tables.texts.columns


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("banking77", "CC BY 4.0"),
        ("clinc150", "CC BY 3.0"),
        ("bank_faq", "none stated"),
        ("smp2017", "none stated"),
    ],
)
def test_an_absent_set_says_where_it_comes_from(tmp_path: Path, name: str, licence: str) -> None:
    config = SupportConfig.model_validate({name: "absent"})
    with pytest.raises(DatasetMissingError, match=rf"at {tmp_path}/absent/{name}\.parquet.*licence: {licence}"):
        read_support(config, tmp_path)


def test_a_file_of_other_columns_says_what_it_has(folder: Path) -> None:
    pl.DataFrame({"text": ["hello"], "label": [3]}).write_parquet(folder / "banking77.parquet")
    with pytest.raises(DatasetShapeError, match="expected columns text, category, split, found text, label without"):
        read_support(SupportConfig(banking77=folder), Path())


def test_a_part_of_another_name_fails_at_the_door(folder: Path) -> None:
    pl.DataFrame({"text": ["a"], "category": ["b"], "split": ["dev"]}).write_parquet(folder / "banking77.parquet")
    with pytest.raises(InvalidTablesError, match=r"texts\.split: unknown_split"):
        load(SupportConfig(banking77=folder), Path(), NOW)


def test_the_sample_needs_no_folder() -> None:
    tables, report = load(SupportConfig(), Path(), NOW)
    assert report.dropped == 0
    texts = tables.texts
    # 12 intents of 20 + 5; 12 of 6 + 2 + 2 and 60 + 20 + 20 out of scope; 30 answers of 97 questions: ATTRIBUTION.md.
    assert sum(parts(texts, "banking77").values()) == 300
    assert parts(texts, "banking77")[TEST] == 60
    assert texts["banking_intent"].drop_nulls().value_counts()["count"].to_list() == [25] * 12
    assert parts(texts, "clinc150") == {"train": 132, "validation": 44, "test": 44}
    assert texts.filter(in_scope=0)[SPLIT].value_counts().sort(SPLIT).rows() == [
        ("test", 20),
        ("train", 60),
        ("validation", 20),
    ]
    assert texts.filter(in_scope=0).select("clinc_intent", "domain").null_count().row(0) == (100, 100)
    assert texts["clinc_intent"].drop_nulls().n_unique() == 12
    assert tables.items.height == 30
    assert sum(parts(texts, "help_desk").values()) == 97
    # Every answer is asked for, and some questions of each part.
    assert set(texts["answer"].drop_nulls()) == set(tables.items["item_id"])
    assert min(parts(texts, "help_desk").values()) >= 5
    assert set(parts(texts, "help_desk")) == {"train", "validation", "test"}


def test_the_help_desk_is_whole() -> None:
    rows = read_help_desk()
    assert rows.null_count().sum_horizontal().item() == 0
    assert rows["question"].is_unique().all()
    counts = rows["item_id"].value_counts()["count"]
    assert (counts.min(), counts.max()) == (3, 4)


def test_each_intent_of_the_sample_has_a_reply_with_slots() -> None:
    replies = reply_templates()
    tables, _ = read_support(SupportConfig(), Path())
    assert sorted(replies["intent"]) == sorted(tables.texts["banking_intent"].drop_nulls().unique())
    arrival = replies.filter(intent="card_arrival").row(0, named=True)
    assert arrival["slots"] == ["card_last_four", "posted_on", "due_on"]
    filled = arrival["reply"].format(card_last_four="1234", posted_on="Monday", due_on="Friday")
    assert filled == "Your card ending in 1234 was posted on Monday and should reach you by Friday."
    assert all(name.isidentifier() for name in replies["slots"].explode())
    assert replies["slots"].list.len().to_list() == [3, 3, 2, 2, 3, 4, 3, 3, 2, 2, 3, 3]


def test_the_published_sets(published: Path) -> None:
    config = SupportConfig(
        banking77=Path("banking77"),
        clinc150=Path("clinc150"),
        bank_faq=Path("bank_faq"),
        smp2017=Path("smp2017_ecdt_zh"),
    )
    tables, report = load(config, published, NOW)
    texts = tables.texts
    # 10,003 + 3,080 rows, of which 25 training texts stand in test, spelled otherwise.
    assert sum(parts(texts, "banking77").values()) == 10_003 + 3_080 - 25
    assert parts(texts, "banking77")[TEST] == 3_080
    # 4,500 + 1,000 out of scope; 23,700 rows of which 39 stand in a later part.
    assert parts(texts, "clinc150")[TEST] == 5_500
    assert sum(parts(texts, "clinc150").values()) == 23_700 - 39
    assert report.count("held_out_copy") == 25 + 39
    assert texts.filter(in_scope=0).height == 1_200
    # 1,764 rows: 1,465 distinct pairs, 1,410 distinct answers.
    assert (sum(parts(texts, "bank_faq").values()), tables.items.height) == (1_465, 1_410)
    assert report.count("repeated_question") == 1_764 - 1_465
    # Most answers have one question, so that few tested ones are named by a training text.
    named = texts.filter(pl.col(SPLIT) == TRAIN)["answer"].drop_nulls().unique()
    tested = texts.filter(pl.col(SPLIT) == TEST)["answer"].drop_nulls()
    assert (len(tested), (~tested.is_in(named.implode())).sum()) == (386, 367)
    # A fifth of 3,069, rounded up.
    assert parts(texts, "smp2017")[TEST] == 614
    counts = texts.select(pl.col(f"{n}_intent").n_unique() - 1 for n in ("banking", "clinc", "zh")).row(0)
    assert counts == (77, 150, 31)
