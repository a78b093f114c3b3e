"""The model in torch: items' vectors from text and training, and the reader of a history."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from features.schema import Float32
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import GAPS


class ItemTable(nn.Module):
    """Items' vectors of length 1: the projection of a text vector plus, for what training saw, a vector of its own.

    Args:
        texts: float32 `[n, dim]` text vectors, or `[n, 0]` for none; `Standard` has standardised them.
        seen: bool `[n]`: items with events.
        config: width and whether there are vectors of items' own.
    """

    def __init__(self, texts: Float32, seen: Tensor, config: SequenceConfig) -> None:
        super().__init__()
        dim = texts.shape[1]
        self.register_buffer("texts", torch.from_numpy(texts), persistent=False)
        self.projection = nn.Parameter(torch.randn(dim, config.width) / math.sqrt(max(1, dim) * config.width))
        # Beside a text's projection, of length about 1, they begin as a small difference; alone they are all there is.
        scale = (0.1 if dim else 1.0) / math.sqrt(config.width)
        own = torch.randn(len(texts), config.width) * scale if config.learnt else torch.zeros(len(texts), 0)
        self.own = nn.Parameter(own * seen[:, None])
        self.register_buffer("seen", seen[:, None].float(), persistent=False)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return float32 `[n, width]` rows of length 1 of `items` (int64 `[n]`), or of all."""
        rows = slice(None) if items is None else items
        vectors = self.get_buffer("texts")[rows] @ self.projection
        if self.own.shape[1]:
            vectors = vectors + self.own[rows] * self.get_buffer("seen")[rows]
        return functional.normalize(vectors, dim=1)


class Attention(nn.Module):
    """Causal attention whose scores depend on content and, by head, on the distance of events.

    Its weights aren't dropped: drawing so many random numbers took a sixth of a step on histories of 200 events.
    """

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.inward = nn.Linear(config.width, 3 * config.width)
        self.outward = nn.Linear(config.width, config.width)
        self.distance = nn.Parameter(torch.zeros(config.heads, config.length))

    def forward(self, states: Tensor) -> Tensor:
        """Return float32 `[batch, time, width]`; the state of a time depends on none after it."""
        batch, time, width = states.shape
        parts = self.inward(states).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        steps = torch.arange(time)
        apart = steps[:, None] - steps[None, :]
        bias = self.distance[:, apart.clamp(min=0)].masked_fill(apart < 0, -torch.inf)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads) + bias
        mixed = torch.softmax(scores, -1) @ value
        joined: Tensor = self.outward(mixed.transpose(1, 2).reshape(batch, time, width))
        return joined


class Mean(nn.Module):
    """The mean of all events so far, whatever their order."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.outward = nn.Linear(config.width, config.width)

    def forward(self, states: Tensor) -> Tensor:
        """Return float32 `[batch, time, width]`."""
        counts = torch.arange(1, states.shape[1] + 1)[None, :, None]
        mixed: Tensor = self.outward(states.cumsum(1) / counts)
        return mixed


class Block(nn.Module):
    """A pre-norm transformer block (Xiong et al. 2020); that of a `mean` reader carries nothing of the event itself."""

    def __init__(self, config: SequenceConfig) -> None:
        super().__init__()
        self.before = nn.LayerNorm(config.width)
        self.mixing: nn.Module = Attention(config) if config.reader == "attention" else Mean(config)
        self.between = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, 2 * config.width)
        self.down = nn.Linear(2 * config.width, config.width)
        self.drop = nn.Dropout(config.dropout)
        self.ordered = config.reader == "attention"

    def forward(self, states: Tensor) -> Tensor:
        """Return float32 `[batch, time, width]`."""
        mixed = self.drop(self.mixing(self.before(states)))
        states = states + mixed if self.ordered else mixed
        changed: Tensor = self.drop(self.down(torch.relu(self.up(self.between(states)))))
        return states + changed


class Reader(nn.Module):
    """From the vectors of a history's events to a user's vector after each of them."""

    def __init__(self, kinds: int, config: SequenceConfig) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(math.sqrt(config.width)))
        self.kind = nn.Embedding(kinds, config.width)
        self.gap = nn.Embedding(GAPS, config.width)
        nn.init.normal_(self.kind.weight, std=0.02)
        nn.init.normal_(self.gap.weight, std=0.02)
        # A mean of means is one mean: a reader without order is one block.
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks if config.reader == "attention" else 1))
        self.norm = nn.LayerNorm(config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, vectors: Tensor, kinds: Tensor, gaps: Tensor) -> Tensor:
        """Read histories.

        Args:
            vectors: float32 `[batch, time, width]` of the items, oldest first; what follows a history's end is never
                looked at by what comes before it.
            kinds: int64 `[batch, time]`.
            gaps: int64 `[batch, time]`.

        Returns:
            float32 `[batch, time, width]` rows of length 1: the user after each event.
        """
        states = self.drop(self.gain * vectors + self.kind(kinds) + self.gap(gaps))
        for block in self.blocks:
            states = block(states)
        return functional.normalize(self.norm(states), dim=-1)


class SequenceNet(nn.Module):
    """Items and reader, and the temperature of their cosines."""

    def __init__(self, texts: Float32, seen: Tensor, kinds: int, config: SequenceConfig) -> None:
        super().__init__()
        self.items = ItemTable(texts, seen, config)
        self.reader = Reader(kinds, config)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by."""
        return self.log_scale.exp()
