"""Units among tokens, by hand."""

from __future__ import annotations

import numpy as np

from retrieval.encoder.units import TextUnits, carriers, first_tokens


def test_a_units_first_token_is_the_first_that_stands_for_any_of_it() -> None:
    # "[CLS] un ##heard of it [SEP]" of "unheard of it, see": the rest was cut off.
    offsets = [(0, 0), (0, 2), (2, 7), (8, 10), (11, 13), (0, 0)]
    spans = np.array([[0, 7], [8, 10], [11, 14], [15, 18]])
    assert first_tokens(offsets, spans).tolist() == [1, 3, 4, -1]


def test_characters_of_one_token_share_it_and_only_the_first_carries_a_tag() -> None:
    # "250 g" in characters: the tokenizer keeps the number whole, and its last piece takes a space along.
    found = first_tokens([(0, 3), (3, 5)], np.array([[0, 1], [1, 2], [2, 3], [4, 5]]))
    assert found.tolist() == [0, 0, 0, 1]
    assert carriers(found).tolist() == [True, False, False, True]


def test_a_character_that_the_tokenizer_drops_has_no_token() -> None:
    # A soft hyphen between two letters that are tokens each.
    found = first_tokens([(0, 1), (2, 3)], np.array([[0, 1], [1, 2], [2, 3]]))
    assert found.tolist() == [0, -1, 1]
    assert carriers(found).tolist() == [True, False, True]


def test_no_tokens_and_no_units() -> None:
    assert first_tokens([], np.array([[0, 1]])).tolist() == [-1]
    assert first_tokens([(0, 0)], np.empty((0, 2), np.int64)).tolist() == []


def test_offsets_of_a_prefixed_text() -> None:
    # "q: tea" behind the prefix "q: ", whose tokens belong to no unit.
    units = TextUnits.of("tea", "word", [(0, 1), (1, 2), (3, 6)], prefix=3)
    assert units.span.tolist() == [[0, 3]]
    assert units.token.tolist() == [2]
    assert units.carries.tolist() == [True]
