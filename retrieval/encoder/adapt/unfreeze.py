"""Gradual unfreezing: the top layer learns first, then one more after every so many steps (Howard and Ruder, 2018)."""

from __future__ import annotations

from torch import Tensor, nn

from retrieval.encoder.adapt.depth import by_depth
from retrieval.encoder.backbone import Backbone


class Unfreezing:
    """Opens layers step by step; it begins by closing all but the top one.

    Args:
        backbone: only those of its parameters that learn now will ever be open.
        every: steps between two layers.

    Attributes:
        open: groups that learn now.
    """

    def __init__(self, backbone: Backbone, every: int) -> None:
        self.every = every
        learning = [{name: p for name, p in group.items() if p.requires_grad} for group in by_depth(backbone)]
        self._groups: list[dict[str, nn.Parameter]] = [group for group in reversed(learning) if group]
        self.open = 0
        for group in self._groups:
            _set(group, learns=False)

    def at(self, step: int) -> dict[str, Tensor]:
        """Open what learns from this step on, counted from 1.

        Returns:
            Copies of the weights that were closed until now, by their name in the backbone; empty in most steps.
        """
        due = min(len(self._groups), 1 + (step - 1) // self.every)
        fresh = self._groups[self.open : due]
        self.open = due
        for group in fresh:
            _set(group, learns=True)
        return {name: p.detach().clone() for group in fresh for name, p in group.items()}


def _set(group: dict[str, nn.Parameter], *, learns: bool) -> None:
    for parameter in group.values():
        parameter.requires_grad_(learns)
