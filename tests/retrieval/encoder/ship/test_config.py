from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from retrieval.encoder.ship.config import DistilConfig, ShipConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "onnx", "precision": "bf16"}, "expected runtime openvino for bf16, found runtime onnx"),
        ({"runtime": "onnx", "precision": "int8"}, "expected runtime openvino for int8, found runtime onnx"),
        ({"distil": DistilConfig()}, "distil: expected keep_layers"),
        ({"keep_layers": 0}, "greater than or equal to 1"),
        ({"precision": "int4"}, "'fp32', 'bf16'"),
        ({"layers": 3}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ShipConfig(**options)


def test_either_runtime_serves_smaller_weights() -> None:
    for precision in ("fp32", "fp16_weights", "int8_weights"):
        for runtime in ("auto", "onnx", "openvino"):
            assert ShipConfig(runtime=runtime, precision=precision).precision == precision
