"""Texts as token ids, each distinct text once, in one flat array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from retrieval.encoder.config import BackboneConfig, Kind

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenTable:
    """Token ids of distinct texts, ragged.

    Attributes:
        ids: int32 `[total tokens]`.
        starts: int64 `[n_texts + 1]`; text t owns `ids[starts[t]:starts[t + 1]]`.
        pad_id: token id of padding.
    """

    ids: npt.NDArray[np.int32]
    starts: Int64
    pad_id: int

    @property
    def lengths(self) -> Int64:
        """Tokens of each text, int64 `[n_texts]`."""
        lengths: Int64 = np.diff(self.starts)
        return lengths

    def padded(self, texts: Int64) -> tuple[Tensor, Tensor]:
        """Return right-padded ids and mask, int64 `[len(texts), longest]`, of the texts at these positions."""
        lengths = self.lengths[texts]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.full(mask.shape, self.pad_id, np.int64)
        ids[mask] = self.ids[ragged_positions(self.starts[texts], lengths)]
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))


def ragged_positions(starts: Int64, lengths: Int64) -> Int64:
    """Return `starts[0], starts[0] + 1, ...` for each run, joined: int64 `[sum(lengths)]`."""
    ends = np.cumsum(lengths)
    spots: Int64 = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return spots


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[Kind, Sequence[str]], config: BackboneConfig
) -> tuple[TokenTable, dict[Kind, Int64]]:
    """Tokenise texts of several kinds into one table, truncated to their kind's length.

    Args:
        tokenizer: the backbone's.
        texts: texts by kind; equal texts (after prefix and truncation) share one row of the table.
        config: prefixes and lengths.

    Returns:
        The table, and by kind the int64 `[n]` position in it of every text given.
    """
    rows: dict[tuple[int, ...], int] = {}
    positions: dict[Kind, Int64] = {}
    for kind, values in texts.items():
        distinct, inverse = np.unique(np.asarray(values, dtype=np.str_), return_inverse=True)
        encoded = _encode(
            tokenizer, [config.prefixes.get(kind, "") + text for text in distinct.tolist()], config.max_tokens[kind]
        )
        mine = np.fromiter((rows.setdefault(tuple(ids), len(rows)) for ids in encoded), np.int64, len(encoded))
        positions[kind] = mine[inverse.reshape(-1)] if len(mine) else np.empty(0, np.int64)
    lengths = np.fromiter((len(ids) for ids in rows), np.int64, len(rows))
    flat = np.fromiter((token for ids in rows for token in ids), np.int32, int(lengths.sum()))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return TokenTable(ids=flat, starts=starts, pad_id=int(tokenizer.pad_token_id or 0)), positions


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int) -> list[list[int]]:
    """Return token ids; an empty text of a tokenizer without special tokens becomes one padding token."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(texts, truncation=True, max_length=max_tokens, padding=False)["input_ids"]
    return [ids or [int(tokenizer.pad_token_id or 0)] for ids in encoded]


def chunks(lengths: Int64, max_tokens: int) -> list[Int64]:
    """Split rows into groups of similar length: at most `max_tokens` tokens each when padded (one row at least).

    Args:
        lengths: int64 `[n]`.
        max_tokens: limit of rows x longest row.

    Returns:
        Positions into `lengths`, longest rows first.
    """
    order = np.argsort(-lengths, kind="stable")
    groups, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        groups.append(order[start : start + size])
        start += size
    return groups
