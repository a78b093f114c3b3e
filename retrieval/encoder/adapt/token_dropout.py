"""Token dropout: texts without some of their tokens (as word dropout, Iyyer et al., 2015)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from retrieval.encoder.adapt.config import TokenDropoutConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.tokens import Int64, TokenTable, ragged_positions

Bool = npt.NDArray[np.bool_]


def drop_tokens(
    table: TokenTable,
    texts: Int64,
    tokenizer: PreTrainedTokenizerBase,
    config: TokenDropoutConfig,
    rng: np.random.Generator,
) -> tuple[TokenTable, Int64, Int64]:
    """Append variants of texts to the table; a variant that lost nothing is left out.

    Special tokens always stay, and so does one other token of each text.

    Args:
        table: of all texts.
        texts: int64 `[n]` distinct positions of those that get variants.
        tokenizer: says which tokens are special.
        config: how many, and how.
        rng: of the draws.

    Returns:
        The longer table, and for each variant, int64 `[m]`, its text's position and its own.

    Raises:
        AdaptError: tokens shall be replaced, and the tokenizer has neither a mask nor an unknown token.
    """
    new = _replacement(tokenizer) if config.how == "replace" else None
    lengths = table.lengths[texts]
    ids = table.ids[ragged_positions(table.starts[texts], lengths)]
    row = np.repeat(np.arange(len(texts)), lengths)
    special = np.isin(ids, tokenizer.all_special_ids)
    flat, sizes, owners = [table.ids], [table.lengths], []
    for _ in range(config.variants):
        lost = lost_tokens(row, special, config.rate, rng)
        changed = np.bincount(row[lost], minlength=len(texts)) > 0
        kept = changed[row] & ~lost if new is None else changed[row]
        flat.append((ids if new is None else np.where(lost, new, ids))[kept].astype(np.int32))
        sizes.append(np.bincount(row[kept], minlength=len(texts))[changed])
        owners.append(texts[changed])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
    longer = TokenTable(ids=np.concatenate(flat), starts=starts, pad_id=table.pad_id)
    return longer, np.concatenate(owners), np.arange(len(table.lengths), len(starts) - 1)


def lost_tokens(row: Int64, special: Bool, rate: float, rng: np.random.Generator) -> Bool:
    """Draw which tokens are lost: each that is not special with probability `rate`, but never all of a text's.

    Args:
        row: int64 `[tokens]` text of each, ascending.
        special: bool `[tokens]`.
        rate: in (0, 1).
        rng: of the draws.
    """
    chance = np.where(special, 2.0, rng.random(len(row)))
    lost: Bool = chance < rate
    # The token with the highest chance among a text's own stays, whatever the rate.
    order = np.lexsort((np.where(special, -1.0, chance), row))
    last = np.flatnonzero(np.diff(row[order], append=-1))
    lost[order[last]] = False
    return lost


def _replacement(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.mask_token_id, tokenizer.unk_token_id):
        if token is not None:
            return int(token)
    raise AdaptError(
        "augment.tokens.how: expected a tokenizer with a mask or an unknown token to replace others by, "
        "found one with neither; 'remove' needs none"
    )
