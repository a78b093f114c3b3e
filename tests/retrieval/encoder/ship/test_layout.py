from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from retrieval.encoder.layout import EncoderFilesError
from retrieval.encoder.ship.layout import RUNTIME, RuntimeChoice


def test_a_choice_is_read_as_written(tmp_path: Path) -> None:
    choice = RuntimeChoice(runtime="openvino", precision="int8_weights")
    choice.write(tmp_path)
    assert RuntimeChoice.read(tmp_path) == choice
    assert choice.model == "encoder.int8.onnx"


def test_a_folder_without_one_is_served_as_exported(tmp_path: Path) -> None:
    found = RuntimeChoice.read(tmp_path)
    assert (found.runtime, found.precision, found.model) == ("onnx", "fp32", "encoder.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected format 1, found 2"),
        ({"runtime": "torch"}, "expected runtime and precision"),
        ({"runtime": "onnx", "precision": "bf16"}, "expected runtime openvino for bf16"),
        ({"model": "../encoder.onnx"}, "Extra inputs are not permitted"),
    ],
)
def test_files_that_are_not_ours(tmp_path: Path, change: dict[str, object], message: str) -> None:
    RuntimeChoice(runtime="openvino", precision="bf16").write(tmp_path)
    path = tmp_path / RUNTIME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EncoderFilesError, match=message):
        RuntimeChoice.read(tmp_path)


def test_onnx_runtime_has_no_bfloat16() -> None:
    with pytest.raises(ValidationError, match="expected runtime openvino for bf16"):
        RuntimeChoice(precision="bf16")
