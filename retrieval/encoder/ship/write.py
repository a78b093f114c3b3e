"""The runtime's files beside an exported encoder, checked against the export before they are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from infra.errors import InvalidInputError, PolyrankError
from retrieval.encoder.config import Kind
from retrieval.encoder.layout import ONNX, EncoderFilesError
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import OPENVINO_ALONE, Precision, Runtime, ShipConfig
from retrieval.encoder.ship.fidelity import rank_correlation, tag_distance
from retrieval.encoder.ship.layout import ONNX_FP16, ONNX_INT8, RuntimeChoice
from retrieval.encoder.ship.quantise import write_float16, write_int8
from retrieval.encoder.ship.session import has_openvino

log = structlog.get_logger(__name__)

# Rows of length 1 in float32 through six to twelve layers differ by a few 1e-7; ten times that is a fault.
VECTOR_TOLERANCE: Final = 1e-5
# Rounded formats move every vector a little; what counts is the order of neighbours.
RANK_CORRELATION: Final = 0.99
# Nor may they move tags far: of MiniLM with random heads, by 1e-6 in float32, .0003 with float16 weights, .004 in
# bfloat16, .014 with int8 weights and .023 in int8, where every unit kept its likeliest tag.
EXACT_TAG_DISTANCE: Final = 1e-4
TAG_DISTANCE: Final = 0.05
# Fewer rows say little of an order.
GOLDEN_ROWS: Final = 16

_KINDS: Final[tuple[Kind, ...]] = ("user", "item", "text")


class RuntimeMismatchError(PolyrankError):
    """The chosen runtime doesn't compute what the exported encoder does."""


@dataclass(frozen=True, kw_only=True)
class RuntimeReport:
    """How closely the chosen runtime follows the export by ONNX Runtime in float32.

    Attributes:
        runtime: chosen.
        precision: chosen.
        rows: distinct golden texts compared, each as every kind of text.
        vector_difference: largest absolute difference of a unit vector's entry.
        rank_correlation: Spearman's, of the texts' similarities to each other; the lowest of any kind.
        tag_distance: mean total variation between the tags' probabilities of a unit, the largest of any task; 0 of an
            encoder without tags.
        bytes: of the graph's file.
    """

    runtime: Runtime
    precision: Precision
    rows: int
    vector_difference: float
    rank_correlation: float
    tag_distance: float
    bytes: int


def write_runtime(folder: Path, config: ShipConfig, *, golden: Sequence[str]) -> RuntimeReport:
    """Write the chosen runtime's files into an exported encoder's folder and check them.

    Args:
        folder: written by `export.export`; `encoder.onnx` stays, `runtime.json` and smaller weights come beside it.
        config: runtime and precision.
        golden: texts to compare on, at least 16 distinct ones.

    Returns:
        The differences found.

    Raises:
        EncoderFilesError: the folder holds no exported encoder, or OpenVINO is asked for and isn't installed.
        RuntimeMismatchError: the runtime finds other vectors, another order of neighbours, or other tags.
    """
    if not (folder / ONNX).is_file():
        raise EncoderFilesError(f"{folder}: expected {ONNX}, found no such file")
    for name in (ONNX_FP16, ONNX_INT8):
        (folder / name).unlink(missing_ok=True)
    choice = resolve(config)
    if choice.model == ONNX_FP16:
        write_float16(folder / ONNX, folder / ONNX_FP16)
    elif choice.model == ONNX_INT8:
        write_int8(folder / ONNX, folder / ONNX_INT8)
    choice.write(folder)
    return verify_runtime(folder, golden=golden)


def resolve(config: ShipConfig) -> RuntimeChoice:
    """Return the runtime and precision that `auto` stands for here.

    Of what keeps .99 of the ten nearest texts, OpenVINO's bfloat16 is the fastest: .995 at 1.6 times the texts a second
    of its float32, which embeds 1.2 times as many as ONNX Runtime's (`tests/benchmarks/embedding.py`).
    """
    runtime, precision = config.runtime, config.precision
    if runtime == "auto":
        runtime = "openvino" if precision in OPENVINO_ALONE or has_openvino() else "onnx"
    if precision == "auto":
        precision = "bf16" if runtime == "openvino" else "fp32"
    return RuntimeChoice(runtime=runtime, precision=precision)


def verify_runtime(folder: Path, *, golden: Sequence[str]) -> RuntimeReport:
    """Compare the folder's runtime with its export by ONNX Runtime in float32, which was compared with torch.

    Args:
        folder: written by `write_runtime`.
        golden: texts to compare on, at least 16 distinct ones.

    Raises:
        EncoderFilesError: a file is missing, or the runtime isn't installed.
        RuntimeMismatchError: in `fp32`, an entry of a vector differs by more than 1e-5; in any other precision, the
            rank correlation of similarities is below .99; in either, the distance of tags is above 1e-4 or .05.
    """
    texts = list(dict.fromkeys(golden))
    if len(texts) < GOLDEN_ROWS:
        raise InvalidInputError(f"golden: expected at least {GOLDEN_ROWS} distinct texts, found {len(texts)}")
    choice = RuntimeChoice.read(folder)
    exported, shipped = TextEncoder.load(folder, choice=RuntimeChoice()), TextEncoder.load(folder)
    difference, correlation = 0.0, 1.0
    for kind in _KINDS:
        expected, found = exported.encode(texts, kind), shipped.encode(texts, kind)
        difference = max(difference, float(np.abs(expected - found).max()))
        correlation = min(correlation, rank_correlation(expected, found))
    tasks = [task.name for task in exported.description.tasks if task.kind == "token_tags"]
    both = [encoder.read(texts, tasks).tags for encoder in (exported, shipped)]
    distances = [tag_distance(*(tags[task] for tags in both)) for task in tasks]
    report = RuntimeReport(
        runtime=choice.runtime,
        precision=choice.precision,
        rows=len(texts),
        vector_difference=difference,
        rank_correlation=correlation,
        tag_distance=max(distances, default=0.0),
        bytes=(folder / choice.model).stat().st_size,
    )
    log.info("runtime_written", **vars(report))
    check_runtime(folder, report)
    return report


def check_runtime(folder: Path, report: RuntimeReport) -> None:
    """Raise `RuntimeMismatchError` where the differences found are larger than the precision explains."""
    where = f"{folder}: {report.runtime} in {report.precision}"
    if report.precision == "fp32" and report.vector_difference > VECTOR_TOLERANCE:
        raise RuntimeMismatchError(
            f"{where}: expected vectors within {VECTOR_TOLERANCE} of the export on {report.rows} golden texts, "
            f"found {report.vector_difference:.2e}"
        )
    if report.rank_correlation < RANK_CORRELATION:
        raise RuntimeMismatchError(
            f"{where}: expected a rank correlation of {RANK_CORRELATION} with the export on {report.rows} golden "
            f"texts, found {report.rank_correlation:.4f}"
        )
    highest = EXACT_TAG_DISTANCE if report.precision == "fp32" else TAG_DISTANCE
    if report.tag_distance > highest:
        raise RuntimeMismatchError(
            f"{where}: expected tags within a distance of {highest} of the export's on {report.rows} golden texts, "
            f"found {report.tag_distance:.2e}"
        )
