from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.pretrain.objectives import MaskedTokens, NextTokens, mask_tokens
from retrieval.encoder.tokens import TokenTable, tokenize

MASK = 99


def _table(*rows: list[int]) -> TokenTable:
    lengths = [len(row) for row in rows]
    return TokenTable(
        ids=np.concatenate(rows).astype(np.int32), starts=np.concatenate([[0], np.cumsum(lengths)]), pad_id=0
    )


def test_masks_keep_their_proportions() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 50, (400, 100))
    maskable = np.ones(ids.shape, bool)
    maskable[:, :20] = False
    # No replacement (60 to 79) occurs in the texts, so that each shows.
    seen, chosen = mask_tokens(ids, maskable, share=0.15, mask_id=MASK, ordinary=np.arange(60, 80), rng=rng)
    # .15 x 80 = 12 in each row.
    assert chosen.sum(1).tolist() == [12] * 400
    assert not chosen[:, :20].any()
    assert np.array_equal(seen[~chosen], ids[~chosen])
    hidden = seen[chosen]
    # 4,800 draws: standard deviations of the shares are at most sqrt(.8 x .2 / 4,800) = .006.
    assert (hidden == MASK).mean() == pytest.approx(0.8, abs=0.03)
    assert ((hidden >= 60) & (hidden < 80)).mean() == pytest.approx(0.1, abs=0.03)
    assert (hidden == ids[chosen]).mean() == pytest.approx(0.1, abs=0.03)
    assert set(np.unique(hidden[(hidden >= 60) & (hidden < 80)])) == set(range(60, 80))


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (3, 1), (10, 2), (13, 2), (20, 3)])
def test_a_short_text_has_one_token_to_predict_at_least(length: int, expected: int) -> None:
    # .15 x 1 = .15, x 3 = .45: one at least; x 10 = 1.5: to even; x 13 = 1.95; x 20 = 3.
    ids = np.full((1, length), 7)
    _, chosen = mask_tokens(ids, ids > 0, share=0.15, mask_id=MASK, ordinary=np.arange(5), rng=np.random.default_rng(0))
    assert chosen.sum() == expected


def test_special_tokens_are_never_masked_and_masks_are_dynamic(masked_bert: BackboneConfig) -> None:
    tokenizer = load_backbone(masked_bert).tokenizer
    texts = ["user likes tea", "四川 tea", "辣椒", "", "[SEP] [MASK]"]
    table, positions = tokenize(tokenizer, {"text": texts}, masked_bert)
    objective = MaskedTokens(table, tokenizer, 0.15)
    special = set(tokenizer.all_special_ids)
    # The empty text and the one of special tokens have nothing to predict.
    usable = objective.usable()
    assert set(usable.tolist()) == set(positions["text"][:3].tolist())
    rng = np.random.default_rng(0)
    batches = [objective(usable, rng) for _ in range(50)]
    for batch in batches:
        assert not special & set(batch.targets.tolist())
        assert batch.spots.sum(1).tolist() == [1, 1, 1]
        assert bool((batch.mask[batch.spots] == 1).all())
    assert len({tuple(map(tuple, batch.spots.tolist())) for batch in batches}) > 1
    # Chinese characters are tokens of their own, each predicted from the other; 四 and 川 are unknown, and are not.
    characters = set(tokenizer.convert_tokens_to_ids(["辣", "椒"]))
    assert characters <= {target for batch in batches for target in batch.targets.tolist()}


def test_a_seed_repeats_masks(masked_bert: BackboneConfig) -> None:
    tokenizer = load_backbone(masked_bert).tokenizer
    table, _ = tokenize(tokenizer, {"text": ["user likes tea number 3"]}, masked_bert)
    objective = MaskedTokens(table, tokenizer, 0.5)
    first, again, other = (
        [objective(np.array([0]), rng).ids.tolist() for _ in range(8)]
        for rng in (np.random.default_rng(seed) for seed in (1, 1, 2))
    )
    assert first == again
    assert first != other


def test_a_tokenizer_without_a_mask_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a tokenizer with a mask token"):
        MaskedTokens(_table([2, 5, 3]), AutoTokenizer.from_pretrained(tiny_bert), 0.15)


def test_next_tokens_by_hand() -> None:
    objective = NextTokens(_table([5, 6, 7], [8], [9, 5]))
    assert objective.usable().tolist() == [0, 2]
    batch = objective(objective.usable(), np.random.default_rng(0))
    assert batch.ids.tolist() == [[5, 6, 7], [9, 5, 0]]
    # After 5 comes 6, after 6 comes 7, after 9 comes 5; padding is no target.
    assert batch.spots.tolist() == [[True, True, False], [True, False, False]]
    assert batch.targets.tolist() == [6, 7, 5]
