"""What each task adds to the shared vectors: small functions of one or two of them, cheap to serve with numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

# An energy's weight begins at 0 and is to come near 1 at the rate of parameters that come near .1.
_ENERGY_GAIN: Final = 10.0


class PairHead(nn.Module):
    """Low-rank bilinear logit of a user and an item: `(U u) . (V v) + a . u + b . v + c`.

    Vectors have length 1; inside the head they are scaled by sqrt(dim), so that their entries are about 1 and one
    learning rate suits every parameter. U and V start as the same orthonormal projection, scaled so that the logit is a
    constant plus `gain` x dim x the cosine within it.

    Attributes:
        left, right: U and V, `[rank, dim]`.
        user, item: a and b, `[dim]`.
        bias: c, `[1]`.
        scale: of the output: a regression's standard deviation, so that one learning rate suits every unit.
    """

    scale: Tensor

    def __init__(self, dim: int, rank: int, *, gain: float = 0.05) -> None:
        super().__init__()
        start = nn.init.orthogonal_(torch.empty(min(rank, dim), dim)) * math.sqrt(gain)
        self.left = nn.Parameter(start.clone())
        self.right = nn.Parameter(start.clone())
        self.user = nn.Parameter(torch.zeros(dim))
        self.item = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return logits `[n_users, n_items]` of unit vectors `[n_users, dim]` and `[n_items, dim]`."""
        root = math.sqrt(users.shape[1])
        users, items = users * root, items * root
        bilinear = (users @ self.left.T) @ (items @ self.right.T).T
        return self.scale * (bilinear + (users @ self.user)[:, None] + (items @ self.item)[None, :] + self.bias)

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Return arrays for unit vectors: left and right `[rank, dim]`, user and item `[dim]`, bias `[1]`."""
        root = math.sqrt(self.left.shape[1])
        return {
            "left": self.left * (root * self.scale),
            "right": self.right * root,
            "user": self.user * (root * self.scale),
            "item": self.item * (root * self.scale),
            "bias": self.bias * self.scale,
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


class RowHead(nn.Module):
    """Logits of one vector: linear, or with one hidden layer of rectified units; they start as a constant.

    Args:
        dim: of the vectors.
        hidden: width of the hidden layer; 0 leaves it out.
        outputs: 1 for a binary task or a number, the number of classes for others.
        energies: other heads whose classes' energy is added, times a weight: log sum exp of all their logits tells how
            much a row is like any class at all (Liu et al., 2020). 0 leaves it out.

    Attributes:
        inner: `[hidden, dim]` with bias, or None.
        outer: `[outputs, hidden or dim]` with bias.
        scale: of the output, as in `PairHead`.
        energy: its weight over 10, `[1]`, or None.
        sharpness: `[energies]`, what each of those heads' logits are multiplied by first: it takes their calibration
            back, which came after this head had learnt.
    """

    scale: Tensor
    sharpness: Tensor

    def __init__(self, dim: int, hidden: int, outputs: int = 1, *, energies: int = 0) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden) if hidden else None
        self.outer = nn.Linear(hidden or dim, outputs)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.energy = nn.Parameter(torch.zeros(1)) if energies else None
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("sharpness", torch.ones(energies))

    @property
    def bias(self) -> Tensor:
        """The constant, `[outputs]`."""
        bias: Tensor = self.outer.bias
        return bias

    def forward(self, vectors: Tensor, classes: Sequence[Tensor] = ()) -> Tensor:
        """Return logits `[n]`, or `[n, outputs]` of several.

        Args:
            vectors: unit vectors `[n, dim]`.
            classes: logits `[n, classes]` of each head whose energy is added.
        """
        states = vectors * math.sqrt(vectors.shape[1])
        if self.inner is not None:
            states = torch.relu(self.inner(states))
        out: Tensor = self.outer(states)
        if self.energy is not None:
            sharpened = [logits * factor for logits, factor in zip(classes, self.sharpness, strict=True)]
            energy = torch.logsumexp(torch.cat(sharpened, dim=1), dim=1, keepdim=True)
            out = out + _ENERGY_GAIN * self.energy * energy
        out = out * self.scale
        return out.squeeze(1) if out.shape[1] == 1 else out

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Return arrays for unit vectors.

        They are outer `[outputs, width]`, bias `[outputs]`; inner and inner_bias of a hidden layer; energy
        `[1 + energies]`, its weight and then the factor of each head's logits.
        """
        found = {"outer": self.outer.weight * self.scale, "bias": self.outer.bias * self.scale}
        if self.inner is None:
            found["outer"] = found["outer"] * math.sqrt(self.outer.weight.shape[1])
        else:
            root = math.sqrt(self.inner.weight.shape[1])
            found |= {"inner": self.inner.weight * root, "inner_bias": self.inner.bias}
        if self.energy is not None:
            found["energy"] = torch.cat([_ENERGY_GAIN * self.energy * self.scale, self.sharpness])
        return found

    @torch.no_grad()
    def set_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """Let `arrays()` be these, of the same shapes; the output's scale stays as it is."""
        scale = self.scale.cpu()
        outer = arrays["outer"] / scale
        if self.inner is None:
            outer = outer / math.sqrt(self.outer.weight.shape[1])
        else:
            self.inner.weight.copy_(arrays["inner"] / math.sqrt(self.inner.weight.shape[1]))
            self.inner.bias.copy_(arrays["inner_bias"])
        self.outer.weight.copy_(outer)
        self.outer.bias.copy_(arrays["bias"] / scale)
        if self.energy is not None:
            self.energy.copy_(arrays["energy"][:1] / (_ENERGY_GAIN * scale))
            self.sharpness.copy_(arrays["energy"][1:])


class TagHead(nn.Module):
    """Logits of a token's state: one linear layer over the normalised state.

    Attributes:
        norm: of the state, without parameters of its own: the linear layer has them.
        outer: `[tags, dim]` with bias.
    """

    def __init__(self, dim: int, tags: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.outer = nn.Linear(dim, tags)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    @property
    def bias(self) -> Tensor:
        """The constant, `[tags]`."""
        bias: Tensor = self.outer.bias
        return bias

    def forward(self, states: Tensor) -> Tensor:
        """Return logits `[tokens, tags]` of states `[tokens, dim]`."""
        out: Tensor = self.outer(self.norm(states))
        return out

    @torch.no_grad()
    def arrays(self) -> dict[str, Tensor]:
        """Return outer `[tags, dim]` and bias `[tags]`, for normalised states."""
        return {"outer": self.outer.weight.clone(), "bias": self.outer.bias}


def product_logit(parent: Tensor, own: Tensor) -> Tensor:
    """Return the logit of sigmoid(parent) x sigmoid(own), elementwise: a child's probability (ESMM, Ma et al., 2018).

    With p = 1 / ((1 + e^-a)(1 + e^-b)), p / (1 - p) = 1 / (e^-a + e^-b + e^-(a+b)).
    """
    return -torch.logsumexp(torch.stack([-parent, -own, -parent - own]), dim=0)
