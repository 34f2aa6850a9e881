"""Predictions equal those of the reference for the same weights and images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yolopose.config import PredictOptions
from yolopose.formats import open_runtime
from yolopose.predict import predict
from yolopose.results import Results

pytest.importorskip("torch")

PIXELS, CONFIDENCE = 0.5, 0.005


@pytest.mark.parametrize("batch", [1, 8])
def test_matches_reference_predictions(shared: Path, batch: int) -> None:
    stored = json.loads((shared / "fixtures/predictions_yolo11n-pose.json").read_text())["predictions"]
    runtime = open_runtime(shared / "checkpoints/yolo11n-pose.pt", device="cpu")
    names = list(stored)[:: 1 if batch == 1 else 4]
    results = predict(runtime, [shared / name for name in names], PredictOptions(verbose=False, batch=batch))
    faults = [fault for name, result in zip(names, results, strict=True) for fault in differences(stored[name], result)]
    assert len(stored) == 42
    assert not faults, "\n".join(faults)


def differences(expected: list[dict], result: Results) -> list[str]:
    """What differs by more than the limits; both lists stand by descending confidence."""
    if len(expected) != len(result):
        return [f"{result.path}: {len(result)} detections instead of {len(expected)}"]
    boxes, points = result.boxes.data.numpy(), result.keypoints.data.numpy()
    faults: list[str] = []
    for row, (truth, box, dots) in enumerate(zip(expected, boxes, points, strict=True)):
        wanted = np.array(truth["keypoints"])
        far = {
            "box": np.abs(box[:4] - truth["xyxy"]).max() / PIXELS,
            "points": np.abs(dots[:, :2] - wanted[:, :2]).max() / PIXELS,
            "confidence": abs(box[4] - truth["conf"]) / CONFIDENCE,
            "visibility": np.abs(dots[:, 2] - wanted[:, 2]).max() / CONFIDENCE,
            "class": abs(box[5] - truth["cls"]) + 0.5,
        }
        faults += [
            f"{result.path}, row {row}: {part} at {ratio:.2f} of its limit" for part, ratio in far.items() if ratio > 1
        ]
    return faults
