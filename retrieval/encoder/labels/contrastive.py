"""Contrastive warm-up on few labels, before any head (SetFit; Tunstall et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.data import Bool, Float32
from retrieval.encoder.labels.config import ContrastiveConfig
from retrieval.encoder.labels.report import Cosines, WarmUpReport
from retrieval.encoder.optimise import autocast, deterministic, make_optimizer, warmup_cosine
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.record import Bar
from retrieval.encoder.tokens import Int64, tokenize

log = structlog.get_logger(__name__)

# Pairs of each sort whose cosines are reported: their mean is known to a few hundredths.
_REPORTED = 256


class PairDraw:
    """Draws pairs of labelled texts: half of one class, half of two, every class as often as any other.

    Args:
        labels: float32 `[n]` codes, NaN for none.

    Raises:
        InvalidInputError: fewer than two classes, or no class of two texts.
    """

    def __init__(self, labels: Float32) -> None:
        codes = np.unique(labels[~np.isnan(labels)])
        self.members: list[Int64] = [np.flatnonzero(labels == code) for code in codes]
        self.several = [rows for rows in self.members if len(rows) > 1]
        if len(self.members) < 2 or not self.several:
            counts = {int(code): len(rows) for code, rows in zip(codes, self.members, strict=True)}
            raise InvalidInputError(
                f"labels: expected texts of two classes, and two texts of one of them, found (by code) {counts}"
            )

    @property
    def texts(self) -> int:
        """Number of texts with a label."""
        return sum(len(rows) for rows in self.members)

    def __call__(self, size: int, rng: np.random.Generator) -> tuple[Int64, Int64, Bool]:
        """Return `size` pairs: rows int64 `[size]` left and right, never the same row, and whether of one class."""
        pairs = [rng.choice(self.several[k], 2, replace=False) for k in rng.integers(len(self.several), size=size // 2)]
        for _ in range(size - size // 2):
            first, second = rng.choice(len(self.members), 2, replace=False)
            pairs.append(np.array([rng.choice(self.members[first]), rng.choice(self.members[second])]))
        left, right = np.array(pairs, np.int64).T
        return left, right, np.arange(size) < size // 2


def contrastive_warm_up(
    backbone: Backbone,
    texts: Sequence[str],
    labels: Float32,
    config: ContrastiveConfig,
    *,
    backbone_config: BackboneConfig,
    progress: bool = True,
) -> WarmUpReport:
    """Move pooled vectors of one class together and those of different classes apart: (cosine - 1 or 0) squared.

    Whatever parameters of the backbone are trainable learn, in place; the heads are trained afterwards as ever.

    Args:
        backbone: as loaded; frozen layers stay as they are.
        texts: `[n]`.
        labels: float32 `[n]` codes of a binary or multiclass task; rows of NaN are left out.
        config: budget, rate, seed.
        backbone_config: prefix and length of free texts.
        progress: show a bar where the terminal is one; log lines are written in any case.

    Raises:
        InvalidInputError: too few labels, a label too many or too few, or nothing that can learn.
    """
    if len(labels) != len(texts):
        raise InvalidInputError(
            f"labels: expected one for each of {len(texts)} texts (NaN for none), found {len(labels)}"
        )
    trainable = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    if not trainable:
        raise InvalidInputError("backbone: expected at least one trainable layer, found all of them frozen")
    draw, rng = PairDraw(labels), np.random.default_rng(config.seed)
    table, positions = tokenize(backbone.tokenizer, {"text": texts}, backbone_config)
    pairs = _Pairs(TextPooler(backbone, table, train_layers=None, cache_mb=0), positions["text"])
    sample = draw(2 * _REPORTED, np.random.default_rng(config.seed))
    with deterministic(), Bar(shown=progress) as bar:
        before = pairs.mean_cosines(*sample)
        optimizer = make_optimizer([(trainable, config.learning_rate)], weight_decay=config.weight_decay)
        schedule = warmup_cosine(optimizer, config.steps, config.lr_warmup)
        for _ in bar.track("encoder: contrastive warm-up", range(config.steps)):
            left, right, same = draw(config.pairs, rng)
            cosines = pairs.cosines(left, right)
            optimizer.zero_grad(set_to_none=True)
            functional.mse_loss(cosines, torch.from_numpy(same).to(cosines)).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trainable, config.clip)
            optimizer.step()
            schedule.step()
        after = pairs.mean_cosines(*sample)
    result = WarmUpReport(before=before, after=after, texts=draw.texts)
    rounded = [(round(each.same, 3), round(each.different, 3)) for each in (before, after)]
    log.info("contrastive_warm_up_done", texts=draw.texts, steps=config.steps, before=rounded[0], after=rounded[1])
    return result


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Cosines of pairs of texts.

    Attributes:
        pooler: of the texts' table.
        positions: int64 `[n]` token table position of each text.
    """

    pooler: TextPooler
    positions: Int64

    def cosines(self, left: Int64, right: Int64) -> Tensor:
        """Return the cosine of each pair of rows, `[pairs]`; every distinct text is encoded once."""
        texts, place = np.unique(self.positions[np.concatenate([left, right])], return_inverse=True)
        with autocast(next(self.pooler.backbone.parameters()).device):
            pooled = self.pooler(texts)
        vectors = functional.normalize(pooled.float(), dim=1)
        first, second = torch.from_numpy(place.reshape(2, -1)).to(vectors.device)
        return (vectors[first] * vectors[second]).sum(1)

    @torch.no_grad()
    def mean_cosines(self, left: Int64, right: Int64, same: Bool) -> Cosines:
        """Return the mean over the pairs of each sort."""
        found = self.cosines(left, right).cpu().numpy()
        return Cosines(same=float(found[same].mean()), different=float(found[~same].mean()))
