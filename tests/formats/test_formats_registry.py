from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from yolopose.base.errors import DependencyError, NotFoundError, UsageError
from yolopose.formats import format_for_path, formats, get_format, open_runtime
from yolopose.formats.registry import format_table, require_packages

EXPORTED = [row.info.name for row in formats() if row.info.exportable]


@pytest.mark.parametrize("row", [row for row in formats() if row.info.exportable], ids=EXPORTED)
def test_each_format_has_a_module_and_its_own_suffix(row) -> None:
    assert find_spec(f"yolopose.formats.{row.module}")
    name = f"cats{row.info.suffixes[0]}"
    # the first that knows it counts: that of a compiled file ends as any TFLite file does
    assert [other.info.name for other in formats() if other.info.matches(name)] == [
        row.info.name,
        *["tflite"] * (row.info.name == "edgetpu"),
    ]
    assert format_for_path(Path("runs") / name.upper().replace("CATS", "cats")).info.name == row.info.name
    assert get_format(row.info.name.upper()) is row
    folders = ("openvino", "coreml", "ncnn", "executorch", "saved_model", "tfjs", "paddle", "rknn", "imx", "web")
    assert row.info.folder == (row.info.name in folders)
    assert row.info.run_requires or row.info.toolchain


@pytest.mark.parametrize(("alias", "name"), [("litert", "tflite"), ("tensorrt", "engine"), ("mlpackage", "coreml")])
def test_aliases(alias: str, name: str) -> None:
    assert get_format(alias).info.name == name


def test_table_marks_unverified_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {line.split()[0]: line for line in format_table().splitlines() if line}
    assert "unverified" in lines["engine"]
    assert "export only" in lines["coreml"]
    unrun = ("engine", "edgetpu")
    assert all("linux-x86_64 20" in lines[name] for name in EXPORTED if name not in unrun)
    assert all(" unverified " in lines[name] for name in unrun)
    assert all(f"-toolchain:{get_format(name).info.toolchain}" in lines[name] for name in ("pb", "paddle"))


@pytest.mark.parametrize("name", EXPORTED)
def test_refuses_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        open_runtime(tmp_path / f"cats{get_format(name).info.suffixes[0]}")


@pytest.mark.parametrize("name", EXPORTED)
def test_missing_package_error_has_the_install_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.formats.registry.find_spec", lambda package: None)
    for packages in filter(None, (get_format(name).info.run_requires, get_format(name).info.export_requires)):
        with pytest.raises(DependencyError, match=f"pip install .*{packages[-1]}"):
            require_packages(packages, "This")


@pytest.mark.parametrize("packages", [("torch", "onnx"), ("onnx", "torch")])
def test_install_command_of_torch_includes_what_checkpoints_need(
    packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolopose.formats.registry.find_spec", lambda package: None)
    with pytest.raises(DependencyError, match="pip install torch safetensors matplotlib onnx"):
        require_packages(packages, "This")


def test_coreml_runs_on_macos_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "platform", "linux")
    assert not get_format("coreml").info.runs_here
    with pytest.raises(UsageError, match="macOS and iOS only"):
        import_module("yolopose.formats.coreml").load(tmp_path)


def test_vendor_only_format_states_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"format='axelera' cannot be written here.*no public index.*format=onnx"):
        get_format("axelera")
