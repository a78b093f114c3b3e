"""Smaller weights in the ONNX graph: float16, or int8 with a scale for each group, widened again where they are used.

The graph stays one file that ONNX Runtime and OpenVINO read alike. Only matrices of products and embedding tables
change: biases, norms and small tables save nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from infra.errors import InvalidInputError
from retrieval.encoder.ship.session import GROUP, Float32

Int8 = npt.NDArray[np.int8]
Axis = Literal[0, 1]

# Entries below which a matrix stays as it is.
_SMALL: Final = 1024
# Groups shorter than this would cost a quarter of what they save; then a whole row shares one scale.
_SHORTEST_GROUP: Final = 16
# The axis that a product sums over, or along which a table's row runs, by (operator, input).
_AXIS_OF: Final[dict[tuple[str, int], Axis]] = {("MatMul", 1): 0, ("Gather", 0): 1}
# The first opset whose DequantizeLinear takes groups along an axis.
_OPSET: Final = 21


def write_float16(source: Path, target: Path) -> None:
    """Write the graph with its large matrices in float16: half the size, entries off by at most 2^-11 of themselves.

    Args:
        source: an ONNX file in float32, its weights inside.
        target: file to write.

    Raises:
        InvalidInputError: the graph holds no large matrix.
    """
    _rewrite(source, target, _halved)


def write_int8(source: Path, target: Path) -> None:
    """Write the graph with its large matrices in int8: about a quarter of the size.

    Each group of 64 entries along the summed axis has a scale of its own, its largest entry over 127. One scale for a
    whole row lost twice as much: .986 of the ten nearest texts stayed, with groups .992.

    Args:
        source: an ONNX file in float32, its weights inside.
        target: file to write.

    Raises:
        InvalidInputError: the graph holds no large matrix.
    """
    _rewrite(source, target, _rounded)


def round_to_int8(weights: Float32, axis: Axis) -> tuple[Int8, Float32]:
    """Round a matrix to int8 in groups along an axis, symmetrically about zero.

    Args:
        weights: float32 `[rows, columns]`.
        axis: along which the groups run.

    Returns:
        int8 of the same shape, and float32 scales with `size / group` entries on that axis: entry w stands for
        w * scale, off by at most half a scale.
    """
    rows = np.moveaxis(weights, axis, 1)
    groups = rows.reshape(len(rows), -1, group_length(rows.shape[1]))
    scales = np.abs(groups).max(axis=2, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    rounded = np.rint(groups / scales).astype(np.int8).reshape(rows.shape)
    return (
        np.ascontiguousarray(np.moveaxis(rounded, 1, axis)),
        np.ascontiguousarray(np.moveaxis(scales[..., 0], 1, axis), np.float32),
    )


def group_length(size: int) -> int:
    """Return the entries that share a scale: 64, or the largest power of two below that divides `size`, or all."""
    common = math.gcd(size, GROUP)
    return common if common >= _SHORTEST_GROUP else size


_Narrow = Callable[[onnx.GraphProto, str, Float32, Axis], onnx.NodeProto]


def _rewrite(source: Path, target: Path, narrow: _Narrow) -> None:
    """Replace each large matrix by a narrow one and a node that widens it under its old name."""
    model = onnx.load(source)
    graph = model.graph
    uses: dict[str, set[tuple[str, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            uses.setdefault(name, set()).add((node.op_type, place))
    widening = []
    for tensor in list(graph.initializer):
        axes = {_AXIS_OF.get(use) for use in uses.get(tensor.name, ())}
        axis = axes.pop() if len(axes) == 1 else None
        if axis is None or len(tensor.dims) != 2 or math.prod(tensor.dims) < _SMALL:
            continue
        if tensor.data_type == onnx.TensorProto.FLOAT:
            widening.append(narrow(graph, tensor.name, numpy_helper.to_array(tensor), axis))
            graph.initializer.remove(tensor)
    if not widening:
        raise InvalidInputError(f"{source}: expected float32 matrices of {_SMALL} entries or more, found none")
    nodes = [*widening, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, _OPSET)
    onnx.save(model, target)


def _halved(graph: onnx.GraphProto, name: str, weights: Float32, axis: Axis) -> onnx.NodeProto:  # noqa: ARG001 - alike
    graph.initializer.append(numpy_helper.from_array(weights.astype(np.float16), f"{name}_float16"))
    return helper.make_node("Cast", [f"{name}_float16"], [name], to=onnx.TensorProto.FLOAT)


def _rounded(graph: onnx.GraphProto, name: str, weights: Float32, axis: Axis) -> onnx.NodeProto:
    rounded, scales = round_to_int8(weights, axis)
    graph.initializer.append(numpy_helper.from_array(rounded, f"{name}_int8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    block = weights.shape[axis] // scales.shape[axis]
    return helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], axis=axis, block_size=block)
