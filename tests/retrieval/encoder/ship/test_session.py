from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from retrieval.encoder.layout import ONNX, EncoderFilesError
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import Precision, Runtime
from retrieval.encoder.ship.layout import ONNX_FP16, ONNX_INT8, RuntimeChoice
from retrieval.encoder.ship.quantise import write_float16, write_int8
from retrieval.encoder.ship.session import has_openvino, open_session

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
EXACT = ("fp32", "fp16_weights", "int8_weights")
BOTH = [(runtime, precision) for runtime in RUNTIMES for precision in EXACT]


@pytest.fixture(scope="module")
def complete(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the exported files with every precision's weights."""
    folder = shutil.copytree(exported, tmp_path_factory.mktemp("complete") / "encoder")
    write_float16(folder / ONNX, folder / ONNX_FP16)
    write_int8(folder / ONNX, folder / ONNX_INT8)
    return folder


@pytest.fixture(scope="module")
def batch() -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of three texts of 2, 5 and 3 tokens."""
    lengths = np.array([[2], [5], [3]])
    mask = (np.arange(5)[None] < lengths).astype(np.int64)
    return np.where(mask, np.arange(15).reshape(3, 5) % 9 + 2, 0), mask


def test_both_runtimes_compute_the_same(complete: Path, batch: tuple[np.ndarray, np.ndarray]) -> None:
    for precision in EXACT:
        first, second = (
            open_session(complete, RuntimeChoice(runtime=runtime, precision=precision), threads=1).run(*batch)
            for runtime in RUNTIMES
        )
        assert first.dtype == second.dtype == np.float32
        assert first.shape == (3, 32)
        np.testing.assert_allclose(first, second, atol=2e-5)


def test_each_precision_rounds_as_much_as_it_says(complete: Path, batch: tuple[np.ndarray, np.ndarray]) -> None:
    whole = open_session(complete, RuntimeChoice()).run(*batch)
    off = {}
    for precision in PRECISIONS:
        choice = RuntimeChoice(runtime="openvino", precision=precision)
        off[precision] = np.abs(open_session(complete, choice).run(*batch) - whole).max() / np.abs(whole).max()
    # float16 keeps 11 binary digits, int8 about 7, bfloat16 8; the order says that none stands in for another.
    assert off["fp32"] < 1e-6 < off["fp16_weights"] < 1e-3 < off["int8_weights"] < 0.1
    assert off["int8"] < 0.1
    assert off["bf16"] < 0.1


@pytest.mark.parametrize(("runtime", "precision"), BOTH)
def test_a_text_has_one_vector_whatever_its_batch(
    complete: Path, texts: list[str], runtime: Runtime, precision: Precision
) -> None:
    encoder = TextEncoder.load(complete, choice=RuntimeChoice(runtime=runtime, precision=precision), threads=1)
    together = encoder.encode(texts, "user")
    alone = np.concatenate([encoder.encode([text], "user") for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_threads_do_not_mix_their_texts(complete: Path, texts: list[str]) -> None:
    encoder = TextEncoder.load(complete, choice=RuntimeChoice(runtime="openvino"))
    expected = encoder.encode(texts, "item")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: encoder.encode([text], "item")[0], texts * 5))
    np.testing.assert_allclose(found, np.tile(expected, (5, 1)), atol=1e-5)


def test_a_call_keeps_its_result_when_the_next_one_runs(complete: Path, batch: tuple[np.ndarray, np.ndarray]) -> None:
    session = open_session(complete, RuntimeChoice(runtime="openvino"))
    first = session.run(*batch)
    before = first.copy()
    session.run(batch[0][::-1].copy(), batch[1][::-1].copy())
    assert np.array_equal(first, before)


def test_what_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderFilesError, match=r"expected encoder\.int8\.onnx, found no such file"):
        TextEncoder.load(folder, choice=RuntimeChoice(precision="int8_weights"))
    monkeypatch.setitem(sys.modules, "openvino", None)  # as the import system finds it where it isn't installed
    assert not has_openvino()
    RuntimeChoice(runtime="openvino", precision="bf16").write(folder)
    with pytest.raises(EncoderFilesError, match=r"expected the package openvino.*pip install openvino.*found none"):
        TextEncoder.load(folder)
    assert TextEncoder.load(folder, choice=RuntimeChoice()).encode(["tea"], "item").shape == (1, 32)


def test_serving_neither_reports_nor_imports_what_it_needs_not(complete: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from retrieval.encoder.runtime import TextEncoder;"
        "from retrieval.encoder.ship.layout import RuntimeChoice;"
        "assert 'openvino' not in sys.modules;"
        f"TextEncoder.load(Path({str(complete)!r}), choice=RuntimeChoice(runtime='openvino')).encode(['tea'], 'item');"
        "print([n for n in ('torch', 'transformers', 'onnx', 'openvino_telemetry') if n in sys.modules],"
        "'openvino' in sys.modules)"
    )
    # Without CI's own variables, which would keep the package silent by themselves.
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[] True"
    assert not (tmp_path / "intel").exists()


def test_a_cpu_without_bfloat16_computes_in_float32(complete: Path, texts: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from retrieval.encoder.runtime import TextEncoder;"
        "from retrieval.encoder.ship.layout import RuntimeChoice;"
        "choice = RuntimeChoice(runtime='openvino', precision='bf16');"
        f"encoder = TextEncoder.load(Path({str(complete)!r}), choice=choice);"
        f"np.save(sys.argv[1], encoder.encode({texts!r}, 'item'))"
    )
    out = tmp_path / "vectors.npy"
    # OpenVINO's own switch: it then uses no instruction newer than AVX2.
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], check=True, capture_output=True, text=True,
        env=os.environ | {"OV_CPU_MAX_ISA": "AVX2"},
    )  # fmt: skip
    np.testing.assert_allclose(
        np.load(out), TextEncoder.load(complete, choice=RuntimeChoice()).encode(texts, "item"), atol=1e-5
    )
    assert "this CPU multiplies no bfloat16" in done.stdout + done.stderr
