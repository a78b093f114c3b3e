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
from retrieval.encoder.data import Tags
from retrieval.encoder.units import carriers, first_tokens

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


@dataclass(frozen=True, kw_only=True)
class TokenTags:
    """Tags on tokens, ragged: row t's stand in `starts[t]:starts[t + 1]`.

    Attributes:
        starts: int64 `[n_texts + 1]`.
        token: int64 `[units]` position of the unit's first token in its text.
        code: int64 `[units]`.
    """

    starts: Int64
    token: Int64
    code: Int64


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


def token_tags(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], tags: Tags, config: BackboneConfig
) -> TokenTags:
    """Put each unit's tag on its first token.

    Units that truncation cuts off lose theirs, and so do those that share their first token with a unit before them.

    Args:
        tokenizer: the backbone's.
        texts: the free texts that `tags` speaks of.
        tags: by character span.
        config: prefix and length of free texts.
    """
    prefix = config.prefixes.get("text", "")
    # Tokenizers refuse an empty list.
    encoded = [] if not texts else tokenizer(
        [prefix + text for text in texts], truncation=True, max_length=config.max_tokens["text"], padding=False,
        return_offsets_mapping=True,
    )["offset_mapping"]  # fmt: skip
    units = np.searchsorted(tags.text, np.arange(len(texts) + 1))
    token, code, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)], np.zeros(len(texts), np.int64)
    for row, offsets in enumerate(encoded):
        own = slice(units[row], units[row + 1])
        found = first_tokens(offsets, tags.span[own] + len(prefix))
        carrying = carriers(found)
        token.append(found[carrying])
        code.append(tags.code[own][carrying].astype(np.int64))
        counts[row] = carrying.sum()
    return TokenTags(
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        token=np.concatenate(token),
        code=np.concatenate(code),
    )


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
