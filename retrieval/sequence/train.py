"""Training of the sequence model: seeded, its epoch chosen on held-out last events."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import structlog
import torch
from torch import Tensor

from features.schema import Float32
from infra.errors import InvalidInputError
from retrieval.encoder.record import Bar
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import Histories, Int64, Windows
from retrieval.sequence.losses import FullSoftmax, among, read_before, sampled_softmax
from retrieval.sequence.model import SequenceNet
from retrieval.sequence.validate import held_out_ndcg

log = structlog.get_logger(__name__)

# The share of the steps in which the learning rate rises.
_WARMUP: Final = 0.1


class SequenceDataError(InvalidInputError):
    """Histories and texts that no sequence model can be trained on."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch left: mean loss in nats, NDCG@10 of held-out last events (NaN without), seconds since start."""

    number: int
    loss: float
    ndcg: float
    seconds: float


@dataclass
class Trained:
    """A trained network and how it went; `best` is the epoch whose weights it has."""

    net: SequenceNet
    best: int
    steps: int
    epochs: list[Epoch] = field(default_factory=list)


def train(
    histories: Histories,
    texts: Float32,
    config: SequenceConfig,
    *,
    kinds: int = 1,
    until: int | None = None,
    show: bool = False,
) -> Trained:
    """Train on every user with two events or more.

    Args:
        histories: of all users.
        texts: float32 `[n_items, dim]` standardised text vectors; `[n_items, 0]` for none.
        config: see there.
        kinds: how many kinds of events there are.
        until: stop after this epoch, on the schedule of all; with `held_out: 0`, the chosen model on all events.
        show: a progress bar on a terminal.

    Raises:
        SequenceDataError: an item without a row of `texts`, a kind beyond `kinds`, nothing to tell items apart, or no
            user with two events.
    """
    _check(histories, texts, kinds, config)
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    held = np.sort(rng.permutation(np.flatnonzero(histories.lengths > 2))[: config.held_out])
    known = histories.without_last(held)
    windows = Windows.of(known, config.length)
    if not len(windows):
        raise SequenceDataError(f"sequence: expected a user with two events, found {len(histories)} users without")
    seen = torch.zeros(len(texts), dtype=torch.bool)
    seen[torch.from_numpy(known.items.astype(np.int64))] = True
    run = _Run(SequenceNet(texts, seen, kinds, config), windows, config)
    trained, kept, began = Trained(net=run.net, best=0, steps=0), _Kept(), time.monotonic()
    plan = [windows.batches(config.batch, rng) for _ in range(config.epochs)]
    total = sum(map(len, plan))
    with Bar(shown=show) as bar:
        for number, batches in enumerate(plan, start=1):
            loss = 0.0
            for rows in bar.track(f"sequence model, epoch {number} of {config.epochs}", batches):
                loss += run.step(rows, trained.steps / total)
                trained.steps += 1
            ndcg = held_out_ndcg(run.net, histories, known, held, config) if len(held) else float("nan")
            epoch = Epoch(number=number, loss=loss / len(batches), ndcg=ndcg, seconds=time.monotonic() - began)
            trained.epochs.append(epoch)
            log.info("sequence_epoch", number=number, loss=round(epoch.loss, 4), ndcg=round(ndcg, 4))
            kept.offer(epoch, run.net)
            if number == until or kept.misses >= config.patience:
                break
    trained.best = kept.restore(run.net)
    run.net.eval()
    return trained


def _check(histories: Histories, texts: Float32, kinds: int, config: SequenceConfig) -> None:
    """Raise `SequenceDataError` where events name what there isn't, or nothing tells items apart."""
    for name, column, least in (("items", histories.items, len(texts)), ("kinds", histories.kinds, kinds)):
        if len(column) and int(column.max()) >= least:
            raise SequenceDataError(f"sequence: expected {name} below {least}, found {column.max()}")
    if not texts.shape[1] and not config.learnt:
        raise SequenceDataError("sequence: expected text vectors or `learnt: true`, found neither")


@dataclass
class _Kept:
    """The best epoch's weights, and how many epochs have passed without better ones; without figures the last's."""

    ndcg: float = -1.0
    number: int = 0
    misses: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: Epoch, net: SequenceNet) -> None:
        """Keep the weights if the epoch is the best so far."""
        if math.isnan(epoch.ndcg):
            self.number = epoch.number
        elif epoch.ndcg > self.ndcg:
            self.ndcg, self.number, self.misses = epoch.ndcg, epoch.number, 0
            self.weights = {name: value.detach().clone() for name, value in net.state_dict().items()}
        else:
            self.misses += 1

    def restore(self, net: SequenceNet) -> int:
        """Give the network the kept weights, and return the epoch's number."""
        if self.weights:
            net.load_state_dict(self.weights)
        return self.number


class _Run:
    """The network, its optimiser and what it learns from."""

    def __init__(self, net: SequenceNet, windows: Windows, config: SequenceConfig) -> None:
        self.net, self._windows, self._config = net, windows, config
        groups: list[dict[str, Any]] = [
            {"params": [p for p in net.parameters() if p.ndim >= 2]},
            {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
        )
        self._dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        counts = np.bincount(windows.histories.items, minlength=len(net.items.own)) + 1.0
        self._shares = torch.from_numpy(counts / counts.sum())
        self._draws = torch.Generator().manual_seed(config.seed)

    def step(self, rows: Int64, done: float) -> float:
        """Learn from some windows, `done` of all steps behind, and return their mean loss in nats."""
        height = done / _WARMUP if done < _WARMUP else 0.5 + 0.5 * math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP))
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * height
        self.net.train()
        loss = self._loss(rows)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self._optimizer.step()
        return loss.item()

    def _loss(self, rows: Int64) -> Tensor:
        histories = self._windows.histories
        places = torch.from_numpy(self._windows.places(rows))
        ends = places[:, 1:] >= 0
        items = torch.from_numpy(histories.items)[places.clamp(min=0)].long()
        read, targets = items[:, :-1], items[:, 1:][ends]
        kinds, gaps = (
            torch.from_numpy(column)[places[:, :-1].clamp(min=0)].long() for column in (histories.kinds, histories.gaps)
        )
        sampled = len(self.net.items.own) > self._config.sampled_above
        every = None if sampled else self.net.items()
        vectors = self.net.items(read.reshape(-1)).view(*read.shape, -1) if every is None else every[read]
        states = self.net.reader(vectors, kinds, gaps)[ends] * self.net.scale
        closed = torch.empty(2, 0, dtype=torch.int64) if self._config.again else read_before(read, ends, targets)
        if every is not None:
            found: Tensor = FullSoftmax.apply(states, every, targets, closed, self._dtype)  # type: ignore[no-untyped-call]
            return found
        drawn, log_expected = self._draw()
        own = torch.stack([torch.arange(len(targets)), targets])
        hits = among(drawn, torch.cat([closed, own], 1), len(targets))
        return sampled_softmax(states, self.net.items(targets), self.net.items(drawn), log_expected, hits)

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Return int64 `[k]` distinct items, ascending, and float32 `[k]` log of how likely each was to be drawn.

        Of draws with replacement each counts once: item i is among them with probability 1 - (1 - share_i)^draws.
        """
        draws = self._config.negatives
        drawn = torch.multinomial(self._shares, draws, replacement=True, generator=self._draws)
        drawn = torch.unique(drawn)
        likely = -torch.expm1(draws * torch.log1p(-self._shares[drawn]))
        return drawn, likely.log().float()
