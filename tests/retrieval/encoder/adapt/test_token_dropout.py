from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from retrieval.encoder.adapt.config import TokenDropoutConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.token_dropout import drop_tokens, lost_tokens
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.tokens import TokenTable, tokenize

TEXTS = ["user likes tea", "tea", "coffee number 3", "", "bread number 1 tea coffee", "unheard tea"]


def _setup(folder: Path) -> tuple[PreTrainedTokenizerBase, TokenTable]:
    config = BackboneConfig(name=str(folder))
    tokenizer = load_backbone(config).tokenizer
    return tokenizer, tokenize(tokenizer, {"text": TEXTS}, config)[0]


def _rows(table: TokenTable) -> list[list[int]]:
    return [table.ids[table.starts[n] : table.starts[n + 1]].tolist() for n in range(len(table.lengths))]


@pytest.mark.parametrize("how", ["remove", "replace"])
def test_special_tokens_stay_and_so_does_one_other(tiny_bert: Path, how: str) -> None:
    tokenizer, table = _setup(tiny_bert)
    texts = np.arange(len(table.lengths))
    config = TokenDropoutConfig.model_validate({"rate": 0.9, "how": how, "variants": 20})
    longer, owners, forms = drop_tokens(table, texts, tokenizer, config, np.random.default_rng(0))
    before, after = _rows(table), _rows(longer)
    assert after[: len(before)] == before
    assert len(owners) == len(forms) == len(after) - len(before) > 50  # 20 of each of three texts
    special = set(tokenizer.all_special_ids)
    for owner, form in zip(owners, forms, strict=True):
        old, new = before[owner], after[form]
        if how == "remove":
            # A subsequence: what is left of the old tokens, in their order.
            rest = iter(old)
            assert all(token in rest for token in new)
            assert [t for t in new if t in special] == [t for t in old if t in special]
        else:
            # The tiny tokenizer has no mask, so that lost tokens become the unknown one.
            assert len(new) == len(old)
            assert all(
                n == o or (o not in special and n == tokenizer.unk_token_id) for n, o in zip(new, old, strict=True)
            )
        assert new != old
        assert set(new) - special
    # "" and "tea" have nothing to lose: special tokens, and the one token that stays.
    alone = {n for n, row in enumerate(before) if len([t for t in row if t not in special]) < 2}
    assert not alone & set(owners.tolist())
    assert set(owners.tolist()) == set(range(len(before))) - alone


def test_a_seed_repeats_the_variants(tiny_bert: Path) -> None:
    tokenizer, table = _setup(tiny_bert)
    texts, config = np.arange(len(table.lengths)), TokenDropoutConfig(rate=0.5)
    tables = [drop_tokens(table, texts, tokenizer, config, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert _rows(tables[0]) == _rows(tables[1])
    assert _rows(tables[0]) != _rows(tables[2])


def test_the_rate_is_the_share_that_is_lost() -> None:
    # Ten thousand texts of fifty tokens: the one that stays is seldom among the lost ones at a rate of .3.
    row = np.repeat(np.arange(10_000), 50)
    lost = lost_tokens(row, np.zeros(len(row), bool), 0.3, np.random.default_rng(0))
    # Standard deviation sqrt(.3 * .7 / 500,000) = .00065.
    assert lost.mean() == pytest.approx(0.3, abs=0.003)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8), rate=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_no_text_loses_everything(lengths: list[int], rate: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(lengths)), lengths)
    special = rng.random(len(row)) < 0.3
    lost = lost_tokens(row, special, rate, rng)
    assert not (lost & special).any()
    for text in range(len(lengths)):
        own = (row == text) & ~special
        assert not own.any() or not lost[own].all()


def test_a_tokenizer_without_a_mask_cannot_replace(tiny_llama: Path) -> None:
    tokenizer, table = _setup(tiny_llama)
    config = TokenDropoutConfig(how="replace")
    with pytest.raises(AdaptError, match="expected a tokenizer with a mask or an unknown token"):
        drop_tokens(table, np.arange(2), tokenizer, config, np.random.default_rng(0))
    removed, _, forms = drop_tokens(
        table, np.arange(6), tokenizer, TokenDropoutConfig(rate=0.3), np.random.default_rng(0)
    )
    assert len(forms) == len(removed.lengths) - len(table.lengths) > 0
