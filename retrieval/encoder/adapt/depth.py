"""A backbone's parameters by depth, and a learning rate for each depth."""

from __future__ import annotations

from torch import nn

from retrieval.encoder.backbone import Backbone

Rated = tuple[list[nn.Parameter], float]


def by_depth(backbone: Backbone) -> list[dict[str, nn.Parameter]]:
    """Return named parameters from the bottom up: what stands below the blocks, then each block.

    What stands above the blocks, such as a last norm, counts to the top one.

    Raises:
        BackboneError: the backbone has no list of blocks.
    """
    depth_of = {id(p): depth for depth, layer in enumerate(backbone.layers(), 1) for p in layer.parameters()}
    groups: list[dict[str, nn.Parameter]] = [{} for _ in range(len(backbone.layers()) + 1)]
    passed = False
    for name, parameter in backbone.named_parameters():
        # Modules are registered in the order of their use, so that the rest stands before the blocks or after them.
        depth = depth_of.get(id(parameter))
        passed = passed or depth is not None
        groups[depth if depth is not None else -1 if passed else 0][name] = parameter
    return groups


def layer_rates(backbone: Backbone, rate: float, decay: float) -> list[Rated]:
    """Return parameters with their learning rates: `rate` at the top, times `decay` for each layer below.

    With L blocks, block l (from 1) has rate * decay ** (L - l) and the embeddings have rate * decay ** L (Howard and
    Ruder, 2018; their decay is 1 / 2.6).

    Args:
        backbone: frozen parameters are in the groups, too.
        rate: of the top block.
        decay: 1 puts everything into one group.
    """
    if decay == 1.0:
        return [(list(backbone.parameters()), rate)]
    groups = by_depth(backbone)
    top = len(groups) - 1
    return [(list(group.values()), rate * decay ** (top - depth)) for depth, group in enumerate(groups)]
