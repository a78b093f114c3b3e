from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from infra.errors import InvalidInputError
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.explain.load import LoadedEncoder
from retrieval.encoder.explain.spans import ReadText, Token, group_words, read_text

if TYPE_CHECKING:
    from conftest import AsLoaded

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "oat", "##me", "##al", "milk", "辣", "椒", "酱", ",", "250", "##g"]


@pytest.fixture
def pieces(bert: LoadedEncoder, monkeypatch: pytest.MonkeyPatch) -> LoadedEncoder:
    """An encoder that reads by word pieces, as BERT does; its model is not run here."""
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    monkeypatch.setattr(bert.model.backbone, "tokenizer", fast)
    return bert


def _spans(read: ReadText) -> list[str]:
    return [read.text[token.start : token.end] for token in read.tokens if token.is_own]


def _words(read: ReadText) -> list[tuple[str, int]]:
    return [(read.text[word.start : word.end], len(word.tokens)) for word in read.words]


def test_word_pieces_make_a_word_and_chinese_signs_stay_alone(pieces: LoadedEncoder) -> None:
    read = read_text(pieces, "Oatmeal  milk,辣椒酱 250g", "item")
    assert [token.piece for token in read.tokens] == [
        "[CLS]", "oat", "##me", "##al", "milk", ",", "辣", "椒", "酱", "250", "##g", "[SEP]",
    ]  # fmt: skip
    assert _spans(read) == ["Oat", "me", "al", "milk", ",", "辣", "椒", "酱", "250", "g"]
    assert _words(read) == [
        ("Oatmeal", 3), ("milk", 1), (",", 1), ("辣", 1), ("椒", 1), ("酱", 1), ("250g", 2),
    ]  # fmt: skip
    assert [token.is_own for token in read.tokens] == [False, *[True] * 10, False]


def test_bytes_make_a_sign_and_spaces_belong_to_no_word(tiny_llama: Path, as_loaded: AsLoaded) -> None:
    # Its merges come from "user likes tea": a Chinese sign is three bytes and so three tokens of one span.
    read = read_text(as_loaded(tiny_llama, "last"), "likes 辣椒 teas", "item")
    assert _words(read) == [("likes", 2), (" ", 1), ("辣", 3), ("椒", 3), ("teas", 2)]


def test_the_prefix_is_not_the_texts_own(bert: LoadedEncoder, tiny_llama: Path, as_loaded: AsLoaded) -> None:
    for encoder in (bert, as_loaded(tiny_llama, "last")):
        read = read_text(encoder, "likes tea", "user")
        assert read.text == "likes tea"
        assert _spans(read) == ["likes", "tea"]
        assert sum(not token.is_own for token in read.tokens) == (3 if encoder is bert else 1)
    touching = LoadedEncoder(model=bert.model, config=BackboneConfig(prefixes={"user": "user:"}))
    assert _spans(read_text(touching, "likes tea", "user")) == ["likes", "tea"]


def test_what_is_cut_off_is_told(bert: LoadedEncoder) -> None:
    # Sixteen tokens with [CLS] and [SEP]: fourteen words of the text.
    read = read_text(bert, "tea " * 20, "item")
    assert read.ids.shape == (1, 16)
    assert read.text[: read.read] == "tea " * 13 + "tea"
    whole = read_text(bert, "tea soap", "item")
    assert whole.read == len(whole.text)


def test_words_of_scripts_with_and_without_spaces() -> None:
    def spans(text: str, *ends: int) -> list[str]:
        starts = (0, *ends)
        tokens = [Token(piece="", start=a, end=b, is_own=True) for a, b in zip(starts, ends, strict=False)]
        return [text[word.start : word.end] for word in group_words(text, tokens)]

    assert spans("Größe", 2, 3, 5) == ["Größe"]
    assert spans("हिन्दी", 2, 4, 6) == ["हिन्दी"]  # vowel signs are marks, no letters
    assert spans("don't", 3, 4, 5) == ["don", "'", "t"]
    assert spans("四川辣酱", 2, 3, 4) == ["四川", "辣", "酱"]
    assert spans("お茶tea", 1, 2, 5) == ["お", "茶", "tea"]
    assert spans("ชาเย็น", 2, 6) == ["ชา", "เย็น"]
    assert spans("우유차", 2, 3) == ["우유차"]  # Korean has spaces


def test_a_token_of_no_character_joins_its_neighbour() -> None:
    marks = [Token(piece="_", start=0, end=0, is_own=True), Token(piece="tea", start=0, end=3, is_own=True)]
    (word,) = group_words("tea", marks)
    assert (word.start, word.end, word.tokens) == (0, 3, (0, 1))


@pytest.mark.parametrize("text", ["", "  \n", "\u200b"])
def test_nothing_to_read(text: str, pieces: LoadedEncoder) -> None:
    with pytest.raises(InvalidInputError, match="text of kind item: expected one of which something is read"):
        read_text(pieces, text, "item")


def test_a_prefix_that_leaves_no_room(bert: LoadedEncoder) -> None:
    config = BackboneConfig(max_tokens={"user": 4, "item": 9, "text": 9}, prefixes={"user": "user likes "})
    narrow = LoadedEncoder(model=bert.model, config=config)
    with pytest.raises(InvalidInputError, match=r"in 4 tokens behind the prefix 'user likes ', found 'tea'"):
        read_text(narrow, "tea", "user")
