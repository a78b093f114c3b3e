"""One shared transformer, a projection for each side, and a head for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from retrieval.encoder.backbone import Backbone
from retrieval.encoder.batch import Batch, PairLabels, View
from retrieval.encoder.config import EncoderConfig, Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.heads import PairHead, RetrievalHead, RowHead, TagHead, product_logit
from retrieval.encoder.losses import info_nce, masked_bce, masked_cross_entropy, masked_squares

# Free text asks for items, so it shares the items' projection: a query that equals an item's text finds that item.
SIDE_OF: dict[Kind, str] = {"user": "user", "item": "item", "text": "item"}
# The views whose vectors a contrastive task compares, by what its rows are on.
_SEARCHED: dict[str, tuple[View, ...]] = {"pair": ("user", "item"), "text": ("text", "item")}
_KIND_OF: dict[View, Kind] = {"user": "user", "item": "item", "item_row": "item", "text": "text"}


@dataclass(frozen=True, kw_only=True)
class Features:
    """What every head reads: the tensors between the shared layers and the tasks' own.

    Attributes:
        vectors: by view unit vectors `[rows, dim]`.
        searched: the same vectors of the views that contrastive tasks read, through which alone the projections learn;
            empty where there is no such task, and all heads teach the projections.
        tokens: token states `[tokens, dim]` of the texts that carry tags, or None.
        starts: int64 `[rows of the view text]` first of each text's states.
    """

    vectors: Mapping[View, Tensor]
    searched: Mapping[View, Tensor] = field(default_factory=dict)
    tokens: Tensor | None = None
    starts: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Return those with a gradient, in a fixed order."""
        found = [*self.vectors.values(), *self.searched.values(), *(() if self.tokens is None else (self.tokens,))]
        return [tensor for tensor in found if tensor.requires_grad]


class MultiTaskEncoder(nn.Module):
    """Texts to unit vectors, vectors to logits.

    A text's vector is `normalise(x + P x)` of its normalised pooled states x, with P learnt for each side from zero:
    the first vectors are the backbone's own. Where a task is contrastive, such tasks alone teach P: it is all that they
    have besides the backbone, while every other head multiplies the vectors by matrices of its own.

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

    def vectors(self, pooled: Tensor, kind: Kind, *, teach: bool = True) -> Tensor:
        """Return unit vectors `[n, dim]` of pooled states `[n, dim]`; the projection learns if `teach`."""
        unit = functional.normalize(pooled, dim=1)
        projection = self.projections[SIDE_OF[kind]]
        assert isinstance(projection, nn.Linear)
        weight = projection.weight if teach else projection.weight.detach()
        return functional.normalize(unit + functional.linear(unit, weight), dim=1)

    def features(self, pooled: Mapping[View, Tensor]) -> Features:
        """Return what the heads read of each view's rows, of pooled states `[rows, dim]`; without tokens."""
        views = {view for task in self._searching for view in _SEARCHED[task.on]}
        return Features(
            vectors={view: self.vectors(states, _KIND_OF[view], teach=not views) for view, states in pooled.items()},
            searched={view: self.vectors(states, _KIND_OF[view]) for view, states in pooled.items() if view in views},
        )

    @property
    def _searching(self) -> list[EncoderTask]:
        return [task for task in self.tasks if task.kind == "contrastive"]

    @property
    def searching(self) -> frozenset[str]:
        """The contrastive tasks, which teach the projections that all others read."""
        return frozenset(task.name for task in self._searching)

    @property
    def own(self) -> dict[str, nn.Module]:
        """What belongs to each task alone: its head, and a projection that no other task teaches."""
        found = {name: nn.ModuleList([head]) for name, head in self.heads.items()}
        for side, projection in self.projections.items():
            taught = {task.name for task in self._searching for view in _SEARCHED[task.on] if _side(view) == side}
            if len(taught) == 1:
                found[taught.pop()].append(projection)
        return dict(found)

    def losses(self, batch: Batch, features: Features, tasks: Sequence[EncoderTask] | None = None) -> dict[str, Tensor]:
        """Return the loss of each task present in the batch.

        Args:
            batch: labels.
            features: of the batch's texts.
            tasks: which; None takes all. A child's parent is scored with it, whether or not it is asked for.

        Returns:
            Scalars by task; a task without a label in the batch, or whose token states aren't given, has no entry.
        """
        logits: dict[str, Tensor] = {}
        found: dict[str, Tensor | None] = {}
        for task in self.tasks if tasks is None else tasks:
            if batch.labels(task.name) is not None:
                found[task.name] = self._loss(task, batch, self.logits(task, features, logits))
            elif task.name in batch.tags and features.tokens is not None:
                logit = self.tag_logits(task, batch, features)
                found[task.name] = functional.cross_entropy(logit, batch.tags[task.name].code.to(logit.device))
        return {name: loss for name, loss in found.items() if loss is not None}

    def logits(self, task: EncoderTask, features: Features, known: dict[str, Tensor]) -> Tensor:
        """Return a task's logits, a child's with its parent's in them.

        Args:
            task: any but one on tokens.
            features: vectors of the views that its rows are of.
            known: logits by task so far; filled, so that each head runs once.

        Returns:
            `[rows, items]` on pairs and of a contrastive task, `[rows, classes]` of a multiclass one, else `[rows]`.
        """
        if task.name not in known:
            head = self.heads[task.name]
            vectors = {**features.vectors, **features.searched} if task.kind == "contrastive" else features.vectors
            if task.on == "pair" or task.kind == "contrastive":
                own: Tensor = head(vectors["user" if task.on == "pair" else "text"], vectors["item"])
            else:
                classes = [self.logits(self.task(name), features, known) for name in task.energy]
                own = head(vectors["item_row" if task.on == "item" else task.on], classes)
            if task.parent is not None:
                own = product_logit(self.logits(self.task(task.parent), features, known), own)
            known[task.name] = own
        return known[task.name]

    def task(self, name: str) -> EncoderTask:
        """Return the task of this name, which there is."""
        return next(task for task in self.tasks if task.name == name)

    def _loss(self, task: EncoderTask, batch: Batch, logits: Tensor) -> Tensor | None:
        device = logits.device
        if task.kind == "contrastive":
            pairs = batch.pairs[task.name]
            log_q = batch.log_q.to(device) if self.logq else None
            return info_nce(logits, pairs.drawn.to(device), pairs.excluded.to(device), log_q)
        labels = batch.labels(task.name)
        assert labels is not None
        label, present = labels.label.to(device), labels.present.to(device)
        if task.kind == "multiclass":
            return masked_cross_entropy(logits, label, present)
        if task.kind == "regression":
            return masked_squares(logits, label, present)
        if isinstance(labels, PairLabels):
            logits = logits + labels.shift.to(device)
        return masked_bce(logits, label, present)

    def tag_logits(self, task: EncoderTask, batch: Batch, features: Features) -> Tensor:
        """Return a task's logits `[units, tags]` on tokens: the batch has its tags, the features their states."""
        assert features.tokens is not None
        assert features.starts is not None
        tags, device = batch.tags[task.name], features.tokens.device
        spots = features.starts[tags.text.to(device)] + tags.token.to(device)
        found: Tensor = self.heads[task.name](features.tokens[spots])
        return found

    @torch.no_grad()
    def set_constant(self, name: str, constant: Tensor, *, spread: float = 1.0) -> None:
        """Let a head start at its best constant.

        Args:
            name: a task that is not contrastive; a parent is set before its children.
            constant: `[outputs]`; for a child, the logit of its whole probability.
            spread: standard deviation of a regression's labels.
        """
        task, head = self.task(name), self.heads[name]
        assert isinstance(head, PairHead | RowHead | TagHead)
        if task.parent is not None:
            parent = self.heads[task.parent]
            assert isinstance(parent, PairHead | RowHead)
            # Of the child's rate, the share that the parent's leaves to its own head.
            constant = torch.logit((torch.sigmoid(constant) / torch.sigmoid(parent.bias)).clamp(1e-6, 1 - 1e-3))
        if isinstance(head, PairHead | RowHead):
            head.scale.fill_(spread)
        head.bias.copy_(constant / spread)


def _side(view: View) -> str:
    return SIDE_OF[_KIND_OF[view]]


def _head(task: EncoderTask, dim: int, config: EncoderConfig) -> nn.Module:
    if task.kind == "contrastive":
        return RetrievalHead(config.temperature)
    if task.kind == "token_tags":
        return TagHead(dim, len(task.classes))
    if task.on == "pair":
        return PairHead(dim, config.rank)
    outputs = len(task.classes) if task.kind == "multiclass" else 1
    return RowHead(dim, config.hidden, outputs, energies=len(task.energy))
