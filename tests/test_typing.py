"""What editors and type checkers know of the public interface."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = """
from collections.abc import Iterator
from yolopose import YOLO, Boxes, Keypoints, PoseMetrics, Results

model = YOLO("yolo11n-pose.pt").to("cpu")
results = model("a.jpg", conf=0.5)
reveal_type(results)  # list[Results]
reveal_type(model.predict("a.mp4", stream=True))  # Iterator[Results]
reveal_type(results[0].boxes)  # Boxes
reveal_type(results[0].keypoints)  # Keypoints
reveal_type(results[0].boxes.xyxy)  # ResultArray
reveal_type(results[0].boxes.id)  # ResultArray | None
reveal_type(results[0].keypoints.xy.cpu())  # ResultArray
reveal_type(results[0].keypoints["nose"])  # ResultArray
reveal_type(results[0].keypoints[0])  # Keypoints
reveal_type(model.val(data={"train": "a"}))  # PoseMetrics
reveal_type(model.train(data="a.yaml", epochs=3, augmentations=[print]))  # PoseMetrics | None
for box in results[0].boxes:
    x1, y1, x2, y2 = box.xyxy[0].tolist()
print(results[0].keypoints.xy[0, 5].cpu().numpy().mean() + results[0].boxes.conf.max())
model.predict("a.jpg", cnof=0.5)  # error
model.train(epochs="many")  # error
"""


@pytest.mark.slow
def test_types_of_the_public_interface(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(CODE)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT / "src")]}))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    report = json.loads(done.stdout)["generalDiagnostics"]
    lines = CODE.splitlines()
    revealed = [item for item in report if item["severity"] == "information"]
    for item in revealed:
        expected = lines[item["range"]["start"]["line"]].partition("# ")[2]
        assert f'is "{expected}"' in item["message"].replace("Generator[Results, None, None]", "Iterator[Results]")
    assert len(revealed) == CODE.count("reveal_type")
    faults = {item["range"]["start"]["line"] for item in report if item["severity"] == "error"}
    assert faults == {number for number, line in enumerate(lines) if line.endswith("# error")}
