from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval.encoder.adapt.config import SynonymConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.synonyms import Thesaurus, read_synonyms


def _always(words: dict[str, tuple[str, ...]], text: str) -> list[str]:
    return Thesaurus(words, rate=1.0, variants=1).forms(text, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("words", "text", "form"),
    [
        ({"tea": ("cha",)}, "Green TEA, tea-time, steam and teapot", "Green cha, cha-time, steam and teapot"),
        ({"tea": ("cha",), "tea time": ("break",)}, "tea time is tea", "break is cha"),
        ({"手机": ("电话",)}, "新手机壳 5G手机", "新电话壳 5G电话"),
        ({"hp": ("Hewlett",)}, "hp电脑 hpx", "Hewlett电脑 hpx"),
        ({"ラーメン": ("中華そば",)}, "辛いラーメンです", "辛い中華そばです"),
        ({"커피": ("코피",)}, "커피를 주세요", "코피를 주세요"),
        ({"c++": ("cpp",)}, "c++ and c+++", "cpp and cpp+"),
        ({"a.b": ("x",)}, "aXb a.b", "aXb x"),
        ({"straße": ("weg",)}, "STRAßE 5", "weg 5"),
    ],
)
def test_words_are_exchanged_where_they_stand_alone(words: dict[str, tuple[str, ...]], text: str, form: str) -> None:
    assert _always(words, text) == [form]


def test_what_has_no_word_has_no_form() -> None:
    assert _always({"tea": ("cha",)}, "steam") == []
    assert _always({"tea": ("cha",)}, "") == []
    # A synonym that is the word itself makes no other form.
    assert _always({"tea": ("tea",)}, "tea") == []


def test_rate_variants_and_seed() -> None:
    words = {"a": ("b", "c")}
    text = " ".join(["a"] * 2000)
    half = Thesaurus(words, rate=0.5, variants=1)
    (form,) = half.forms(text, np.random.default_rng(0))
    counts = {letter: form.count(letter) for letter in "abc"}
    # Half stay (1000, sd 22), a quarter becomes each synonym (500, sd 19).
    assert counts["a"] == pytest.approx(1000, abs=90)
    assert counts["b"] == pytest.approx(500, abs=80)
    assert half.forms(text, np.random.default_rng(0)) == [form]
    assert half.forms(text, np.random.default_rng(1)) != [form]
    many = Thesaurus(words, rate=1.0, variants=50).forms("a", np.random.default_rng(0))
    assert sorted(many) == ["b", "c"]


def test_a_file_and_declared_words_join(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("tea\tcha\tchai\n\n手机\t电话\n", encoding="utf-8")
    assert read_synonyms(path) == {"tea": ("cha", "chai"), "手机": ("电话",)}
    thesaurus = Thesaurus.of(SynonymConfig(words={"tea": ("brew",)}, file=path, rate=1.0, variants=40))
    assert sorted(thesaurus.forms("tea", np.random.default_rng(0))) == ["brew", "cha", "chai"]


def test_files_that_say_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdaptError, match=r"augment\.synonyms\.file: expected a UTF-8 text file, found .*none\.tsv"):
        read_synonyms(tmp_path / "none.tsv")
    path = tmp_path / "words.tsv"
    path.write_text("tea\tcha\ncoffee\n", encoding="utf-8")
    with pytest.raises(AdaptError, match="line 2: expected a word, a tab and its synonyms, found 'coffee'"):
        read_synonyms(path)
