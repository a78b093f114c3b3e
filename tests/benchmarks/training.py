"""Training throughput beside a stock Hugging Face loop on the same batches, in turn in one run.

usage: python tests/benchmarks/training.py -w WORKSPACE [--steps 20] [--rounds 3]

Reads the workspace's encoder cuts and draws batches as fine-tuning does. The stock loop is what a tutorial writes: the
texts of a batch padded to the longest, `AutoModel` as it comes (fused attention, dropout on), one forward pass, one
backward pass, AdamW. Both sides see the same batches, heads and losses and train the same layers: once the workspace's
number of top layers, once all of them. A figure is the median over rounds; a round times each side once, in turn.
Losses are means over tasks on fixed held-out batches, before and after all rounds. Memory is the largest resident
size of a fresh process that takes the first round alone, less what it held once its model and batches were there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as hf_logging

from flows.build import Build
from flows.cli import parse_as_of
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.backbone import locate, pool
from retrieval.encoder.balance.make import TaskLoss, make_balance
from retrieval.encoder.batch import Batch
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.constants import constant_losses, start_heads
from retrieval.encoder.data import TrainingData
from retrieval.encoder.optimise import make_optimizer
from retrieval.encoder.packed import Bool, TextStates
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.step import Stepper, TextSource, batch_features
from retrieval.encoder.tokens import Int64, TokenTable

CONSOLE = Console(width=110)


class StockTexts:
    """Texts as a stock loop encodes them: one padded batch through the model's own forward pass."""

    def __init__(self, model: PreTrainedModel, table: TokenTable, *, bf16: bool) -> None:
        self.model, self.table, self.bf16 = model, table, bf16

    def states(self, texts: Int64, with_tokens: Bool) -> TextStates:
        assert not with_tokens.any()
        ids, mask = self.table.padded(texts)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        return TextStates(pooled=pool(states, mask, "mean").float())


@dataclass
class Side:
    """One way to train: where its texts come from, its step, its seconds by round and its held-out losses."""

    name: str
    prepared: Prepared
    source: TextSource
    step: Stepper
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    arguments = _arguments()
    hf_logging.set_verbosity_error()
    workspace = Workspace.load(arguments.workspace)
    build = Build.start(workspace, Settings(), arguments.as_of)
    data = build.training_data()
    config = workspace.config.encoder
    for layers in (config.train_layers, None):
        compare(data, config.model_copy(update={"train_layers": layers}), arguments)


def compare(data: TrainingData, config: EncoderConfig, arguments: argparse.Namespace) -> None:
    """Train every side by the same batches and print its speed and loss."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool_of_one:
        memory = {name: pool_of_one.apply(_peak, (name, data, config, arguments.steps)) for name in SIDES}
    sides = [make(data, config) for make in SIDES.values()]
    rng = np.random.default_rng(0)
    batcher = sides[0].prepared.batcher(config.batch)
    held_out = sides[0].prepared.batcher(config.batch, "held_out")
    measured = [held_out(np.random.default_rng(1)) for _ in range(4)]
    rounds = [[batcher(rng) for _ in range(arguments.steps)] for _ in range(arguments.rounds + 1)]
    before = [_loss(side, measured) for side in sides]
    for number, batches in enumerate(rounds):
        for side in sides:
            began = time.perf_counter()
            for batch in batches:
                side.step(batch, side.source, data.tasks)
            if number:  # the first round warms caches up, ours among them
                side.seconds.append(time.perf_counter() - began)
    texts = float(np.mean([len(batch.texts) for batches in rounds[1:] for batch in batches]))
    table = Table(title=f"top layers trained: {config.train_layers or 'all'}; {texts:.0f} distinct texts a step")
    for column in (
        "loop",
        "ms a step",
        "texts/s",
        "ours is faster by",
        "MiB of steps",
        "held-out loss before",
        "after",
    ):
        table.add_column(column, justify="left" if column == "loop" else "right")
    ours = float(np.median(sides[0].seconds))
    for side, start in zip(sides, before, strict=True):
        median = float(np.median(side.seconds))
        ratios = np.array(side.seconds) / np.array(sides[0].seconds)
        table.add_row(
            side.name,
            f"{median / arguments.steps * 1e3:.0f}",
            f"{texts * arguments.steps / median:.0f}",
            "" if median == ours else f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
            f"{memory[side.name]:.0f}",
            f"{start:.4f}",
            f"{_loss(side, measured):.4f}",
        )
    CONSOLE.print(table)


def _peak(name: str, data: TrainingData, config: EncoderConfig, steps: int) -> float:
    """Return the MiB that a side's steps need, in a process of their own."""
    side = SIDES[name](data, config)
    batcher, rng = side.prepared.batcher(config.batch), np.random.default_rng(0)
    batches = [batcher(rng) for _ in range(steps)]
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    for batch in batches:
        side.step(batch, side.source, data.tasks)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before / 2**20


def _ours(data: TrainingData, config: EncoderConfig) -> Side:
    prepared = _prepare(data, config)
    return Side("ours", prepared, prepared.pooler, _stepper(prepared, config))


def _stock(data: TrainingData, config: EncoderConfig, *, bf16: bool) -> Side:
    """Return the stock side: its own model with the same layers frozen, the same heads."""
    prepared = _prepare(data, config)
    model = AutoModel.from_pretrained(locate(config.backbone), local_files_only=True, dtype=torch.float32).train()
    ours = dict(prepared.model.backbone.model.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in ours and ours[name].requires_grad)
    prepared.model.backbone.model = model
    source = StockTexts(model, prepared.pooler.table, bf16=bf16)
    return Side("stock, bf16 autocast" if bf16 else "stock, fp32", prepared, source, _stepper(prepared, config))


SIDES: dict[str, Callable[[TrainingData, EncoderConfig], Side]] = {
    "ours": _ours,
    "stock, bf16 autocast": lambda data, config: _stock(data, config, bf16=True),
    "stock, fp32": lambda data, config: _stock(data, config, bf16=False),
}


def _prepare(data: TrainingData, config: EncoderConfig) -> Prepared:
    """Return data and model; every side's heads start alike."""
    torch.manual_seed(config.seed)
    return prepare(data, config)


def _stepper(prepared: Prepared, config: EncoderConfig) -> Stepper:
    model = prepared.model
    batcher = prepared.batcher(config.batch)
    fixed = np.random.default_rng(0)
    sample = [batcher(fixed) for _ in range(config.baseline_batches)]
    baselines = start_heads(model, constant_losses(model.tasks, sample, logq=model.logq))
    losses = {name: TaskLoss(kind="classification", baseline=loss, count=1) for name, loss in baselines.items()}
    heads = [*model.projections.parameters(), *model.heads.parameters()]
    groups = [(heads, config.head_learning_rate), (list(model.backbone.parameters()), config.learning_rate)]
    optimizer = make_optimizer(groups, weight_decay=config.weight_decay)
    return Stepper(model, make_balance(config.balance, losses), optimizer, config.clip)


@torch.no_grad()
def _loss(side: Side, batches: list[Batch]) -> float:
    """Return the mean over batches and tasks of the loss, in units of that of equal chances for retrieval's."""
    side.prepared.model.backbone.model.eval()
    found: list[Mapping[str, torch.Tensor]] = [
        side.prepared.model.losses(batch, batch_features(side.prepared.model, batch, side.source)) for batch in batches
    ]
    if isinstance(side.source, StockTexts):
        side.prepared.model.backbone.model.train()
    return float(np.mean([float(loss) for losses in found for loss in losses.values()]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, default=None)
    parser.add_argument("--steps", type=int, default=20, help="a round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
