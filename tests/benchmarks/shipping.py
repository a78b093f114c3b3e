"""Every way to ship a trained encoder: size, speed, and each task's quality by the vectors that it serves.

usage: python tests/benchmarks/shipping.py -w WORKSPACE [--as-of DATE] [--rounds 5] [--distil-steps 300]

Trains the workspace's encoder once, without the window that it is measured on, exports it in every runtime, number
format and size, and lets the same heads judge the same rows (`retrieval.encoder.trial` says which, and by what) from
vectors of each way's own. So a figure's distance from torch's in float32, the first row, is what that way costs. The
ways take turns when they are timed. A smaller encoder is cut and taught by the texts that a release would have.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from flows.build import Build
from flows.cli import parse_as_of
from flows.stages.train import texts_by_kind
from flows.tune.study_data import study_data
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.config import Kind
from retrieval.encoder.data import TrainingData
from retrieval.encoder.export import export
from retrieval.encoder.packed import TextStates
from retrieval.encoder.prepare import Placed
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import DistilConfig, ShipConfig
from retrieval.encoder.ship.layout import RuntimeChoice
from retrieval.encoder.ship.shrink import shrink
from retrieval.encoder.ship.write import RuntimeMismatchError, write_runtime
from retrieval.encoder.train import TrainResult, train
from retrieval.encoder.trial import Quality, measure

CONSOLE = Console(width=170)
SAMPLE, SINGLES = 512, 20
GOLDEN = 32


class Pooled(TextEncoder):
    """The served encoder up to its pooled states: projections and heads are then those of the trained model."""

    def _project(self, pooled, kind):  # noqa: ARG002 - the base's own types
        return pooled


@dataclass(kw_only=True)
class Way:
    """One way to ship, and what was measured of it.

    Attributes:
        name: in the table.
        encoder: as served.
        pooled: the same, up to its pooled states.
        megabytes: of its graph and weights.
        rates, singles: texts a second, milliseconds of one text, by round.
        qualities: by task.
    """

    name: str
    encoder: TextEncoder
    pooled: TextEncoder
    megabytes: float
    rates: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    qualities: Mapping[str, Quality] = field(default_factory=dict)


class ServedStates:
    """Pooled states of token table positions, by what is served; each text is embedded once."""

    def __init__(self, encoder: TextEncoder, placed: Placed) -> None:
        self._encoder = encoder
        self._text: dict[int, tuple[Kind, str]] = {}
        for cut, positions in zip(placed.data.cuts, placed.user_texts, strict=True):
            self._add("user", cut.user_texts, positions)
        self._add("item", placed.data.item_texts, placed.item_texts)
        for held, own in ((placed.data.texts, placed.texts), (placed.data.test_texts, placed.test_texts)):
            self._add("text", held.texts, own.positions)
        self._known: dict[int, np.ndarray] = {}

    def _add(self, kind: Kind, texts: Sequence[str], positions: np.ndarray) -> None:
        self._text.update({place: (kind, text) for place, text in zip(positions.tolist(), texts, strict=True)})

    def states(self, texts: np.ndarray, with_tokens: np.ndarray) -> TextStates:
        """Return `[n, dim]` states; tasks on tokens have nothing to read."""
        assert not with_tokens.any()
        lacking = [place for place in texts.tolist() if place not in self._known]
        kinds: tuple[Kind, ...] = ("user", "item", "text")
        for kind in kinds:
            mine = [place for place in lacking if self._text[place][0] == kind]
            vectors = self._encoder.encode([self._text[place][1] for place in mine], kind)
            self._known.update(zip(mine, vectors, strict=True))
        return TextStates(pooled=torch.from_numpy(np.stack([self._known[place] for place in texts.tolist()])))


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    config, data = workspace.config.encoder, study_data(Build.start(workspace, Settings(), arguments.as_of))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        result = train(data, config, out=folder / "log", trackers=())
        trained = measure(result.prepared, data, config, "test")
        ways = [way for name, own in sizes(arguments) if (way := ship(name, own, result, data, folder)) is not None]
        for way in ways:
            source = ServedStates(way.pooled, result.prepared.placed)
            way.qualities = measure(replace(result.prepared, pooler=source), data, config, "test")
            CONSOLE.print(f"{way.name} measured", highlight=False)
        clock(ways, list(dict.fromkeys(data.item_texts)), arguments.rounds)
    show(ways, trained)


def sizes(arguments: argparse.Namespace) -> list[tuple[str, ShipConfig]]:
    """Return every way's name and configuration."""
    formats = (
        ShipConfig(runtime="onnx", precision="fp32"), ShipConfig(runtime="onnx", precision="int8_weights"),
        ShipConfig(runtime="openvino", precision="fp32"), ShipConfig(runtime="openvino", precision="bf16"),
        ShipConfig(runtime="openvino", precision="fp16_weights"),
        ShipConfig(runtime="openvino", precision="int8_weights"), ShipConfig(runtime="openvino", precision="int8"),
    )  # fmt: skip
    found = [(f"{own.runtime} {own.precision}", own) for own in formats]
    found.append(("fewer tokens", ShipConfig(trim_vocabulary=True)))
    for layers in arguments.layers:
        found.append((f"{layers} layers", ShipConfig(keep_layers=layers)))
        taught = DistilConfig(steps=arguments.distil_steps)
        found.append((f"{layers} layers, taught", ShipConfig(keep_layers=layers, distil=taught)))
    smallest = ShipConfig(keep_layers=min(arguments.layers), distil=taught, trim_vocabulary=True, precision="int8")
    return [*found, (f"{min(arguments.layers)} layers, taught, fewer tokens, int8", smallest)]


def ship(name: str, config: ShipConfig, result: TrainResult, data: TrainingData, scratch: Path) -> Way | None:
    """Export one way; None where the product would refuse it."""
    texts = texts_by_kind(replace(data, test=None))
    golden = [text for own in texts.values() for text in own[:GOLDEN]]
    small, _ = shrink(result.model, texts, result.config.backbone, config, held_out=result.held_out)
    folder = scratch / name.replace(" ", "-")
    export(small, result.config.backbone, folder, golden=golden)
    try:
        write_runtime(folder, config, golden=golden)
    except RuntimeMismatchError as error:
        CONSOLE.print(f"{name}: refused: {error}", highlight=False)
        return None
    size = (folder / RuntimeChoice.read(folder).model).stat().st_size / 1e6
    return Way(name=name, encoder=TextEncoder.load(folder), pooled=Pooled.load(folder), megabytes=size)


def clock(ways: Sequence[Way], texts: Sequence[str], rounds: int) -> None:
    """Time the ways in turn; a first round, not counted, compiles kernels."""
    sample = texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE]
    for number in range(rounds + 1):
        for way in ways:
            rate = len(sample) / _seconds(way, sample)
            single = 1000 * float(np.median([_seconds(way, [text]) for text in sample[:SINGLES]]))
            if number:
                way.rates.append(rate)
                way.singles.append(single)


def show(ways: Sequence[Way], trained: Mapping[str, Quality]) -> None:
    """Print size, speed and each task's figure."""
    table = Table(title="Ways to ship the encoder, by the tasks' quality on rows of the test", title_justify="left")
    metrics = {task: quality.metric for task, quality in trained.items()}
    for column in ("way", "MB", "texts/s", "one text ms", *(f"{task} {metric}" for task, metric in metrics.items())):
        table.add_column(column, justify="left" if column == "way" else "right")
    table.add_row("torch, as trained", "", "", "", *(f"{quality.value:.4f}" for quality in trained.values()))
    for way in ways:
        speed = (f"{np.median(way.rates):.0f}", f"{np.median(way.singles):.1f}")
        table.add_row(
            way.name, f"{way.megabytes:.0f}", *speed, *(f"{way.qualities[task].value:.4f}" for task in metrics)
        )
    CONSOLE.print(table)


def _seconds(way: Way, texts: Sequence[str]) -> float:
    began = time.perf_counter()
    way.encoder.encode(texts, "item")
    return time.perf_counter() - began


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 3], help="sizes to cut down to")
    parser.add_argument("--distil-steps", type=int, default=300)
    return parser.parse_args()


if __name__ == "__main__":
    main()
