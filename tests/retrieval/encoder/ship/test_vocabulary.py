from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from retrieval.encoder.ship.vocabulary import trim_vocabulary
from tests.tiny_transformers import byte_level_tokenizer

CORPUS = [
    "whole milk one gallon", "skimmed milk half gallon", "green tea twenty bags", "black coffee ground", "milk bread",
    "coffee filters number four", "tea towel", "bread flour strong white", "soap bar lavender", "liquid soap refill",
]  # fmt: skip
SEEN = CORPUS[:5]
# Words that none of the texts seen holds, of letters that some of the corpus does.
UNSEEN = ["soap refill", "towel", "meter"]


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=140, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def _byte_level() -> Tokenizer:
    tokenizer = byte_level_tokenizer(CORPUS, 340, ["<s>", "</s>"])
    # A special token that came after the vocabulary, as chat models have.
    tokenizer.add_special_tokens([AddedToken("<end>", special=True)])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<s> $A <end>", special_tokens=[("<s>", 0), ("<end>", tokenizer.token_to_id("<end>"))]
            ),
        ]
    )
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@pytest.mark.parametrize("make", [_word_piece, _byte_level, _unigram])
def test_texts_seen_split_as_before_and_others_are_readable(make: Callable[[], Tokenizer]) -> None:
    whole = make()
    used = {token for text in SEEN for token in whole.encode(text).ids}
    small, kept = trim_vocabulary(whole, used)
    assert small.get_vocab_size() == len(kept) < whole.get_vocab_size()
    assert kept.dtype == np.int64
    assert (np.diff(kept) > 0).all()
    for text in SEEN:
        assert kept[small.encode(text).ids].tolist() == whole.encode(text).ids
        assert small.encode(text).tokens == whole.encode(text).tokens
    assert any(len(small.encode(text).ids) > len(whole.encode(text).ids) for text in UNSEEN)
    for text in UNSEEN:
        assert small.decode(small.encode(text).ids) == whole.decode(whole.encode(text).ids) == text
    # Of tokens with two letters or more, none stays that no text seen holds; there are such.
    special = {token.content for token in whole.get_added_tokens_decoder().values()}
    bare = {token: token.strip("#▁Ġ") for token in set(whole.get_vocab()) - special}
    idle = [token for token, word in bare.items() if len(word) > 1 and not any(word in text for text in SEEN)]
    assert len(idle) > 1
    assert not any(small.token_to_id(token) for token in idle)


def test_merges_that_lead_to_a_kept_token_stay() -> None:
    vocabulary = {"<s>": 0, "a": 1, "b": 2, "c": 3, "cc": 4, "ab": 5, "bc": 6, "abc": 7, "abcc": 8}
    merges = [("a", "b"), ("c", "c"), ("b", "c"), ("ab", "c"), ("ab", "cc")]
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<s>"))
    # "abc" is split as ab + c, merged to 7. Its parts are ab (a + b) and c; cc, bc and abcc lead to nothing used.
    small, kept = trim_vocabulary(whole, whole.encode("abc").ids)
    assert kept.tolist() == [0, 1, 2, 3, 5, 7]
    assert small.encode("abc").ids == [5]
    # What used to be ab + cc = 8 is now abc and c: (c, c) is no merge any more, so (ab, c) comes first.
    assert small.encode("abcc").ids == [5, 3]


def test_special_tokens_keep_their_names_under_new_ids() -> None:
    whole = Tokenizer(models.WordLevel({"tea": 0, "soap": 1, "[UNK]": 2, "[SEP]": 3, "milk": 4}, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    whole.add_special_tokens(["[SEP]", "[PAD]"])
    whole.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])
    whole.enable_padding(pad_id=5, pad_token="[PAD]", length=4)
    small, kept = trim_vocabulary(whole, [4])
    # Milk is used, the separator and padding are special, and the word for unknown ones must be.
    assert kept.tolist() == [2, 3, 4, 5]
    assert small.get_vocab() == {"[UNK]": 0, "[SEP]": 1, "milk": 2, "[PAD]": 3}
    assert small.encode("milk tea").ids == [2, 0, 1, 3]
