"""Every way to ship the text encoder: size, speed and quality, measured side by side in one run.

Use: HF_HUB_OFFLINE=1 .venv/bin/python tests/benchmarks/embedding.py [--texts 4000] [--rounds 5] [--distil-steps 300]

Exports the packaged backbone (or takes another one by name or folder), writes each runtime's files, and embeds item
texts of The Complete Journey. The ways take turns, round by round, through `TextEncoder`, so tokenising and sorting by
length are in every figure. Layers are taught, and the vocabulary is cut, by the rest of the catalogue's texts: the
texts measured are new to both. Neighbours are compared with torch's in float32. Start-up and memory are those of a
fresh process each: imports, load and the first vector; then 512 texts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from rich.console import Console
from rich.table import Table

from features.datasets.journey_files import CompleteJourneyConfig, data_folder, scan
from features.schema import ITEM_ID
from features.texts import TextConfig, item_texts
from retrieval.encoder.backbone import Backbone, load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.export import export
from retrieval.encoder.layout import ONNX, WEIGHTS
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import DistilConfig, Precision, Runtime, ShipConfig
from retrieval.encoder.ship.fidelity import neighbour_overlap, rank_correlation
from retrieval.encoder.ship.layout import RuntimeChoice
from retrieval.encoder.ship.session import Float32, Int64
from retrieval.encoder.ship.shrink import shrink
from retrieval.encoder.ship.write import write_runtime

CONSOLE = Console(width=140)
TEXTS = TextConfig(item="{product_type} | {product_category} | {brand} brand | {package_size}")
SAMPLE, SINGLES, QUERIES = 512, 20, 1000
WAYS: tuple[tuple[Runtime, Precision], ...] = (
    ("onnx", "fp32"), ("onnx", "fp16_weights"), ("onnx", "int8_weights"),
    ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "fp16_weights"), ("openvino", "int8_weights"),
    ("openvino", "int8"),
)  # fmt: skip

# A fresh process: argv are the folder, the way, and the texts' file.
PROBE = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
folder, way, texts = Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text())
if way.startswith("torch"):
    import torch
    from retrieval.encoder.backbone import load_backbone
    from retrieval.encoder.config import BackboneConfig
    backbone = load_backbone(BackboneConfig(name=str(folder)))
    def encode(texts):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=way == "torch bf16"):
            for start in range(0, len(texts), 64):
                both = backbone.tokenizer(texts[start:start + 64], padding=True, return_tensors="pt")
                backbone(both.input_ids, both.attention_mask)
else:
    from retrieval.encoder.runtime import TextEncoder
    encoder = TextEncoder.load(folder)
    def encode(texts):
        encoder.encode(texts, "item")
encode(texts[:1])
ready = time.perf_counter() - began
encode(texts)
status = Path("/proc/self/status").read_text()
print(json.dumps([ready, int(status.split("VmRSS:")[1].split()[0]) / 1024]))
"""


@dataclass(kw_only=True)
class Way:
    """One way to serve, and what was measured of it.

    Attributes:
        name, folder, encoder: in the table, of its files, loaded in this process.
        model: the file with its weights.
        rates: texts a second, by round.
        singles: milliseconds of one text.
        vectors: of all texts measured.
        alone: largest difference of an entry when a text is embedded alone.
        ready, resident: seconds of a fresh process to its first vector, and its megabytes.
    """

    name: str
    folder: Path
    encoder: TextEncoder
    model: Path
    rates: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    vectors: Float32 = field(default_factory=lambda: np.empty((0, 0), np.float32))
    alone: float = 0.0
    ready: float = 0.0
    resident: float = 0.0


class TorchSession:
    """What serving would be without an export."""

    def __init__(self, backbone: Backbone, *, bf16: bool) -> None:
        self._backbone, self._bf16 = backbone, bf16

    def run(self, ids: Int64, mask: Int64) -> Float32:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            pooled: Float32 = self._backbone(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()
        return pooled


def main() -> None:
    arguments = _arguments()
    texts = catalogue()
    measured, rest = texts[: arguments.texts], texts[arguments.texts :]
    backbone = BackboneConfig(name=arguments.backbone, max_tokens={"user": 48, "item": 48, "text": 64})
    model = MultiTaskEncoder(
        load_backbone(backbone),
        (EncoderTask(name="retrieval", kind="contrastive", on="pair"),),
        EncoderConfig(backbone=backbone),
    )
    with TemporaryDirectory() as scratch:
        ways = prepare(Path(scratch), model, backbone, measured[:64], rest, arguments)
        measure(ways, measured, arguments.rounds)
        probe(ways, measured, Path(scratch))
        show(ways, measured)


def catalogue() -> list[str]:
    """Return the distinct texts of The Complete Journey's products, shuffled."""
    products = scan(data_folder(CompleteJourneyConfig()), "products").collect()
    lower = products.with_columns(pl.col(pl.String, pl.Categorical).cast(pl.String).str.to_lowercase())
    found = item_texts(lower.rename({"product_id": ITEM_ID}), TEXTS).unique(maintain_order=True)
    return found.sample(fraction=1, shuffle=True, seed=0).to_list()


def prepare(
    scratch: Path,
    model: MultiTaskEncoder,
    backbone: BackboneConfig,
    golden: list[str],
    rest: list[str],
    arguments: argparse.Namespace,
) -> list[Way]:
    """Export, and load every way; torch in float32 comes first."""
    exported = scratch / "exported"
    export(model, backbone, exported, golden=golden)
    ways = [_torch_way(exported, bf16=bf16) for bf16 in (False, True)]
    for runtime, precision in WAYS:
        folder = shutil.copytree(exported, scratch / f"{runtime}-{precision}")
        write_runtime(folder, ShipConfig(runtime=runtime, precision=precision), golden=golden)
        ways.append(_way(f"{runtime} {precision}", folder))
    # What ONNX Runtime offers by itself; `verify_runtime` refuses it.
    folder = shutil.copytree(exported, scratch / "dynamic")
    quantize_dynamic(exported / ONNX, folder / ONNX, per_channel=True, weight_type=QuantType.QInt8)
    ways.append(_way("onnx dynamic int8", folder))
    return ways + _smaller(scratch, model, backbone, golden, rest, arguments)


def _smaller(
    scratch: Path,
    model: MultiTaskEncoder,
    backbone: BackboneConfig,
    golden: list[str],
    rest: list[str],
    arguments: argparse.Namespace,
) -> list[Way]:
    """Cut the encoder down in several ways, and serve each."""
    keep, steps = arguments.keep_layers, arguments.distil_steps
    configs = {"fewer tokens": ShipConfig(trim_vocabulary=True), f"{keep} layers": ShipConfig(keep_layers=keep)}
    if steps:
        taught = ShipConfig(keep_layers=keep, distil=DistilConfig(steps=steps))
        configs[f"{keep} layers taught in {steps} steps"] = taught
    ways = []
    for name, config in configs.items():
        small, _ = shrink(model, {"item": rest}, backbone, config)
        folder = scratch / name.replace(" ", "-")
        export(small, backbone, folder, golden=golden)
        write_runtime(folder, config, golden=golden)
        ways.append(_way(f"openvino {RuntimeChoice.read(folder).precision}, {name}", folder))
    return ways


def measure(ways: list[Way], texts: list[str], rounds: int) -> None:
    """Time the ways in turn, then embed everything once for the comparison."""
    for way in ways:
        # Each length's first text compiles kernels of its own.
        for part in (texts[:SAMPLE], *([text] for text in texts[:SINGLES])):
            way.encoder.encode(part, "item")
    for _ in range(rounds):
        for way in ways:
            way.rates.append(SAMPLE / _seconds(lambda way=way: way.encoder.encode(texts[:SAMPLE], "item")))
            for text in texts[:SINGLES]:
                way.singles.append(1000 * _seconds(lambda way=way, text=text: way.encoder.encode([text], "item")))
    for way in ways:
        way.vectors = way.encoder.encode(texts, "item")
        alone = np.concatenate([way.encoder.encode([text], "item") for text in texts[:100]])
        way.alone = float(np.abs(alone - way.vectors[:100]).max())


def probe(ways: list[Way], texts: list[str], scratch: Path) -> None:
    """Start a fresh process for each way."""
    sample = scratch / "texts.json"
    sample.write_text(json.dumps(texts[:SAMPLE]))
    for way in ways:
        command = [sys.executable, "-c", PROBE, str(way.folder), way.name, str(sample)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        way.ready, way.resident = json.loads(done.stdout)


def show(ways: list[Way], texts: list[str]) -> None:
    lengths = [len(ids.ids) for ids in ways[0].encoder._tokenizers["item"].encode_batch_fast(texts)]
    low, middle, high = np.percentile(lengths, [5, 50, 95])
    title = (
        f"{len(texts)} texts of {low:.0f}-{high:.0f} tokens (median {middle:.0f}), {torch.get_num_threads()} threads"
    )
    table = Table(title=title, title_justify="left")
    columns = ("way", "MB", "ready s", "resident MB", "texts/s", "one text ms", "top 10", "Spearman", "alone")
    for column in columns:
        table.add_column(column, justify="left" if column == "way" else "right")
    true = ways[0].vectors
    for way in ways:
        megabytes = f"{way.model.stat().st_size / 1e6:.0f}"
        speed = (f"{np.median(way.rates):.0f}", f"{np.median(way.singles):.2f}")
        overlap = neighbour_overlap(true, way.vectors, queries=QUERIES)
        order = rank_correlation(true[:QUERIES], way.vectors[:QUERIES])
        quality = (f"{overlap:.4f}", f"{order:.4f}", f"{way.alone:.0e}")
        table.add_row(way.name, megabytes, f"{way.ready:.2f}", f"{way.resident:.0f}", *speed, *quality)
    CONSOLE.print(table)
    CONSOLE.print(
        "top 10, Spearman: of torch fp32's neighbours and order. alone: largest change of a unit vector's entry when "
        "its text is embedded alone, not in a batch.",
        highlight=False,
    )


def _way(name: str, folder: Path) -> Way:
    model = folder / RuntimeChoice.read(folder).model
    return Way(name=name, folder=folder, encoder=TextEncoder.load(folder), model=model)


def _torch_way(folder: Path, *, bf16: bool) -> Way:
    encoder = TextEncoder.load(folder)
    encoder._session = TorchSession(load_backbone(BackboneConfig(name=str(folder))), bf16=bf16)
    name = f"torch {'bf16' if bf16 else 'fp32'}"
    return Way(name=name, folder=folder, encoder=encoder, model=folder / WEIGHTS)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-b", "--backbone", default=BackboneConfig().name, help="name or folder")
    parser.add_argument("--texts", type=int, default=4000, help="item texts compared")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep-layers", type=int, default=3)
    parser.add_argument("--distil-steps", type=int, default=300, help="0 leaves distillation out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
