"""Names of the files that shipping adds to an exported encoder, and the one that says how to serve it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from retrieval.encoder.layout import ONNX, EncoderFilesError
from retrieval.encoder.ship.config import OPENVINO_ALONE, Precision, Runtime

RUNTIME: Final = "runtime.json"
RUNTIME_FORMAT: Final = 1
ONNX_FP16: Final = "encoder.fp16.onnx"
ONNX_INT8: Final = "encoder.int8.onnx"

MODEL_OF: Final[dict[Precision, str]] = {
    "fp32": ONNX,
    "bf16": ONNX,
    "fp16_weights": ONNX_FP16,
    "int8_weights": ONNX_INT8,
    "int8": ONNX_INT8,
}


class RuntimeChoice(BaseModel):
    """`runtime.json`: what serves the encoder; a folder without it is served by ONNX Runtime in float32.

    Attributes:
        format: version of the file.
        runtime: whose session.
        precision: in which number format.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = RUNTIME_FORMAT
    runtime: Runtime = "onnx"
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        """Refuse a number format that the runtime doesn't have."""
        if self.runtime == "onnx" and self.precision in OPENVINO_ALONE:
            raise ValueError(f"precision: expected runtime openvino for {self.precision}, found runtime onnx")
        return self

    @property
    def model(self) -> str:
        """Name of the file with the graph and its weights."""
        return MODEL_OF[self.precision]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder's choice, or take the default where it made none.

        Raises:
            EncoderFilesError: the file is malformed or of another format.
        """
        path = folder / RUNTIME
        try:
            found = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except ValidationError as error:
            raise EncoderFilesError(f"{path}: expected runtime and precision, found {error}") from error
        if found.format != RUNTIME_FORMAT:
            raise EncoderFilesError(f"{path}: expected format {RUNTIME_FORMAT}, found {found.format}")
        return found

    def write(self, folder: Path) -> None:
        """Write it into the folder."""
        text = json.dumps(self.model_dump(mode="json"), indent=2)
        (folder / RUNTIME).write_text(text + "\n", encoding="utf-8")
