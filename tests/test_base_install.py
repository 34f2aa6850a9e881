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
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
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
