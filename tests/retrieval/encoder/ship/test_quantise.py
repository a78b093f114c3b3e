from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from infra.errors import InvalidInputError
from retrieval.encoder.layout import ONNX
from retrieval.encoder.ship.quantise import group_length, round_to_int8, write_float16, write_int8


def test_rounding_by_hand() -> None:
    # Two rows of two groups of 64. The first group's largest entry is 127, so its scale is 1 and 63.4 rounds to 63,
    # -2.6 to -3. The second's is 12.7: scale .1, 1.26 is 12.6 scales and rounds to 13. An all-zero group has scale 1.
    weights = np.zeros((2, 128), np.float32)
    weights[0, :3] = 127, 63.4, -2.6
    weights[0, 64:66] = -12.7, 1.26
    rounded, scales = round_to_int8(weights, 1)
    assert rounded.dtype == np.int8
    assert rounded.shape == (2, 128)
    assert rounded[0, :4].tolist() == [127, 63, -3, 0]
    assert rounded[0, 64:67].tolist() == [-127, 13, 0]
    np.testing.assert_allclose(scales, [[1, 0.1], [1, 1]], rtol=1e-6)
    across, their_scales = round_to_int8(np.ascontiguousarray(weights.T), 0)
    assert np.array_equal(across, rounded.T)
    assert np.array_equal(their_scales, scales.T)


def test_an_entry_is_off_by_at_most_half_a_scale() -> None:
    weights = np.random.default_rng(0).standard_normal((96, 40)).astype(np.float32)
    rounded, scales = round_to_int8(weights, 0)
    assert scales.shape == (3, 40)  # 96 rows in groups of gcd(96, 64) = 32
    step = np.repeat(scales, 32, axis=0)
    assert (np.abs(rounded * step - weights) <= step / 2 * 1.0001).all()


@pytest.mark.parametrize(("size", "length"), [(384, 64), (64, 64), (96, 32), (48, 16), (312, 312), (100, 100)])
def test_groups_divide_the_axis(size: int, length: int) -> None:
    # gcd with 64: 64, 64, 32, 16; 312 = 8 x 39 and 100 = 4 x 25 share too little with 64, so a whole row is one group.
    assert group_length(size) == length


# Bytes saved of an entry's four: float16 keeps two; int8 keeps one and, in groups of 32 here, 4 / 32 of a scale.
@pytest.mark.parametrize(("write", "saved", "largest"), [(write_float16, 2, 2**-11), (write_int8, 2.875, 0.5 / 127)])
def test_the_file_is_smaller_and_close(
    exported: Path, tmp_path: Path, write: Callable[[Path, Path], None], saved: float, largest: float
) -> None:
    source, target = exported / ONNX, tmp_path / "small.onnx"
    write(source, target)
    onnx.checker.check_model(str(target))
    narrow = _widened(onnx.load(target))
    whole = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    # Three layers of six matrices and the table of 64 positions; two token types and two dozen words are too few.
    assert len(narrow) == 19
    entries = sum(found.size for found in narrow.values())
    assert source.stat().st_size - target.stat().st_size > 0.95 * saved * entries
    for name, found in narrow.items():
        assert np.abs(found - whole[name]).max() <= largest * np.abs(whole[name]).max() * 1.001
        assert not np.array_equal(found, whole[name])


def test_a_graph_without_matrices_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "small",
        [helper.make_tensor_value_info("x", 1, [2])], [helper.make_tensor_value_info("y", 1, [2])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph), tmp_path / "in.onnx")
    with pytest.raises(InvalidInputError, match="expected float32 matrices of 1024 entries or more, found none"):
        write_int8(tmp_path / "in.onnx", tmp_path / "out.onnx")


def _widened(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return by old name what the widening nodes give, computed here."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            rounded, scales = (stored[name] for name in node.input)
            options = {attribute.name: attribute.i for attribute in node.attribute}
            found[node.output[0]] = rounded * np.repeat(scales, options["block_size"], axis=options["axis"])
        elif node.op_type == "Cast" and node.input[0] in stored and stored[node.input[0]].dtype == np.float16:
            found[node.output[0]] = stored[node.input[0]].astype(np.float32)
    return found
