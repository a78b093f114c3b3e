"""A pruned backbone learns its teacher's vectors on unlabelled texts (Hinton et al., 2015; Reimers & Gurevych, 2020).

Projections and heads read nothing but these vectors, so they stay as they were trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Backbone, set_trainable
from retrieval.encoder.optimise import autocast, deterministic, make_optimizer, warmup_cosine
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.record import Bar
from retrieval.encoder.ship.config import DistilConfig
from retrieval.encoder.tokens import Int64, TokenTable

log = structlog.get_logger(__name__)

# Texts embedded at once without gradients.
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class DistilReport:
    """The student beside its teacher, on texts that it never learnt from.

    Attributes:
        held_out: texts compared.
        before: mean cosine of student and teacher at the start.
        after: the same at the end.
    """

    held_out: int
    before: float
    after: float


def distil(
    teacher: Backbone, student: Backbone, table: TokenTable, config: DistilConfig, *, progress: bool = True
) -> DistilReport:
    """Train the student to give the teacher's vectors; the loss of a text is 1 - cos(student, teacher).

    Adding the squared error between the batch's similarities by either model, at ten times the weight, changed .870 of
    the ten nearest texts to .860: left out.

    Args:
        teacher: stays as it is, on any device.
        student: changed in place, on the same device; of the same tokenizer and width.
        table: the texts, each once.
        config: how long, how fast.
        progress: show a bar where the terminal is one.

    Returns:
        How near the student came.

    Raises:
        InvalidInputError: the student's vectors are of another length, or there are too few texts.
    """
    if student.dim != teacher.dim:
        raise InvalidInputError(f"student: expected vectors of the teacher's {teacher.dim}, found {student.dim}")
    texts = len(table.lengths)
    order = np.random.default_rng(config.seed).permutation(texts)
    n_held = max(1, round(texts * config.held_out))
    if texts - n_held < config.batch:
        raise InvalidInputError(
            f"distil.batch: expected at most the {texts - n_held} distinct texts that are not held out, found "
            f"{config.batch}"
        )
    with deterministic(), Bar(shown=progress) as bar:
        return _Distillation(teacher, student, table, config, bar).run(order[n_held:], order[:n_held])


class _Distillation:
    """One run's state."""

    def __init__(self, teacher: Backbone, student: Backbone, table: TokenTable, config: DistilConfig, bar: Bar) -> None:
        self.student, self.config, self.bar = student, config, bar
        student.requires_grad_(True)
        if not config.embeddings:
            set_trainable(student, len(student.layers()))
        self.device = next(student.parameters()).device
        self.pooler = TextPooler(student, table, train_layers=None, cache_mb=0)
        taught = TextPooler(teacher, table, train_layers=None, cache_mb=0)
        self.targets = self._embed(taught, np.arange(len(table.lengths)), "distillation: teacher's vectors")

    def run(self, learnt: Int64, held: Int64) -> DistilReport:
        """Train on some texts, compare on others."""
        config, before = self.config, self._nearness(held)
        parameters = list(self.student.parameters())
        optimizer = make_optimizer([(parameters, config.learning_rate)], weight_decay=config.weight_decay)
        schedule = warmup_cosine(optimizer, config.steps, config.lr_warmup)
        rng = np.random.default_rng(config.seed)
        for _ in self.bar.track("distillation", range(config.steps)):
            texts = rng.choice(learnt, config.batch, replace=False)
            with autocast(self.device):
                vectors = self.pooler(texts).float()
            loss = (1 - functional.cosine_similarity(vectors, self._targets(texts))).mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            schedule.step()
        report = DistilReport(held_out=len(held), before=before, after=self._nearness(held))
        log.info("encoder_distilled", steps=config.steps, **vars(report))
        return report

    def _targets(self, texts: Int64) -> Tensor:
        return self.targets[torch.from_numpy(texts).to(self.device)]

    def _nearness(self, texts: Int64) -> float:
        """Return the mean cosine of student and teacher."""
        found = self._embed(self.pooler, texts, "distillation: held-out texts")
        return float(functional.cosine_similarity(found, self._targets(texts)).mean())

    @torch.no_grad()
    def _embed(self, pooler: TextPooler, texts: Int64, name: str) -> Tensor:
        """Return pooled states `[n, dim]`, float32."""
        parts = np.array_split(texts, max(1, len(texts) // _CHUNK))
        with autocast(self.device):
            return torch.cat([pooler(part).float() for part in self.bar.track(name, parts)])
