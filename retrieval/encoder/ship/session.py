"""What runs the encoder's graph: ONNX Runtime or OpenVINO behind one method, and no torch."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import structlog

from retrieval.encoder.layout import OUTPUT, STATES, EncoderFilesError
from retrieval.encoder.ship.config import Precision
from retrieval.encoder.ship.layout import RuntimeChoice

if TYPE_CHECKING:
    import openvino  # type: ignore[import-untyped]

log = structlog.get_logger(__name__)

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
# Activations rounded to int8 share a scale in groups of so many: the weights' own groups.
GROUP: Final = 64

_CONVERTER: Final = "openvino.tools.ovc"
# Said in full: unsaid, OpenVINO takes bfloat16 and rounds activations beside int8 weights wherever the CPU can.
_OPTIONS: Final[Mapping[Precision, Mapping[str, str | int]]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "fp16_weights": {"INFERENCE_PRECISION_HINT": "f32"},
    "int8_weights": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0},
    "int8": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP},
}


class Session(Protocol):
    """The encoder's graph; calls from several threads may run at the same time."""

    def run(self, ids: Int64, mask: Int64) -> Float32:
        """Return pooled states, float32 `[batch, dim]`, of right-padded ids and mask, int64 `[batch, length]`."""

    def run_tokens(self, ids: Int64, mask: Int64) -> tuple[Float32, Float32]:
        """Return pooled states and, from the same pass, token states float32 `[batch, length, dim]`.

        Only the graph of an encoder with tags gives them.
        """


class OnnxSession:
    """By ONNX Runtime, in float32."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    @classmethod
    def load(cls, path: Path, *, threads: int | None = None) -> Self:
        """Load a graph; int8 and float16 weights become float32 once, here.

        Args:
            path: of the ONNX file.
            threads: None takes all cores.
        """
        options = ort.SessionOptions()
        # Left to itself, ONNX Runtime multiplies int8 weights by activations rounded to int8: .98 of the ten nearest
        # texts stay where .99 do, and one text takes six times as long.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        return cls(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))

    def run(self, ids: Int64, mask: Int64) -> Float32:
        """See `Session.run`."""
        pooled: Float32 = self._session.run([OUTPUT], {IDS: ids, MASK: mask})[0]
        return pooled

    def run_tokens(self, ids: Int64, mask: Int64) -> tuple[Float32, Float32]:
        """See `Session.run_tokens`."""
        pooled, states = self._session.run([OUTPUT, STATES], {IDS: ids, MASK: mask})
        return pooled, states


class OpenVinoSession:
    """By OpenVINO, in any of the precisions."""

    def __init__(self, model: openvino.CompiledModel) -> None:
        self._model = model
        # A request serves one call at a time; a call that finds none idle makes one more.
        self._idle: deque[openvino.InferRequest] = deque()

    @classmethod
    def load(cls, path: Path, precision: Precision, *, threads: int | None = None) -> Self:
        """Load and compile a graph.

        Args:
            path: of the ONNX file.
            precision: bfloat16 becomes float32 on a CPU that would only emulate it.
            threads: None takes all cores.

        Raises:
            EncoderFilesError: the package openvino is not installed.
        """
        try:
            core = _core()
        except ModuleNotFoundError as error:
            raise EncoderFilesError(
                f"{path.parent}: expected the package openvino, by which this encoder is served (pip install openvino),"
                " found none"
            ) from error
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            log.warning("encoder_precision", asked="bf16", used="fp32", reason="this CPU multiplies no bfloat16")
            precision = "fp32"
        # Pinned, the threads of two services on one machine would share the first cores and leave the others idle.
        options: dict[str, str | int | bool] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        options |= _OPTIONS[precision]
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        return cls(core.compile_model(core.read_model(path), "CPU", options))

    def run(self, ids: Int64, mask: Int64) -> Float32:
        """See `Session.run`."""
        (pooled,) = self._infer(ids, mask, OUTPUT)
        return pooled

    def run_tokens(self, ids: Int64, mask: Int64) -> tuple[Float32, Float32]:
        """See `Session.run_tokens`."""
        pooled, states = self._infer(ids, mask, OUTPUT, STATES)
        return pooled, states

    def _infer(self, ids: Int64, mask: Int64, *names: str) -> list[Float32]:
        """Return some outputs: copies, as the request's own arrays are written again by its next call."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        found = request.infer({IDS: ids, MASK: mask}, share_inputs=True, share_outputs=True)
        copies = [np.array(found[name], np.float32) for name in names]
        self._idle.append(request)
        return copies


def open_session(folder: Path, choice: RuntimeChoice, *, threads: int | None = None) -> Session:
    """Load an exported encoder's graph by the runtime chosen.

    Args:
        folder: of the encoder.
        choice: what its `runtime.json` says, or another.
        threads: None takes all cores.

    Raises:
        EncoderFilesError: the graph's file is missing, or the runtime isn't installed.
    """
    path = folder / choice.model
    if not path.is_file():
        raise EncoderFilesError(f"{folder}: expected {choice.model}, found no such file")
    if choice.runtime == "onnx":
        return OnnxSession.load(path, threads=threads)
    return OpenVinoSession.load(path, choice.precision, threads=threads)


def has_openvino() -> bool:
    """Tell whether the package openvino can be imported."""
    try:
        _core()
    except ModuleNotFoundError:
        return False
    return True


def _core() -> openvino.Core:
    """Import OpenVINO without its model converter, and return its entry.

    The converter, which the package imports if it finds it, sends an event to Google Analytics from every process and
    writes two files into the home directory; nothing here needs it. Imported late, because a service by ONNX Runtime
    needs no OpenVINO either.
    """
    fresh = "openvino" not in sys.modules
    if fresh:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # the import system's way to say: not installed
    try:
        import openvino  # noqa: PLC0415
    finally:
        if fresh:
            del sys.modules[_CONVERTER]
    return openvino.Core()
