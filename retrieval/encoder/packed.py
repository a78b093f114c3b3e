"""BERT layers on real tokens alone: linear layers see no padding, and the frozen layers' states are computed once.

A short text in a padded batch wastes most of its rows; here the tokens of all texts of a chunk stand in one matrix
`[tokens, dim]`, and only the attention itself, a fiftieth of the arithmetic at 48 tokens, runs on padded rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from retrieval.encoder.backbone import Backbone, pool
from retrieval.encoder.state_store import SharedStates, TokenStates
from retrieval.encoder.tokens import Int64, TokenTable, chunks, ragged_positions

CHUNK_TOKENS = 4096
Bool = npt.NDArray[np.bool_]


class PackedBert:
    """The layers of a BERT-like backbone (BERT, RoBERTa, XLM-R ...), run on packed tokens."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        model: Any = backbone.model  # attributes of a module are untyped in torch
        self.embeddings: nn.Module = model.embeddings
        self.layers: list[nn.Module] = list(model.encoder.layer)
        self.heads = int(backbone.model.config.num_attention_heads)

    @classmethod
    def fit(cls, backbone: Backbone) -> PackedBert | None:
        """Return the packed form where the backbone is built so, checked against its own forward pass; else None."""
        try:
            packed = cls(backbone)
            names = (
                "attention.self.query",
                "attention.output.LayerNorm",
                "intermediate.intermediate_act_fn",
                "output.LayerNorm",
            )
            for name in names:
                packed.layers[0].get_submodule(name)
        except (AttributeError, IndexError):
            return None
        table = TokenTable(ids=np.arange(5, 12, dtype=np.int32), starts=np.array([0, 4, 7]), pad_id=backbone.pad_id)
        texts = np.array([0, 1])
        with torch.no_grad():
            ids, mask = _to_device(backbone, *table.padded(texts))
            expected = backbone.states(ids, mask)[mask.bool()]
            flat = packed.run(packed.embed(ids, mask), mask, 0, len(packed.layers))
        return packed if torch.allclose(expected, flat, atol=1e-4) else None

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the embedding layer's output on real tokens, `[tokens, dim]`."""
        embedded: Tensor = self.embeddings(input_ids=ids)
        return embedded[mask.bool()]

    def run(self, flat: Tensor, mask: Tensor, first: int, last: int) -> Tensor:
        """Run layers `first` to `last` (exclusive) on `[tokens, dim]` of the texts whose mask is `[n, length]`."""
        present = mask.bool()
        spots = present.reshape(-1).nonzero().squeeze(1)
        bias = torch.zeros(present.shape, dtype=flat.dtype, device=flat.device).masked_fill_(~present, -1e9)
        bias = bias[:, None, None, :]
        for layer in self.layers[first:last]:
            flat = self._layer(layer, flat, spots, bias)
        return flat

    def _layer(self, layer: Any, flat: Tensor, spots: Tensor, bias: Tensor) -> Tensor:
        """One post-norm transformer layer: attention on padded rows, everything else on packed ones."""
        attention = layer.attention
        rows, length = bias.shape[0], bias.shape[3]
        width = flat.shape[1] // self.heads

        def spread(states: Tensor) -> Tensor:
            padded = states.new_zeros(rows * length, states.shape[1]).index_copy(0, spots, states)
            return padded.view(rows, length, self.heads, width).transpose(1, 2)

        own = attention.self
        query, key, value = (spread(project(flat)) for project in (own.query, own.key, own.value))
        weights = torch.softmax(query @ key.transpose(2, 3) * width**-0.5 + bias, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(rows * length, flat.shape[1])[spots]
        flat = attention.output.LayerNorm(attention.output.dense(mixed) + flat)
        inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(flat))
        out: Tensor = layer.output.LayerNorm(layer.output.dense(inner) + flat)
        return out


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """What the transformer gives of n texts.

    Attributes:
        pooled: `[n, dim]`.
        tokens: `[tokens, dim]` states of the texts that were asked for, or None.
        starts: int64 `[n]` first of each text's token states; -1 for a text without.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    starts: Tensor | None = None


class FrozenTexts:
    """States of some texts of one token table, computed once, without gradients.

    Args:
        texts: int64 `[n]` distinct token table positions.
        states: theirs; without token states, tasks on tokens have nothing to read.
        size: of the token table.
    """

    def __init__(self, texts: Int64, states: TextStates, size: int) -> None:
        self._place = np.full(size, -1, np.int64)
        self._place[texts] = np.arange(len(texts))
        self._states = states

    def states(self, texts: Int64, with_tokens: Bool) -> TextStates:  # noqa: ARG002 - it has them or it hasn't
        """Return the states of texts that it holds."""
        place = torch.from_numpy(self._place[texts]).to(self._states.pooled.device)
        starts = self._states.starts
        return TextStates(
            pooled=self._states.pooled[place],
            tokens=self._states.tokens,
            starts=None if starts is None else starts[place],
        )


class TextPooler:
    """Pooled vectors of texts of one token table, with gradients through the trainable layers.

    Where the backbone is BERT-like and its lower layers are frozen, their states of each distinct text are computed
    once and kept in memory as float16, as far as `cache_mb` reaches. Any other backbone runs its own forward pass on
    batches sorted by length.

    Args:
        backbone: whose vectors.
        table: the texts.
        train_layers: top layers that learn; None for all.
        cache_mb: memory for the frozen layers' states.
        shared: where they are kept over several runs; None keeps them for this one.
    """

    def __init__(
        self, backbone: Backbone, table: TokenTable, *, train_layers: int | None, cache_mb: int,
        shared: SharedStates | None = None,
    ) -> None:  # fmt: skip
        self.backbone, self.table = backbone, table
        self.packed = PackedBert.fit(backbone)
        depth = len(self.packed.layers) if self.packed else 0
        self.frozen = 0 if train_layers is None else max(0, depth - train_layers)
        room = cache_mb * 2**20 // (2 * backbone.dim) if self.frozen else 0
        self._store = (
            TokenStates(table, backbone.dim, room)
            if shared is None
            else shared.token_states(self.frozen, backbone.dim, room)
        )

    def __call__(self, texts: Int64) -> Tensor:
        """Return pooled states `[n, dim]` of the texts at these positions, with gradients unless under no_grad."""
        return self.states(texts, np.zeros(len(texts), bool)).pooled

    def states(self, texts: Int64, with_tokens: Bool) -> TextStates:
        """Return pooled states of texts, and the token states of those in `with_tokens`, bool `[n]`."""
        groups = chunks(self.table.lengths[texts], CHUNK_TOKENS)
        pooled, tokens = [], []
        for group in groups:
            states, mask = self._chunk(texts[group])
            pooled.append(pool(states, mask, self.backbone.pooling))
            wanted = torch.from_numpy(np.flatnonzero(with_tokens[group])).to(states.device)
            if len(wanted):
                tokens.append(states[wanted][mask[wanted].bool()])
        order = np.concatenate(groups)
        back = torch.from_numpy(np.argsort(order)).to(pooled[0].device)
        return TextStates(
            pooled=torch.cat(pooled)[back],
            tokens=torch.cat(tokens) if tokens else None,
            starts=self._starts(texts, order, with_tokens).to(pooled[0].device),
        )

    def _starts(self, texts: Int64, order: Int64, with_tokens: Bool) -> Tensor:
        """Return where each text's token states begin, int64 `[n]`, -1 for a text without: they stand in `order`."""
        kept = order[with_tokens[order]]
        lengths = self.table.lengths[texts[kept]]
        starts = np.full(len(texts), -1, np.int64)
        starts[kept] = np.cumsum(lengths) - lengths
        return torch.from_numpy(starts)

    def _chunk(self, texts: Int64) -> tuple[Tensor, Tensor]:
        """Return the last layer's states `[n, length, dim]` and their mask."""
        ids, mask = _to_device(self.backbone, *self.table.padded(texts))
        if self.packed is None:
            return self.backbone.states(ids, mask), mask
        lower = self._lower(texts, ids, mask) if self.frozen else self.packed.embed(ids, mask)
        flat = self.packed.run(lower, mask, self.frozen, len(self.packed.layers))
        states = flat.new_zeros(mask.numel(), flat.shape[1]).index_copy(0, mask.reshape(-1).nonzero().squeeze(1), flat)
        return states.view(*mask.shape, -1), mask

    def _lower(self, texts: Int64, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the frozen layers' states `[tokens, dim]` from the store, computing and keeping those it lacks."""
        lengths = self.table.lengths[texts]
        known = self._store.known(texts)
        out = torch.empty(int(lengths.sum()), self.backbone.dim, device=ids.device)
        starts = np.cumsum(lengths) - lengths
        if known.any():
            target = torch.from_numpy(ragged_positions(starts[known], lengths[known]))
            out[target] = self._store.read(texts[known], lengths[known]).to(ids.device, torch.float32)
        if not known.all():
            lacking = torch.from_numpy(~known).to(ids.device)
            with torch.no_grad():
                part = mask[lacking]
                assert self.packed is not None
                fresh = self.packed.run(self.packed.embed(ids[lacking], part), part, 0, self.frozen)
            out[torch.from_numpy(ragged_positions(starts[~known], lengths[~known]))] = fresh
            self._store.keep(texts[~known], lengths[~known], fresh)
        return out


def _to_device(backbone: Backbone, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    device = next(backbone.parameters()).device
    return ids.to(device), mask.to(device)
