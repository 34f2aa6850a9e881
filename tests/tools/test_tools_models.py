"""`yolo models`."""

from yolopose.tools.models import models_report


def test_models_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(tmp_path / "weights"))
    (tmp_path / "yolov8n-pose.pt").touch()
    lines = models_report().splitlines()
    row = next(line for line in lines if line.startswith("yolo11n-pose"))
    assert " ".join(row.split()[1:]) == "2.87 M 7.6 2.87 M 7.5 50.0 81.0 52.4 1.7 downloaded on use, AGPL-3.0"
    assert next(line for line in lines if line.startswith("yolov8n-pose")).endswith("on this machine, AGPL-3.0")
    assert any("were not measured here" in line for line in lines)
