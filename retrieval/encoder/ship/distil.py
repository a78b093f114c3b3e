"""A pruned backbone learns its teacher's vectors on unlabelled texts (Hinton et al., 2015; Reimers & Gurevych, 2020).

Projections and heads stay as they were trained: they read nothing but these vectors, or the token states that heads of
tags read, which the student then learns beside them.
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
        before: mean cosine of their vectors at the start.
        after: the same at the end.
    """

    held_out: int
    before: float
    after: float


def distil(
    teacher: Backbone, student: Backbone, table: TokenTable, config: DistilConfig, *, tokens: bool = False,
    progress: bool = True,
) -> DistilReport:  # fmt: skip
    """Train the student to give the teacher's vectors; the loss of a text is 1 - cos(student, teacher).

    With token states, a token's loss is the same of its states, and their mean is added to that of the texts.

    Adding the squared error between the batch's similarities by either model, at ten times the weight, changed .870 of
    the ten nearest texts to .860: left out.

    Args:
        teacher: stays as it is, on any device.
        student: changed in place, on the same device; of the same tokenizer and width.
        table: the texts, each once.
        config: how long, how fast.
        tokens: teach the token states too, at the price of the teacher's pass in each step.
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
        return _Distillation(teacher, student, table, config, bar, tokens=tokens).run(order[n_held:], order[:n_held])


class _Distillation:
    """One run's state."""

    def __init__(
        self, teacher: Backbone, student: Backbone, table: TokenTable, config: DistilConfig, bar: Bar, *, tokens: bool
    ) -> None:
        self.student, self.config, self.bar, self.tokens = student, config, bar, tokens
        student.requires_grad_(True)
        if not config.embeddings:
            set_trainable(student, len(student.layers()))
        self.device = next(student.parameters()).device
        self.pooler = TextPooler(student, table, train_layers=None, cache_mb=0)
        self.teacher = TextPooler(teacher, table, train_layers=None, cache_mb=0)
        self.targets = self._embed(self.teacher, np.arange(len(table.lengths)), "distillation: teacher's vectors")

    def run(self, learnt: Int64, held: Int64) -> DistilReport:
        """Train on some texts, compare on others."""
        config, before = self.config, self._nearness(held)
        parameters = list(self.student.parameters())
        optimizer = make_optimizer([(parameters, config.learning_rate)], weight_decay=config.weight_decay)
        schedule = warmup_cosine(optimizer, config.steps, config.lr_warmup)
        rng = np.random.default_rng(config.seed)
        for _ in self.bar.track("distillation", range(config.steps)):
            texts = rng.choice(learnt, config.batch, replace=False)
            loss = self._loss(texts)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(parameters, config.clip)
            optimizer.step()
            schedule.step()
        report = DistilReport(held_out=len(held), before=before, after=self._nearness(held))
        log.info("encoder_distilled", steps=config.steps, **vars(report))
        return report

    def _loss(self, texts: Int64) -> Tensor:
        with_tokens = np.full(len(texts), self.tokens)
        with autocast(self.device):
            found = self.pooler.states(texts, with_tokens)
        loss = _distance(found.pooled, self._targets(texts))
        if found.tokens is None:
            return loss
        with torch.no_grad(), autocast(self.device):
            taught = self.teacher.states(texts, with_tokens).tokens
        assert taught is not None, "both poolers were asked for the same texts' tokens"
        return loss + _distance(found.tokens, taught)

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


def _distance(found: Tensor, taught: Tensor) -> Tensor:
    """Return the mean of 1 - cos over rows `[n, dim]`."""
    return (1 - functional.cosine_similarity(found.float(), taught.float())).mean()
