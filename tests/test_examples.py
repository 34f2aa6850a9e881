"""The programs of examples/ run on videos, images and drawn poses."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from yolopose import YOLO, Results
from yolopose.results import Frame
from yolopose.schema import KeypointSchema

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = KeypointSchema.coco_person().keypoint_names(0)


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made_results(poses: list[dict[str, tuple[float, float]]]) -> Iterator[Results]:
    """Yield one result per frame, 10 per second, with a person of track id 7."""
    for number, pose in enumerate(poses, 1):
        points = np.zeros((1, 17, 3), np.float32)
        for name, place in pose.items():
            points[0, NAMES.index(name)] = (*place, 0.9)
        boxes = np.array([[0, 0, 100, 100, 7, 0.9, 0]], np.float32)
        yield Results(
            np.zeros((100, 100, 3), np.uint8), "video", {0: "person"}, boxes=boxes, keypoints=points,
            schema=KeypointSchema.coco_person(), frame=Frame(number, fps=10.0),
        )  # fmt: skip


def bent_leg(angle: float) -> dict[str, tuple[float, float]]:
    """Return a knee at (50, 50) with the hip above, bent by an angle in degrees."""
    turn = np.radians(angle)
    return {"left_hip": (50, 20), "left_knee": (50, 50), "left_ankle": (50 + 30 * np.sin(turn), 50 - 30 * np.cos(turn))}


def trunk(angle: float) -> dict[str, tuple[float, float]]:
    """Return shoulders and hips of a trunk at an angle to the vertical, degrees."""
    x, y = 40 * np.sin(np.radians(angle)), -40 * np.cos(np.radians(angle))
    return {
        "left_hip": (45, 60),
        "right_hip": (55, 60),
        "left_shoulder": (45 + x, 60 + y),
        "right_shoulder": (55 + x, 60 + y),
    }


@pytest.mark.parametrize("angle", [10.0, 90.0, 135.0, 180.0])
def test_joint_angle(angle: float) -> None:
    example = load_example("repetitions")
    points = np.array(list(bent_leg(angle).values()))
    assert example.joint_angle(points) == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize(
    ("angles", "count"),
    [
        (125 + 50 * np.cos(np.linspace(0, 8 * np.pi, 200)), 4),
        (np.full(50, 90.0), 0),
        (150 + 5 * np.sin(np.arange(100)), 0),  # noise at one threshold
        ([170, 90, 170, 90], 1),  # the last one is not finished
    ],
)
def test_repetitions(angles: Any, count: int) -> None:
    example = load_example("repetitions")
    results = made_results([bent_leg(angle) for angle in angles])
    assert example.count_repetitions(results, "left_knee", 100, 150) == {7: count}


def test_repetitions_skip_hidden_joints() -> None:
    example = load_example("repetitions")
    assert example.count_repetitions(made_results([{}] * 5), "right_elbow", 100, 150) == {}


@pytest.mark.parametrize(
    ("angles", "falls"),
    [
        ([0] * 10 + [90] * 30, [3.0]),  # 2 s after the trunk became horizontal
        ([0] * 10 + [90] * 15 + [0] * 10, []),  # stands up again in time
        ([90] * 50, []),  # was never upright: sleeps
        ([0] * 5 + [90] * 25 + [0] * 5 + [90] * 25, [2.5, 5.5]),
        ([0] * 5 + [45] * 50, []),
    ],
)
def test_falls(angles: list[float], falls: list[float]) -> None:
    example = load_example("falls")
    alarms = list(example.find_falls(made_results([trunk(angle) for angle in angles]), 2.0))
    assert [track_id for track_id, _ in alarms] == [7] * len(falls)
    assert [seconds for _, seconds in alarms] == pytest.approx(falls)


def write_video(path: Path, shared: Path) -> None:
    image = cv2.resize(cv2.imread(str(shared / "images/bus.jpg")), (240, 320))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (240, 320))
    for _ in range(6):
        writer.write(image)
    writer.release()


@pytest.mark.slow
def test_programs_on_a_video(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("scipy")
    write_video(tmp_path / "bus.mp4", shared)
    model = f"--model={shared / 'checkpoints/yolo11n-pose.pt'}"
    for name, arguments in (
        ("webcam", ["bus.mp4", "--imgsz=320", "--output=poses.mp4"]),
        ("repetitions", ["bus.mp4"]),
        ("falls", ["bus.mp4"]),
    ):
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments, model],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    video = cv2.VideoCapture(str(tmp_path / "poses.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    missing = subprocess.run(
        [sys.executable, str(EXAMPLES / "falls.py"), "missing.mp4", model],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: ")


def test_http_api(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    pytest.importorskip("httpx", reason="httpx is not installed")
    from fastapi.testclient import TestClient

    monkeypatch.setenv("YOLO_MODEL", str(shared / "checkpoints/yolo11n-pose.pt"))
    image = (shared / "images/bus.jpg").read_bytes()
    headers = {"Content-Type": "application/octet-stream"}
    with TestClient(load_example("http_api").app) as client:
        answer = client.post("/poses?conf=0.4", content=image, headers=headers)
        assert answer.status_code == 200
        instances = answer.json()["instances"]
        assert len(instances) >= 3
        assert {"name", "confidence", "box", "keypoints"} <= set(instances[0])
        assert client.post("/poses", content=b"not an image", headers=headers).status_code == 422
        assert client.post("/poses?conf=2", content=image, headers=headers).status_code == 422


@pytest.mark.slow
def test_javascript(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    from yolopose.formats.web import fetch_runtime

    try:
        fetch_runtime()
    except OSError as error:
        pytest.skip(f"onnxruntime-web is not available: {error}")
    for name in ("package.json", "pose.mjs"):
        shutil.copyfile(EXAMPLES / "javascript" / name, tmp_path / name)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=300).returncode:
        pytest.skip("npm cannot install the packages")
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    folder = YOLO(tmp_path / "n.pt").export(format="web", imgsz=320, verbose=False)
    image = shared / "images/bus.jpg"
    done = subprocess.run(
        ["node", "pose.mjs", str(folder), str(image)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = YOLO(folder)(image, imgsz=320, verbose=False)[0].numpy()
    assert len(rows) == len(expected) > 0
    np.testing.assert_allclose([row["box"] for row in rows], expected.boxes.xyxy, atol=3)  # another JPEG decoder
    np.testing.assert_allclose([row["score"] for row in rows], expected.boxes.conf, atol=0.02)
    assert list(rows[0]["keypoints"]) == list(NAMES)
