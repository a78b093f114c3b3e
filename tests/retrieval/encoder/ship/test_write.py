from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import numpy_helper

from infra.errors import InvalidInputError
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.export import export
from retrieval.encoder.layout import EncoderFilesError
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import Precision, Runtime, ShipConfig
from retrieval.encoder.ship.fidelity import tag_distance
from retrieval.encoder.ship.layout import ONNX_FP16, ONNX_INT8, RuntimeChoice
from retrieval.encoder.ship.write import (
    RuntimeMismatchError,
    RuntimeReport,
    check_runtime,
    resolve,
    verify_runtime,
    write_runtime,
)

ALL: list[tuple[Runtime, Precision]] = [
    *(
        (runtime, precision)
        for runtime in ("onnx", "openvino")
        for precision in ("fp32", "fp16_weights", "int8_weights")
    ),
    ("openvino", "bf16"),
    ("openvino", "int8"),
]


@pytest.mark.parametrize(("runtime", "precision"), ALL)
def test_the_folder_serves_what_was_chosen(
    folder: Path, texts: list[str], runtime: Runtime, precision: Precision
) -> None:
    plain = TextEncoder.load(folder).encode(texts, "item")
    report = write_runtime(folder, ShipConfig(runtime=runtime, precision=precision), golden=texts)
    assert (report.runtime, report.precision, report.rows) == (runtime, precision, 40)
    choice = RuntimeChoice.read(folder)
    assert (choice.runtime, choice.precision) == (runtime, precision)
    found = TextEncoder.load(folder).encode(texts, "item")
    assert np.abs(found - plain).max() <= report.vector_difference
    assert report.bytes == (folder / choice.model).stat().st_size
    assert verify_runtime(folder, golden=texts) == report


@pytest.fixture(scope="module")
def tags(tagging: MultiTaskEncoder, backbone_config: BackboneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported files of an encoder with tags."""
    folder = tmp_path_factory.mktemp("tags") / "encoder"
    export(tagging, backbone_config, folder)
    return folder


def multiplies_bf16() -> bool:
    """Whether this CPU does; else OpenVINO computes in fp32."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(("runtime", "precision"), ALL)
def test_every_runtime_gives_tags(
    tags: Path, texts: list[str], tmp_path: Path, runtime: Runtime, precision: Precision
) -> None:
    folder = shutil.copytree(tags, tmp_path / "encoder")
    report = write_runtime(folder, ShipConfig(runtime=runtime, precision=precision), golden=texts)
    expected, found = (TextEncoder.load(one).read(texts, ["slots", "signs"]).tags for one in (tags, folder))
    distances = [tag_distance(expected[task], found[task]) for task in ("slots", "signs")]
    assert report.tag_distance == pytest.approx(max(distances), abs=1e-6)
    # A trained format's own rounding, and nothing more: see `TAG_DISTANCE`.
    exact = precision == "fp32" or (precision == "bf16" and not multiplies_bf16())
    assert max(distances) < (1e-5 if exact else 0.05)
    assert exact or max(distances) > 1e-6
    carries = expected["slots"][1].units.carries
    assert carries.all()
    np.testing.assert_allclose(found["slots"][1].probabilities.sum(axis=1), 1, atol=1e-5)


def test_an_encoder_without_tags_has_none_to_compare(folder: Path, texts: list[str]) -> None:
    assert write_runtime(folder, ShipConfig(runtime="onnx"), golden=texts).tag_distance == 0


def test_another_choice_takes_the_former_ones_weights_away(folder: Path, texts: list[str]) -> None:
    write_runtime(folder, ShipConfig(precision="int8_weights"), golden=texts)
    assert (folder / ONNX_INT8).exists()
    write_runtime(folder, ShipConfig(precision="fp16_weights"), golden=texts)
    assert not (folder / ONNX_INT8).exists()
    write_runtime(folder, ShipConfig(), golden=texts)
    assert not (folder / ONNX_FP16).exists()


def test_what_auto_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(ShipConfig()) == RuntimeChoice(runtime="openvino", precision="bf16")
    assert resolve(ShipConfig(precision="fp32")) == RuntimeChoice(runtime="openvino", precision="fp32")
    assert resolve(ShipConfig(runtime="onnx")) == RuntimeChoice(runtime="onnx", precision="fp32")
    monkeypatch.setitem(sys.modules, "openvino", None)  # as the import system finds it where it isn't installed
    assert resolve(ShipConfig()) == RuntimeChoice(runtime="onnx", precision="fp32")
    assert resolve(ShipConfig(precision="int8_weights")) == RuntimeChoice(runtime="onnx", precision="int8_weights")
    assert resolve(ShipConfig(precision="bf16")) == RuntimeChoice(runtime="openvino", precision="bf16")


def test_what_is_asked_for_and_not_installed(folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EncoderFilesError, match="expected the package openvino"):
        write_runtime(folder, ShipConfig(runtime="openvino"), golden=texts)


def test_weights_of_another_model_are_refused(folder: Path, texts: list[str]) -> None:
    write_runtime(folder, ShipConfig(precision="int8_weights"), golden=texts)
    model = onnx.load(folder / ONNX_INT8)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            shuffled = rng.permutation(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))
    onnx.save(model, folder / ONNX_INT8)
    with pytest.raises(RuntimeMismatchError, match=r"int8_weights: expected a rank correlation of 0\.99"):
        verify_runtime(folder, golden=texts)


def test_each_precision_has_its_bar() -> None:
    good = RuntimeReport(
        runtime="openvino", precision="fp32", rows=40, vector_difference=9e-6, rank_correlation=1.0, tag_distance=9e-5,
        bytes=1,
    )  # fmt: skip
    check_runtime(Path("encoder"), good)
    check_runtime(Path("encoder"), replace(good, precision="bf16", vector_difference=1e-3, rank_correlation=0.991))
    with pytest.raises(RuntimeMismatchError, match=r"fp32: expected vectors within 1e-05 .* found 1\.10e-05"):
        check_runtime(Path("encoder"), replace(good, vector_difference=1.1e-5))
    with pytest.raises(RuntimeMismatchError, match=r"int8: expected a rank correlation .* found 0\.9890"):
        check_runtime(Path("encoder"), replace(good, precision="int8", rank_correlation=0.989))
    check_runtime(Path("encoder"), replace(good, precision="int8", tag_distance=0.049))
    with pytest.raises(RuntimeMismatchError, match=r"fp32: expected tags within a distance of 0\.0001 .* 1\.10e-04"):
        check_runtime(Path("encoder"), replace(good, tag_distance=1.1e-4))
    with pytest.raises(RuntimeMismatchError, match=r"bf16: expected tags within a distance of 0\.05 .* 5\.10e-02"):
        check_runtime(Path("encoder"), replace(good, precision="bf16", tag_distance=0.051))


def test_what_cannot_be_written(folder: Path, texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 16 distinct texts, found 2"):
        write_runtime(folder, ShipConfig(), golden=["tea", "soap"] * 20)
    with pytest.raises(EncoderFilesError, match=r"expected encoder\.onnx"):
        write_runtime(tmp_path, ShipConfig(), golden=texts)
