"""What a language model predicts of a text: some tokens from all others, or each from those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from infra.errors import InvalidInputError
from retrieval.encoder.data import Bool
from retrieval.encoder.tokens import Int64, TokenTable

# Of the tokens to predict, how many are replaced by the mask and by a random token; the rest stay as they are, so that
# the model cannot tell which it is asked for (Devlin et al., 2019).
MASKED: Final = 0.8
RANDOM: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class LanguageBatch:
    """Texts, and what is asked of them.

    Attributes:
        ids: int64 `[n, length]` as the model sees them, padded on the right.
        mask: int64 `[n, length]`, 1 on tokens.
        spots: bool `[n, length]` positions whose logits are asked for.
        targets: int64 `[spots]` the tokens to name there, row by row.
    """

    ids: Tensor
    mask: Tensor
    spots: Tensor
    targets: Tensor


class Objective(Protocol):
    """Makes batches of the texts of one token table."""

    name: str

    def usable(self) -> Int64:
        """Return the table's texts in which there is something to predict, int64, ascending."""

    def __call__(self, texts: Int64, rng: np.random.Generator) -> LanguageBatch:
        """Return a batch of these texts."""


class MaskedTokens:
    """Masks drawn anew for every batch, never on special tokens.

    Args:
        table: the texts.
        tokenizer: names the special tokens.
        share: of a text's ordinary tokens to predict, one at least.

    Raises:
        InvalidInputError: the tokenizer has no mask token.
    """

    name = "mlm"

    def __init__(self, table: TokenTable, tokenizer: PreTrainedTokenizerBase, share: float) -> None:
        if tokenizer.mask_token_id is None:
            raise InvalidInputError(
                "backbone.name: expected a tokenizer with a mask token, as masked language modelling needs, found none "
                f"among {tokenizer.all_special_tokens}"
            )
        self.table, self.share = table, share
        self.mask_id = int(tokenizer.mask_token_id)
        self.special = np.array(sorted(tokenizer.all_special_ids), np.int64)
        self.ordinary = np.setdiff1d(np.arange(len(tokenizer)), self.special)

    def usable(self) -> Int64:
        """Return the texts with an ordinary token."""
        is_ordinary = np.concatenate([[0], np.cumsum(~np.isin(self.table.ids, self.special))])
        return np.flatnonzero(np.diff(is_ordinary[self.table.starts]) > 0)

    def __call__(self, texts: Int64, rng: np.random.Generator) -> LanguageBatch:
        """Return a batch with masks of its own."""
        ids, mask = self.table.padded(texts)
        maskable = mask.numpy().astype(bool) & ~np.isin(ids.numpy(), self.special)
        seen, chosen = mask_tokens(
            ids.numpy(), maskable, share=self.share, mask_id=self.mask_id, ordinary=self.ordinary, rng=rng
        )
        spots = torch.from_numpy(chosen)
        return LanguageBatch(ids=torch.from_numpy(seen), mask=mask, spots=spots, targets=ids[spots])


class NextTokens:
    """Every token from those before it; a text's first has none.

    Args:
        table: the texts.
    """

    name = "clm"

    def __init__(self, table: TokenTable) -> None:
        self.table = table

    def usable(self) -> Int64:
        """Return the texts of two tokens or more."""
        return np.flatnonzero(self.table.lengths > 1)

    def __call__(self, texts: Int64, rng: np.random.Generator) -> LanguageBatch:  # noqa: ARG002 - nothing is drawn
        """Return a batch."""
        ids, mask = self.table.padded(texts)
        spots = torch.zeros_like(mask, dtype=torch.bool)
        spots[:, :-1] = mask[:, 1:].bool()
        return LanguageBatch(ids=ids, mask=mask, spots=spots, targets=ids[:, 1:][spots[:, :-1]])


def mask_tokens(
    ids: Int64, maskable: Bool, *, share: float, mask_id: int, ordinary: Int64, rng: np.random.Generator
) -> tuple[Int64, Bool]:
    """Choose tokens to predict and hide them.

    Args:
        ids: int64 `[n, length]`.
        maskable: bool `[n, length]`.
        share: of each row's maskable tokens to choose, rounded, one at least.
        mask_id: token id of the mask.
        ordinary: int64 `[vocabulary]` token ids that a random replacement is drawn from.
        rng: of the choice and the replacements.

    Returns:
        The ids as the model shall see them, and which were chosen, bool `[n, length]`.
    """
    counts = np.maximum(1, np.rint(share * maskable.sum(1)))
    order = np.argsort(np.where(maskable, rng.random(ids.shape), 2.0), axis=1)
    chosen = (np.argsort(order, axis=1) < counts[:, None]) & maskable
    fate = rng.random(ids.shape)
    seen = np.where(chosen & (fate < MASKED), mask_id, ids)
    is_random = chosen & (fate >= MASKED) & (fate < MASKED + RANDOM)
    seen[is_random] = rng.choice(ordinary, int(is_random.sum()))
    return seen, chosen
