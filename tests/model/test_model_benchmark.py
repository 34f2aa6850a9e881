from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

import pytest

from few_images import SMALL, write_images
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.cli import main
from yolopose.formats import registry
from yolopose.formats.agreement import NO_DETECTIONS, Agreement
from yolopose.model.benchmark_table import Benchmark, BenchmarkRow, format_row

pytest.importorskip("torch")
pytest.importorskip("onnx")
if find_spec("openvino") is None:  # which importorskip would import, and it would report that
    pytest.skip("openvino is not installed", allow_module_level=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small-pose.yaml").write_text(SMALL, encoding="utf-8")
    write_images(tmp_path / "few")
    return tmp_path


def test_exports_opens_times_and_validates_each_format(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "onnxscript" else honest(name))
    some = [registry.get_format("onnx"), registry.get_format("openvino")]
    monkeypatch.setattr("yolopose.model.benchmark.formats", lambda: [registry.formats()[0], *some])
    result = YOLO("small-pose.yaml").benchmark(data="few/few.yaml", imgsz=64, device="cpu")
    by_name = {row.name: row for row in result.rows}
    assert list(by_name) == ["pytorch", "onnx", "openvino"]
    for name in ("pytorch", "openvino"):
        row = by_name[name]
        assert row.note == ""
        assert row.pose is not None
        assert row.milliseconds is not None
        assert row.milliseconds > 0
    made = by_name["openvino"]
    assert made.pose == pytest.approx(by_name["pytorch"].pose, abs=1e-3)
    assert made.megabytes == pytest.approx(
        sum(file.stat().st_size for file in (result.save_dir / "small-pose_openvino_model").iterdir()) / 1e6
    )
    assert made.agreement is not None
    assert made.agreement.within(0.1, 0.001)
    assert by_name["onnx"].note == "Export to ONNX needs onnxscript, which is not installed"
    assert by_name["onnx"].pose is None
    with (result.save_dir / "benchmark.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["Format"] for row in rows] == [row.title for row in result.rows]
    assert float(rows[0]["metrics/mAP50-95(P)"]) == by_name["pytorch"].pose
    assert (result.save_dir / "benchmark.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert str(result) in shown
    assert "Wrote" not in shown


def test_one_format_from_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["benchmark", "model=small-pose.yaml", "data=few/few.yaml", "imgsz=64", "device=cpu", "plots=False"]
    assert main([*line, "format=openvino", "half=True", "name=b"]) == 0
    shown = capsys.readouterr().out
    assert "\nOpenVINO " in shown
    assert "\nONNX " not in shown
    assert not Path("runs/pose/b/benchmark.png").exists()
    assert main([*line, "format=openvin"]) == 1
    assert "openvin" in capsys.readouterr().err
    assert main([*line, "format=openvino", "verbose=0.5"]) == 1
    assert "Pose mAP50-95 is below verbose=0.5 for PyTorch" in capsys.readouterr().err


def test_failures_are_noted_in_the_row(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("a fault of its own. And more")

    monkeypatch.setattr("yolopose.formats.openvino.export", failing)
    result = YOLO("small-pose.yaml").benchmark(data="few/few.yaml", imgsz=64, format="openvino", verbose=False)
    assert result.rows[1].note == "RuntimeError: a fault of its own"
    assert result.summary()[1]["Status❔"] == "❌"
    assert not list(result.save_dir.glob("*_openvino_model"))


def test_needs_a_data_set(place: Path) -> None:
    with pytest.raises(UsageError, match=r"give data=coco8-pose\.yaml"):
        YOLO("small-pose.yaml").benchmark()


def test_formats_rows(tmp_path: Path) -> None:
    full = BenchmarkRow("ONNX", "onnx", 11.6, 4.2, 0.5, 0.25, 40.0, Agreement(0.00123, 2e-6, 0.5))
    assert full.fps == 25
    assert format_row(full).split() == ["ONNX", "11.6", "4.2", "0.5000", "0.2500", "40.0", "0.0012,", "2e-06,", "0.5"]
    unrun = format_row(BenchmarkRow("CoreML", "coreml", 6.0, 3.0, note="on macOS"))
    assert unrun.split() == ["CoreML", "6.0", "3.0", "-", "-", "-", "-", "on", "macOS"]
    assert "no detections" in format_row(BenchmarkRow("ONNX", "onnx", agreement=NO_DETECTIONS))
    both = Benchmark(tmp_path, [full, BenchmarkRow("CoreML", "coreml", 6.0, 3.0)])
    assert [row["Status❔"] for row in both.summary()] == ["✅", "❎"]
    assert len(both.to_csv().splitlines()) == 3
