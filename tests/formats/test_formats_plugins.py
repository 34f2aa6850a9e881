"""Formats of other packages, registered by the entry point group `yolopose.formats`; plugin/ is such a package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats_samples import assert_agrees, random_batch

from yolopose import YOLO
from yolopose.base.errors import ExportError, UsageError
from yolopose.cli import main
from yolopose.formats import find_format, format_for_path, formats, get_format, open_runtime
from yolopose.formats.registry import builtin_formats, load_plugins
from yolopose.schema import KeypointSchema, PoseSpec

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(autouse=True)
def _load_anew() -> Iterator[None]:
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()
    sys.modules.pop("traced_format", None)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the package of plugin/ importable, with its metadata, as an installed package is."""
    monkeypatch.syspath_prepend(PLUGIN)


def register(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Write a package `broken` with one module, and register its object `FORMAT`."""
    (folder / "broken_format.py").write_text(source, encoding="utf-8")
    metadata = folder / "broken-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[yolopose.formats]\nbroken = broken_format:FORMAT\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "broken_format", raising=False)


@pytest.mark.usefixtures("plugin")
def test_exports_and_predicts(small: YOLO, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(small.export(format="traced", imgsz=[64, 96], batch=2))
    assert path.suffix == ".traced"
    assert "Compared with torch on an image: " in capsys.readouterr().out
    exported = YOLO(path)
    assert exported.names == small.names
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    (result,) = exported.predict(image, conf=0.0, verbose=False)
    assert len(result) > 10
    assert_agrees(open_runtime(path), small, [random_batch(3, 64, 96)])


@pytest.mark.usefixtures("plugin")
def test_reports_a_file_that_cannot_be_opened(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise KeyError("weights")

    monkeypatch.setattr(type(get_format("traced")), "load", load)
    with pytest.raises(ExportError, match="format traced cannot open the file it wrote: KeyError: 'weights'"):
        small.export(format="traced", imgsz=64)


@pytest.mark.usefixtures("plugin")
def test_refuses_other_metadata_than_that_of_the_network(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_class = type(get_format("traced"))
    load = plugin_class.load

    def load_with_other_metadata(*args: Any) -> Any:
        runtime = load(*args)
        other = PoseSpec(classes=("other",) * 9, keypoints=KeypointSchema(count=7))
        runtime.metadata = replace(runtime.metadata, imgsz=(96, 64), stride=128, spec=other)
        return runtime

    monkeypatch.setattr(plugin_class, "load", load_with_other_metadata)
    with pytest.raises(ExportError) as caught:
        small.export(format="traced", imgsz=64)
    for excerpt in (
        r"imgsz is [96, 64], not [64, 64]",
        "stride is 128, not",
        "kpt_shape is [7, 3], not",
        "is 9, not",
    ):
        assert excerpt in str(caught.value)


@pytest.mark.usefixtures("plugin")
def test_checks_the_options_of_a_plugin(small: YOLO) -> None:
    with pytest.raises(UsageError, match="half=True is not supported by traced module; these support it: torchscript"):
        small.export(format="traced", imgsz=64, half=True)


@pytest.mark.usefixtures("plugin")
def test_appears_in_table_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("traced ")]
    assert ".traced" in line
    assert "imgsz, batch" in line
    assert "  plugin  " in line
    with pytest.raises(UsageError, match="Did you mean 'traced'"):
        get_format("trased")
    with pytest.raises(UsageError, match=r"known files end in .*, \.traced\."):
        format_for_path("x.unknown")
    assert formats()[-1].info.name == "traced"


@pytest.mark.usefixtures("plugin")
def test_is_imported_only_when_needed() -> None:
    for name in ("a.onnx", "a.pt", "a_openvino_model"):
        assert find_format(name) in builtin_formats()
    assert get_format("onnx") in builtin_formats()
    assert "traced_format" not in sys.modules
    found = find_format("a.traced")
    assert found is not None
    assert found.info.name == "traced"
    assert "traced_format" in sys.modules


INFO = "from yolopose.formats import FormatInfo\nINFO = FormatInfo(name={name!r}, title='b', suffixes=({suffix!r},))\n"
MEMBERS = "class FORMAT:\n    info = INFO\n    load = export = print\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("FORMAT = 1 / 0", "division by zero"),
        ("FORMAT = object()", "broken_format:FORMAT does not have info (a FormatInfo), load and export"),
        (INFO.format(name="onnx", suffix=".broken") + MEMBERS, "onnx belongs to the format onnx"),
        (INFO.format(name="broken", suffix=".my.onnx") + MEMBERS, ".my.onnx belongs to the format onnx"),
    ],
)
def test_a_broken_plugin_is_one_message(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(tmp_path, monkeypatch, source)
    message = f"The format plugin 'broken' of the package broken cannot be used: {reason}."
    with pytest.raises(UsageError) as caught:
        get_format("broken")
    assert str(caught.value).startswith(f"format='broken' is not available. {message}")
    with pytest.raises(UsageError) as caught:
        YOLO("x.unknown")
    assert message in str(caught.value)
    assert main(["formats"]) == 0
    output = capsys.readouterr()
    assert message in output.out
    assert "Traceback" not in output.out + output.err
    assert tuple(formats()) == builtin_formats()
    assert message in capsys.readouterr().err
