"""The small install: an ONNX file predicts and validates where torch is not, with torch's numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from yolopose import YOLO

pytest.importorskip("onnx")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def base_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the package and nothing but what it needs."""
    folder = tmp_path_factory.mktemp("base")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[headless]"], check=True)
    return python


@pytest.mark.slow
def test_onnx_runs_without_torch(base_python: Path, shared: Path, tmp_path: Path) -> None:
    assert subprocess.run([base_python, "-c", "import torch"], capture_output=True, check=False).returncode
    shutil.copytree(shared / "data/coco-mini", tmp_path / "coco-mini")
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    model = YOLO(tmp_path / "n.pt")
    model.export(format="onnx", dynamic=True, verbose=False)
    data, image = tmp_path / "coco-mini/coco-mini.yaml", shared / "images/bus.jpg"
    yolo = base_python.with_name("yolo")
    done = subprocess.run(
        [yolo, "predict", "model=n.onnx", f"source={image}", "save_txt=True", "save_conf=True"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "4 persons" in done.stdout
    rows = [line.split() for line in (tmp_path / "runs/pose/predict/labels/bus.txt").read_text().splitlines()]
    boxes = model(image, verbose=False)[0].boxes
    np.testing.assert_allclose([[float(v) for v in row[1:5]] for row in rows], boxes.xywhn.numpy(), atol=1e-4)
    code = (
        "import json, yolopose\n"
        f"metrics = yolopose.YOLO('n.onnx').val(data={str(data)!r}, plots=False, verbose=False)\n"
        "print(json.dumps(metrics.results_dict))"
    )
    done = subprocess.run([base_python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found, expected = json.loads(done.stdout.splitlines()[-1]), model.val(data=data, plots=False, verbose=False)
    for key, value in expected.results_dict.items():
        assert found[key] == pytest.approx(value, abs=1e-3), key
    done = subprocess.run(
        [yolo, "val", "model=n.onnx", f"data={data}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    row = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["all"])
    np.testing.assert_allclose([float(value) for value in row[3:]], expected.mean_results(), atol=1.5e-3)  # 3 digits


@pytest.mark.slow
def test_onnx_tracks_without_torch(base_python: Path, shared: Path, tmp_path: Path) -> None:
    """The base install names the missing extra; with scipy the ids are those of torch's network."""
    import cv2

    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    model = YOLO(tmp_path / "n.pt")
    model.export(format="onnx", imgsz=320, verbose=False)
    image = cv2.resize(cv2.imread(str(shared / "images/bus.jpg")), (320, 420))
    writer = cv2.VideoWriter(str(tmp_path / "bus.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 320))
    for t in range(6):
        writer.write(image[10 * t : 10 * t + 320])
    writer.release()
    command = [
        base_python.with_name("yolo"), "track", "model=n.onnx", "source=bus.avi", "imgsz=320", "save_jsonl=True"
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode:  # scipy is not in the base install
        assert "pip install 'yolopose[track]'" in done.stderr
        subprocess.run([base_python, "-m", "pip", "install", "--quiet", f"{ROOT}[track]"], check=True)
        subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (file,) = tmp_path.glob("runs/pose/*/predictions.jsonl")
    found = [[row["track_id"] for row in json.loads(line)["detections"]] for line in file.read_text().splitlines()]
    results = model.track(tmp_path / "bus.avi", imgsz=320, verbose=False)
    assert found == [result.boxes.id.int().tolist() for result in results]
    assert len(found[0]) >= 3
