"""`yolo models`."""

from yolopose.tools.models import report


def test_report_names_sizes_license_and_what_is_not_measured_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(tmp_path / "weights"))
    (tmp_path / "yolov8n-pose.pt").touch()
    lines = report().splitlines()
    row = next(line for line in lines if line.startswith("yolo11n-pose"))
    assert " ".join(row.split()[1:]) == "2.87 M 7.6 2.87 M 7.5 50.0 81.0 52.4 1.7 downloaded when named, AGPL-3.0"
    assert next(line for line in lines if line.startswith("yolov8n-pose")).endswith("here, AGPL-3.0")
    assert any("not measured here" in line for line in lines)
