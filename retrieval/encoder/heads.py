"""What each task adds to the shared vectors: small functions of one or two of them, cheap to serve with numpy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PairHead(nn.Module):
    """Low-rank bilinear logit of a user and an item: `(U u) . (V v) + a . u + b . v + c`.

    Vectors have length 1; inside the head they are scaled by sqrt(dim), so that their entries are about 1 and one
    learning rate suits every parameter. U and V start as the same orthonormal projection, scaled so that the logit is a
    constant plus `gain` x dim x the cosine within it.

    Attributes:
        left, right: U and V, `[rank, dim]`.
        user, item: a and b, `[dim]`.
        bias: c.
    """

    def __init__(self, dim: int, rank: int, *, gain: float = 0.05) -> None:
        super().__init__()
        start = nn.init.orthogonal_(torch.empty(min(rank, dim), dim)) * math.sqrt(gain)
        self.left = nn.Parameter(start.clone())
        self.right = nn.Parameter(start.clone())
        self.user = nn.Parameter(torch.zeros(dim))
        self.item = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return logits `[n_users, n_items]` of unit vectors `[n_users, dim]` and `[n_items, dim]`."""
        root = math.sqrt(users.shape[1])
        users, items = users * root, items * root
        bilinear = (users @ self.left.T) @ (items @ self.right.T).T
        return bilinear + (users @ self.user)[:, None] + (items @ self.item)[None, :] + self.bias

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Return arrays for unit vectors: left and right `[rank, dim]`, user and item `[dim]`, bias `[1]`."""
        root = math.sqrt(self.left.shape[1])
        return {
            "left": self.left * root,
            "right": self.right * root,
            "user": self.user * root,
            "item": self.item * root,
            "bias": self.bias.reshape(1),
        }


class RetrievalHead(nn.Module):
    """Cosine over a learnt temperature: the same inner product as the index over item vectors searches.

    Attributes:
        log_scale: log of 1 / temperature, held below log 100 (Radford et al., 2021).
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return logits `[n_users, n_items]` of unit vectors `[n_users, dim]` and `[n_items, dim]`."""
        return (users @ items.T) * self.log_scale.clamp(max=math.log(100.0)).exp()

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Return `scale`, float32 `[1]`."""
        return {"scale": self.log_scale.clamp(max=math.log(100.0)).exp().reshape(1)}


class UserHead(nn.Module):
    """Logit of one vector: linear, or with one hidden layer of rectified units; it starts as a constant.

    Attributes:
        inner: `[hidden, dim]` with bias, or None.
        outer: `[1, hidden or dim]` with bias.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden) if hidden else None
        self.outer = nn.Linear(hidden or dim, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    @property
    def bias(self) -> Tensor:
        """The constant, `[1]`."""
        bias: Tensor = self.outer.bias
        return bias

    def forward(self, users: Tensor) -> Tensor:
        """Return logits `[n]` of unit vectors `[n, dim]`."""
        states = users * math.sqrt(users.shape[1])
        if self.inner is not None:
            states = torch.relu(self.inner(states))
        out: Tensor = self.outer(states).squeeze(1)
        return out

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Return arrays for unit vectors: outer `[width]`, bias `[1]`, and inner `[hidden, dim]`, inner_bias."""
        if self.inner is None:
            root = math.sqrt(self.outer.weight.shape[1])
            return {"outer": self.outer.weight[0] * root, "bias": self.outer.bias}
        root = math.sqrt(self.inner.weight.shape[1])
        return {
            "outer": self.outer.weight[0].clone(),
            "bias": self.outer.bias,
            "inner": self.inner.weight * root,
            "inner_bias": self.inner.bias,
        }
