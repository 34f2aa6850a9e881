"""COCO metrics are the same before and after a conversion and back."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolopose.data.convert import convert

Json = dict[str, Any]


def made_predictions(gt: Json, seed: int = 0) -> list[Json]:
    """Detections near the ground truth, with noise that grows with the size, and some false ones."""
    rng = np.random.default_rng(seed)
    predictions: list[Json] = []
    for annotation in gt["annotations"]:
        scale = np.sqrt(annotation["area"]) * rng.choice([0.02, 0.08, 0.3])
        keypoints = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
        keypoints[:, :2] += rng.normal(0, scale, keypoints[:, :2].shape)
        keypoints[:, 2] = 1
        predictions.append(
            {
                "image_id": annotation["image_id"],
                "category_id": 1,
                "bbox": (np.array(annotation["bbox"]) + rng.normal(0, scale, 4)).tolist(),
                "keypoints": keypoints.ravel().tolist(),
                "score": float(rng.random()),
            }
        )
    return predictions


def scores(gt: Json, predictions: list[Json]) -> dict[str, list[float]]:
    """COCOeval of boxes and keypoints."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    result: dict[str, list[float]] = {}
    with redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = gt
        truth.createIndex()
        detections = truth.loadRes(predictions)
        for kind in ("bbox", "keypoints"):
            evaluator = evaluation.COCOeval(truth, detections, kind)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            result[kind] = list(evaluator.stats)
    return result


@pytest.mark.parametrize("name", ["yolo", "coco", "cvat", "labelstudio", "labelme", "via", "deeplabcut"])
def test_official_coco_annotations_keep_their_numbers(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "data/coco-mini/annotations/person_keypoints_val_official.json"
    images = shared / "data/coco-mini/images/val"
    convert(source, tmp_path / "there", to=name, images=images, verbose=False)
    report = convert(tmp_path / "there", tmp_path / "back", to="coco", source_format=name, images=images, verbose=False)
    gt = json.loads(source.read_text())
    back = json.loads(report.output.read_text())
    predictions = made_predictions(gt)
    ids = {image["file_name"]: image["id"] for image in back["images"]}
    moved = {image["id"]: ids[image["file_name"]] for image in gt["images"]}
    category = back["categories"][0]["id"]
    expected = scores(gt, predictions)
    actual = scores(back, [one | {"image_id": moved[one["image_id"]], "category_id": category} for one in predictions])
    for kind in expected:
        np.testing.assert_allclose(actual[kind], expected[kind], atol=1e-4)
        assert 0.1 < expected[kind][0] < 0.95
