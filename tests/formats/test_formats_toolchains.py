"""Formats of toolchains: errors without a toolchain, and complete exports if one is installed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from formats_samples import assert_agrees, assert_threads_agree, random_batch, require_installed

from few_images import write_images
from yolopose import YOLO, toolchains
from yolopose.base.errors import DependencyError, ExportError, UsageError, WeightsError
from yolopose.formats import formats, get_format, open_runtime
from yolopose.formats.metadata import LEVELS

require_installed("torch", "onnx", "onnxscript", "onnxslim")

from yolopose.formats.pytorch import TorchRuntime  # noqa: E402

THERE = os.environ.get("YOLOPOSE_TOOLCHAINS_DIR", "")  # read before a test gets its own settings
ROWS = [row for row in formats() if row.info.toolchain]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    return write_images(tmp_path / "few")


@pytest.mark.parametrize("row", ROWS, ids=[row.info.name for row in ROWS])
def test_export_without_toolchain_states_the_install_command(row, small: YOLO) -> None:
    with pytest.raises(
        DependencyError, match=rf"Export to .*yolo toolchain install name={row.info.toolchain} \(about \d+ MB"
    ):
        small.export(format=row.info.name, imgsz=64, verbose=False)


def test_int8_tflite_needs_the_toolchain(small: YOLO, few: Path) -> None:
    with pytest.raises(DependencyError, match=r"with int8=True needs TensorFlow.*toolchain install name=tf"):
        small.export(format="tflite", int8=True, data=str(few), imgsz=64, verbose=False)


@pytest.mark.parametrize(("name", "toolchain"), [("s_saved_model", "tf"), ("s.pb", "tf"), ("s_paddle_model", "paddle")])
def test_opening_without_toolchain_states_the_install_command(name: str, toolchain: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DependencyError, match=f"toolchain install name={toolchain}"):
        open_runtime(tmp_path / name)


def test_rknn_files_run_on_the_chip_only(tmp_path: Path) -> None:
    (tmp_path / "s_rknn_model").mkdir()
    with pytest.raises(UsageError, match="runs on Rockchip chips only"):
        open_runtime(tmp_path / "s_rknn_model")


# -- with installed toolchains --------------------------------------------------------------------------------------


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the installed toolchains of the user, or skip the test."""
    monkeypatch.setenv("YOLOPOSE_TOOLCHAINS_DIR", THERE)
    if not THERE or toolchains.find_python(toolchains.get_toolchain(name)) is None:
        pytest.skip(f"the toolchain {name} is not installed (set YOLOPOSE_TOOLCHAINS_DIR)")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved_model", "pb", "tfjs", "paddle"])
def test_output_equals_that_of_torch(name: str, small: YOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(get_format(name).info.toolchain, monkeypatch)
    if name == "tfjs":
        use("tfjs", monkeypatch)
    path = tmp_path / f"s{get_format(name).info.suffixes[0]}"
    shutil.move(small.export(format=name, imgsz=[64, 96], batch=2, verbose=False), path)
    runtime = open_runtime(path, device="cpu")
    assert (runtime.metadata.imgsz, runtime.metadata.batch, runtime.metadata.dynamic) == ((64, 96), 2, False)
    assert_agrees(runtime, small, [random_batch(3, 64, 96)], 0.01)
    assert_threads_agree(path)
    damage = path if path.is_file() else max(path.rglob("*"), key=lambda file: file.stat().st_size)
    damage.write_bytes(damage.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_runtime(path)


@pytest.mark.slow
def test_int8_tflite(small: YOLO, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("tf", monkeypatch)
    path = Path(small.export(format="tflite", int8=True, imgsz=[64, 96], data=str(few), verbose=False))
    record = json.loads(json.loads(zipfile.ZipFile(path).read("metadata.json"))["yolopose"])
    assert (record["outputs"], record["args"]["strides"]) == (LEVELS, list(small.model.stride))
    assert path.stat().st_size < 400_000  # a quarter of the weights in 32 bits
    found, batch = open_runtime(path), random_batch(2, 64, 96)
    assert found.metadata.spec == small.spec
    expected = TorchRuntime(small.model, "cpu").raw(batch)
    assert not np.array_equal(found.raw(batch), expected)
    np.testing.assert_allclose(found.raw(batch), expected, atol=0.5)
    np.testing.assert_allclose(found.raw(batch.astype(np.float32) / 255), found.raw(batch), atol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_edgetpu_compiler(fails: bool, small: YOLO, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("tf", monkeypatch)
    about = {"format": "edgetpu", "imgsz": [64, 96], "data": str(few), "verbose": False}
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    with pytest.raises(DependencyError, match=r"edgetpu_compiler, which is not on PATH.*format=tflite int8=True"):
        small.export(**about)
    compiler = tmp_path / "edgetpu_compiler"  # a stand-in: copies what it is given
    told = 'echo "Model not quantized" >&2; exit 1' if fails else 'cp "$4" "${4%.tflite}_edgetpu.tflite"'
    compiler.write_text(f"#!/bin/sh\n{told}\n", encoding="utf-8")
    compiler.chmod(compiler.stat().st_mode | stat.S_IEXEC)
    if fails:
        with pytest.raises(ExportError, match="Compiling the network for the Edge TPU failed: Model not quantized"):
            small.export(**about)
        return
    path = Path(small.export(**about))
    assert path.name == "small-pose_edgetpu.tflite"
    assert "yolopose" in json.loads(zipfile.ZipFile(path).read("metadata.json"))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"int8": True}])
def test_rknn_simulator(options: dict, small: YOLO, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("rknn", monkeypatch)
    path = Path(small.export(format="rknn", imgsz=[64, 96], data=str(few), name="rk3566", verbose=False, **options))
    assert [file.name for file in sorted(path.iterdir())] == ["metadata.yaml", "small-pose-rk3566.rknn"]
    with pytest.raises(ExportError, match=r"to RKNN failed: .*Full log"):
        small.export(format="rknn", imgsz=[64, 96], data=str(few), name="rk1", verbose=False, **options)


@pytest.mark.slow
def test_imx_graph(small: YOLO, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("imx", monkeypatch)
    path = Path(small.export(format="imx", imgsz=[64, 96], data=str(few), verbose=False))
    assert [file.name for file in sorted(path.iterdir())] == ["metadata.yaml", "packerOut.zip", "quantized.onnx"]
    assert zipfile.is_zipfile(path / "packerOut.zip")
    batch = random_batch(1, 64, 96)
    np.testing.assert_allclose(open_runtime(path).raw(batch), TorchRuntime(small.model, "cpu").raw(batch), atol=0.5)
