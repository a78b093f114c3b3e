from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.data import Tags
from retrieval.encoder.tokens import chunks, ragged_positions, token_tags, tokenize


def test_equal_texts_share_a_row_and_long_ones_are_cut(tiny_bert: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert), max_tokens={"user": 4, "item": 8, "text": 8})
    tokenizer = load_backbone(config).tokenizer
    table, positions = tokenize(tokenizer, {"user": ["tea", "user likes tea"], "item": ["tea", "soap", "tea"]}, config)
    assert positions["item"][0] == positions["item"][2] == positions["user"][0]
    # [CLS] user likes [SEP]: four tokens, the end kept.
    row = positions["user"][1]
    assert table.lengths[row] == 4
    assert table.ids[table.starts[row + 1] - 1] == tokenizer.sep_token_id
    ids, mask = table.padded(np.array([positions["user"][0], row]))
    assert ids.shape == (2, 4)
    assert mask.sum(1).tolist() == [3, 4]
    assert ids[0, 3] == table.pad_id


def test_ragged_positions_by_hand() -> None:
    assert ragged_positions(np.array([10, 0]), np.array([2, 3])).tolist() == [10, 11, 0, 1, 2]
    assert ragged_positions(np.array([], np.int64), np.array([], np.int64)).tolist() == []


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 200))
def test_chunks_hold_every_row_once_within_the_limit(lengths: list[int], limit: int) -> None:
    groups = chunks(np.array(lengths), limit)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[row] for row in group) <= limit


def test_no_texts_have_no_tags(tiny_bert: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert))
    nothing = Tags(text=np.empty(0, np.int32), span=np.empty((0, 2), np.int32), code=np.empty(0, np.int32))
    found = token_tags(load_backbone(config).tokenizer, [], nothing, config)
    assert found.starts.tolist() == [0]
    assert len(found.token) == len(found.code) == 0
