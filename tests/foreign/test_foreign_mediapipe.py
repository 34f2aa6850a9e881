"""MediaPipe's published networks on photographs: people where people are, hands where hands are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from yolopose import YOLO
from yolopose.base.errors import WeightsError
from yolopose.data.label_file import read_label_file
from yolopose.foreign.bundle import bundle, packed_graphs
from yolopose.schema import COCO_PERSON_NAMES, KeypointSchema, PoseSpec

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def person(mediapipe_files: Path) -> YOLO:
    return YOLO(mediapipe_files / "pose_landmark_full.tflite")


def test_person_of_the_bus_photograph(person: YOLO, shared: Path) -> None:
    """The man in the light coat, against another network; 5 % of his height."""
    image = shared / "images/bus.jpg"
    result = person(image, verbose=False)[0]
    assert result.boxes.conf[0] > 0.9
    other = YOLO(shared / "checkpoints/yolo11n-pose.pt")(image, verbose=False)[0].cpu().numpy()
    points = result.keypoints.xy[0][order_of_coco(person)]
    distances = np.linalg.norm(other.keypoints.xy - points, axis=2)
    nearest = distances.mean(axis=1).argmin()
    visible = other.keypoints.conf[nearest] > 0.5
    assert visible.sum() > 10
    assert np.median(distances[nearest][visible]) < 0.03 * np.ptp(other.boxes.xyxy[nearest][1::2])


def test_pck_against_labels(person: YOLO, shared: Path) -> None:
    """On single persons of coco-mini, most visible keypoints are right: within a tenth of the diagonal of the box."""
    root = shared / "data/coco-mini"
    spec = PoseSpec(classes=("person",), keypoints=KeypointSchema.coco_person())
    order = order_of_coco(person)
    hits: list[np.ndarray] = []
    for path in sorted((root / "images/val").glob("*.jpg"))[:120]:
        labels = read_label_file(root / "labels/val" / f"{path.stem}.txt", spec)
        if labels is None or len(labels.classes) != 1:
            continue
        result = person(path, verbose=False)[0]
        if not len(result):
            continue
        height, width = result.orig_shape
        points = labels.keypoints[0] * [width, height, 1]
        limit = 0.1 * np.hypot(*(labels.boxes[0, 2:] * [width, height]))
        distance = np.linalg.norm(result.keypoints.xy[0][order] - points[:, :2], axis=1)
        hits.append(distance[points[:, 2] == 2] < limit)
    assert len(hits) >= 15
    assert np.concatenate(hits).mean() > 0.75


def order_of_coco(model: YOLO) -> list[int]:
    names = list(model.spec.keypoints.keypoint_names(0))
    return [names.index(name) for name in COCO_PERSON_NAMES]


def test_hand_of_the_other_photograph(mediapipe_files: Path, shared: Path) -> None:
    """The outstretched hand in zidane.jpg: its index finger points right."""
    model = YOLO(mediapipe_files / "hand_landmark_full.tflite")
    result = model(shared / "images/zidane.jpg", conf=0.3, verbose=False)[0]
    assert len(result) == 1
    assert result.keypoints.data.shape == (1, 21, 2)
    left, top, right, bottom = result.boxes.xyxy[0]
    assert 980 < left < 1040 < 1120 < right < 1170
    assert 380 < top < bottom < 520
    names = list(result.schema.keypoint_names(0))
    tip, wrist = (result.keypoints.xy[0][names.index(name)] for name in ("index_tip", "wrist"))
    assert tip[0] > wrist[0] + 60


def test_bundle_equals_the_files(person: YOLO, mediapipe_files: Path, shared: Path, tmp_path: Path) -> None:
    detector = packed_graphs((mediapipe_files / "pose_solution_packed_assets.data").read_bytes())[0]
    graph = (mediapipe_files / "pose_landmark_full.tflite").read_bytes()
    (tmp_path / "mediapipe-pose-full.task").write_bytes(bundle(graph, detector))
    model = YOLO(tmp_path / "mediapipe-pose-full.task")
    image = shared / "images/bus.jpg"
    np.testing.assert_array_equal(
        model(image, verbose=False)[0].keypoints.data, person(image, verbose=False)[0].keypoints.data
    )


def test_litert_agrees_with_openvino(person: YOLO, mediapipe_files: Path, shared: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from yolopose.foreign import open_foreign

    image = shared / "images/bus.jpg"
    expected = person(image, verbose=False)[0].keypoints.data
    model = YOLO(mediapipe_files / "pose_landmark_full.tflite")
    runtime = open_foreign(mediapipe_files / "pose_landmark_full.tflite", engine="litert")
    model._runtimes.clear()
    model._open_runtime = lambda _config: runtime  # type: ignore[method-assign]
    np.testing.assert_allclose(model(image, verbose=False)[0].keypoints.data, expected, atol=0.2)


def test_files_of_one_stage(mediapipe_files: Path, tmp_path: Path) -> None:
    shutil.copy(mediapipe_files / "pose_landmark_lite.tflite", tmp_path)
    with pytest.raises(WeightsError, match="detector of the first stage is missing"):
        YOLO(tmp_path / "pose_landmark_lite.tflite")
    detector = packed_graphs((mediapipe_files / "pose_solution_packed_assets.data").read_bytes())[0]
    (tmp_path / "pose_detection.tflite").write_bytes(detector)
    assert YOLO(tmp_path / "pose_landmark_lite.tflite").spec.keypoints.count == 33
    with pytest.raises(WeightsError, match="the first of its two stages"):
        YOLO(tmp_path / "pose_detection.tflite")
