"""Domain-adaptive pretraining (Gururangan et al., 2020): the backbone learns to predict its domain's texts.

Use:
    result = pretrain(BackboneConfig(), item_texts, PretrainConfig(), folder)
    train(data, EncoderConfig(backbone=result.backbone), out=...)
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from infra.errors import InvalidInputError
from infra.files import TargetExistsError, atomic_directory, sha256_file
from retrieval.encoder.backbone import WEIGHTS
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.optimise import autocast, deterministic, make_optimizer, warmup_cosine
from retrieval.encoder.pretrain.config import PretrainConfig
from retrieval.encoder.pretrain.language_model import LanguageModel, load_language_model, save_language_model
from retrieval.encoder.pretrain.objectives import LanguageBatch, MaskedTokens, NextTokens, Objective
from retrieval.encoder.record import Bar, Best, Validation
from retrieval.encoder.tokens import Int64, chunks, tokenize

log = structlog.get_logger(__name__)

# A loss over the masks of 2,000 texts is known to about a hundredth; more would take longer than the steps between.
HELD_OUT_LIMIT: Final = 2000
VALIDATION_TOKENS: Final = 4096
# Batches among whose texts those of similar length come together, so that little of a batch is padding.
POOL: Final = 16


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What the pass gave; losses are means over the predicted tokens of the texts held out, in nats.

    Attributes:
        backbone: the one to train on: the configuration given, with the folder written and its weights' digest.
        objective: `mlm` or `clm`.
        head_is_new: the language-modelling head began at random, so `before` measures it and not the backbone.
        before: loss before the first step.
        transformer_before: loss before the transformer's first step: of a new head after its own steps.
        after: loss of the weights kept.
        history: measurements in order, phases `head` and `pretrain`.
        steps: on the whole model done.
        texts: distinct texts learnt from.
        held_out: distinct texts measured on.
        seconds: wall time.
    """

    backbone: BackboneConfig
    objective: str
    head_is_new: bool
    before: float
    transformer_before: float
    after: float
    history: list[Validation]
    steps: int
    texts: int
    held_out: int
    seconds: float

    @property
    def perplexities(self) -> tuple[float, float, float]:
        """Exponentials of `before`, `transformer_before` and `after`; of a masked model, over masked tokens alone."""
        return math.exp(self.before), math.exp(self.transformer_before), math.exp(self.after)


def pretrain(
    backbone_config: BackboneConfig, texts: Sequence[str], config: PretrainConfig, out: Path, *, progress: bool = True
) -> PretrainResult:
    """Let the backbone learn from unlabelled texts, and write it as a folder that `BackboneConfig.name` may name.

    A BERT-like backbone predicts masked tokens, a causal one the next token. The same texts (in any order) and
    configuration give the same weights on the same machine and number of threads.

    Args:
        backbone_config: where to start from; its prefixes and lengths are not used.
        texts: any language that the tokenizer knows; equal ones count once.
        config: budget, rates, seed.
        out: folder to appear; gets the backbone's files, without a language-modelling head, and the head's beside.
        progress: show a bar where the terminal is one; log lines are written in any case.

    Raises:
        BackboneError: no such backbone.
        InvalidInputError: fewer than two distinct texts with something to predict, or `max_tokens` beyond what the
            backbone reads.
        TargetExistsError: there is something at `out`.
    """
    if out.exists():
        raise TargetExistsError(f"out: expected no entry at {out}, found one")
    began = time.perf_counter()
    torch.manual_seed(config.seed)
    with deterministic(), Bar(shown=progress) as bar:
        run = _Pretraining(backbone_config, texts, config, bar)
        before, steps = run.learn()
    with atomic_directory(out) as folder:
        save_language_model(run.language, folder)
    digest = sha256_file(out / WEIGHTS)
    result = PretrainResult(
        backbone=backbone_config.model_copy(update={"name": str(out), "sha256": digest}),
        objective=run.objective.name,
        head_is_new=run.language.head_is_new,
        before=run.history[0].mean,
        transformer_before=before,
        after=min(entry.mean for entry in run.history if entry.phase == "pretrain"),
        history=run.history,
        steps=steps,
        texts=len(run.training),
        held_out=len(run.held_out),
        seconds=time.perf_counter() - began,
    )
    perplexities = [round(value, 2) for value in result.perplexities]
    log.info("backbone_pretrained", steps=steps, perplexities=perplexities, seconds=round(result.seconds, 1))
    return result


class _Pretraining:
    """One run's state."""

    def __init__(self, backbone: BackboneConfig, texts: Sequence[str], config: PretrainConfig, bar: Bar) -> None:
        self.config, self.bar = config, bar
        self.rng = np.random.default_rng(config.seed)
        self.language = load_language_model(backbone)
        _check_length(self.language, config)
        tokenizer = self.language.backbone.tokenizer
        plain = backbone.model_copy(update={"prefixes": {}, "max_tokens": {"item": config.max_tokens}})
        self.table, _ = tokenize(tokenizer, {"item": texts}, plain)
        self.objective: Objective = (
            NextTokens(self.table)
            if self.language.backbone.causal
            else MaskedTokens(self.table, tokenizer, config.mask_share)
        )
        self.training, self.held_out = split(self.objective.usable(), config.held_out, self.rng)
        self.history: list[Validation] = []
        log.info("pretraining_texts", given=len(texts), training=len(self.training), held_out=len(self.held_out))

    def learn(self) -> tuple[float, int]:
        """Run both phases; return the loss before the transformer's first step and the steps on the whole model."""
        config, head = self.config, self.language.head_parameters()
        if self.language.head_is_new and config.head_steps and head:
            self.language.backbone.requires_grad_(False)
            self._phase("head", config.head_steps, config.head_learning_rate)
            self.language.backbone.requires_grad_(True)
        first = len(self.history)
        steps = self._phase("pretrain", config.steps, config.learning_rate)
        return self.history[first].mean, steps

    def _phase(self, name: str, steps: int, rate: float) -> int:
        """Take steps on what is trainable until they or the patience end; keep the best weights."""
        config, model, best = self.config, self.language.model, Best()
        optimizer = make_optimizer([(model.parameters(), rate)], weight_decay=config.weight_decay)
        schedule = warmup_cosine(optimizer, steps, config.lr_warmup)
        order = similar_lengths(self.training, self.table.lengths, config.batch, self.rng)
        best.offer(self._validate(name, 0), model)
        done = 0
        for step in self.bar.track(f"backbone: {name}", range(1, steps + 1)):
            optimizer.zero_grad(set_to_none=True)
            self._losses(self.objective(next(order), self.rng)).mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            done = step
            if step % config.validate_every == 0 or step == steps:
                best.offer(self._validate(name, step), model)
                if best.misses >= config.patience:
                    break
        best.restore(model)
        return done

    def _losses(self, batch: LanguageBatch) -> Tensor:
        """Return the loss of each predicted token, `[spots]`."""
        device = self.language.device
        with autocast(device):
            logits = self.language.logits_at(batch.ids.to(device), batch.mask.to(device), batch.spots.to(device))
        return functional.cross_entropy(logits.float(), batch.targets.to(device), reduction="none")

    @torch.no_grad()
    def _validate(self, phase: str, step: int) -> Validation:
        """Measure the texts held out, each time behind the same masks."""
        fixed = np.random.default_rng(self.config.seed)
        groups = chunks(self.table.lengths[self.held_out], VALIDATION_TOKENS)
        losses = torch.cat([self._losses(self.objective(self.held_out[group], fixed)) for group in groups])
        # A loss that is no number must not pass for the best one.
        mean = float(losses.double().mean().nan_to_num(nan=math.inf))
        found = Validation(phase=phase, step=step, losses={self.objective.name: mean}, mean=mean)
        self.history.append(found)
        log.info("pretraining_validated", phase=phase, step=step, loss=round(mean, 4))
        return found


def split(texts: Int64, share: float, rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Divide texts at random into those learnt from and those held out, at least one each.

    Args:
        texts: int64 `[n]`.
        share: to hold out, of at most `HELD_OUT_LIMIT` texts.
        rng: of the choice.

    Raises:
        InvalidInputError: fewer than two texts.
    """
    if len(texts) < 2:
        raise InvalidInputError(
            f"texts: expected at least two distinct ones with a token to predict (one is held out), found {len(texts)}"
        )
    size = min(HELD_OUT_LIMIT, len(texts) - 1, max(1, round(share * len(texts))))
    order = rng.permutation(texts)
    return order[size:], order[:size]


def similar_lengths(texts: Int64, lengths: Int64, size: int, rng: np.random.Generator) -> Iterator[Int64]:
    """Yield batches without end: each pass takes every text once, those of similar length together.

    Args:
        texts: int64 `[n]` token table positions, at least one.
        lengths: int64 `[table]` tokens of each text of the table.
        size: texts of a batch, about.
        rng: of the order.
    """
    while True:
        order = rng.permutation(texts)
        for start in range(0, len(order), POOL * size):
            pool = order[start : start + POOL * size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            parts = np.array_split(pool, math.ceil(len(pool) / size))
            yield from (parts[number] for number in rng.permutation(len(parts)))


def _check_length(language: LanguageModel, config: PretrainConfig) -> None:
    limit = getattr(language.model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and config.max_tokens > limit:
        raise InvalidInputError(f"max_tokens: expected at most the backbone's {limit}, found {config.max_tokens}")
