"""One shared transformer, a projection for each side, and a head for each task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.encoder.backbone import Backbone
from retrieval.encoder.batches import Batch
from retrieval.encoder.config import EncoderConfig, Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.heads import PairHead, RetrievalHead, UserHead
from retrieval.encoder.losses import info_nce, masked_bce

# Free text asks for items, so it shares the items' projection: a query that equals an item's text finds that item.
SIDE_OF: dict[Kind, str] = {"user": "user", "item": "item", "text": "item"}


class MultiTaskEncoder(nn.Module):
    """Texts to unit vectors, vectors to logits.

    A text's vector is `normalise(x + P x)` of its normalised pooled states x, with P learnt for each side from zero:
    the first vectors are the backbone's own.

    Attributes:
        backbone: shared by all kinds of text.
        tasks: heads in order.
        heads: by task name.
        projections: by side, `[dim, dim]`.
    """

    def __init__(self, backbone: Backbone, tasks: Sequence[EncoderTask], config: EncoderConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.tasks = tuple(tasks)
        self.logq = config.logq
        self.projections = nn.ModuleDict(
            {side: nn.Linear(backbone.dim, backbone.dim, bias=False) for side in ("user", "item")}
        )
        for projection in self.projections.values():
            assert isinstance(projection, nn.Linear)
            nn.init.zeros_(projection.weight)
        self.heads = nn.ModuleDict({task.name: _head(task, backbone.dim, config) for task in tasks})

    def vectors(self, pooled: Tensor, kind: Kind) -> Tensor:
        """Return unit vectors `[n, dim]` of pooled states `[n, dim]`."""
        unit = functional.normalize(pooled, dim=1)
        return functional.normalize(unit + self.projections[SIDE_OF[kind]](unit), dim=1)

    def losses(self, batch: Batch, user_pooled: Tensor, item_pooled: Tensor) -> dict[str, Tensor]:
        """Return the loss of each task present in the batch.

        Args:
            batch: labels.
            user_pooled: `[users, dim]` pooled states of `batch.user_texts`.
            item_pooled: `[distinct texts, dim]` of `batch.item_texts`.

        Returns:
            Scalars by task; a task without a label in the batch has no entry.
        """
        device = user_pooled.device
        users = self.vectors(user_pooled, "user")
        items = self.vectors(item_pooled, "item")[batch.item_index.to(device)]
        found: dict[str, Tensor | None] = {}
        for task in self.tasks:
            if task.on == "user" and task.name in batch.users:
                label, present = (part.to(device) for part in batch.users[task.name])
                found[task.name] = masked_bce(self.heads[task.name](users), label, present)
            elif task.on == "pair" and task.name in batch.pairs:
                found[task.name] = self._pair_loss(task, batch, self.heads[task.name](users, items))
        return {name: loss for name, loss in found.items() if loss is not None}

    def _pair_loss(self, task: EncoderTask, batch: Batch, logits: Tensor) -> Tensor | None:
        labels, device = batch.pairs[task.name], logits.device
        if task.kind == "contrastive":
            log_q = batch.log_q.to(device) if self.logq else None
            return info_nce(logits, labels.drawn.to(device), labels.excluded.to(device), log_q)
        return masked_bce(logits + labels.shift.to(device), labels.label.to(device), labels.present.to(device))

    @torch.no_grad()
    def set_constant(self, name: str, logit: float) -> None:
        """Let a binary head start at its best constant."""
        head = self.heads[name]
        if isinstance(head, PairHead | UserHead):
            head.bias.fill_(logit)


def _head(task: EncoderTask, dim: int, config: EncoderConfig) -> nn.Module:
    if task.on == "user":
        return UserHead(dim, config.hidden)
    if task.kind == "contrastive":
        return RetrievalHead(config.temperature)
    return PairHead(dim, config.rank)
