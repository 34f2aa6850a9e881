"""Small runs for the tests of the evaluation: random records, and a data set that a fake network solves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from yolopose.config import ValOptions
from yolopose.data.labels import ImageLabels
from yolopose.evaluate import PoseMetrics, RecordBuilder
from yolopose.geometry import Letterbox
from yolopose.runtime import Candidates
from yolopose.runtime.nms import Detections
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

RECORD_SPEC = PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=5))
LETTERBOX = Letterbox((256, 256), (256, 256), 0, 0, (256, 256))


def random_image(
    rng: np.random.Generator, noise: float, num_gt: int = 4, num_false: int = 6
) -> tuple[Detections, ImageLabels]:
    """Ground truth of an image, and detections near it besides some that are nowhere near."""
    corner, size = rng.uniform(0, 180, (num_gt, 2)), rng.uniform(20, 70, (num_gt, 2))
    gt_boxes = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
    xy = corner[:, None] + rng.random((num_gt, 5, 2)) * size[:, None]
    gt_points = np.concatenate((xy, np.ones((num_gt, 5, 1))), 2)
    gt_classes = rng.integers(0, 2, num_gt).astype(np.int32)
    boxes = np.concatenate((gt_boxes + rng.normal(0, noise, gt_boxes.shape), rng.uniform(0, 250, (num_false, 4))))
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    points = np.concatenate(
        (gt_points + rng.normal(0, 2 * noise, gt_points.shape), rng.uniform(0, 250, (num_false, 5, 3)))
    )
    scores = rng.random(len(boxes)).round(2).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    classes = np.concatenate((gt_classes, rng.integers(0, 2, num_false)))
    detections = Detections(
        boxes[order].astype(np.float32),
        scores[order],
        classes[order].astype(np.int64),
        points[order].astype(np.float32),
    )
    return detections, ImageLabels(gt_classes, gt_boxes, gt_points.astype(np.float32))


def random_run(
    noise: float = 3, images: int = 30, seed: int = 0, run_info: dict[str, Any] | None = None
) -> PoseMetrics:
    """A run on random images; their ground truth depends only on the index of the image."""
    builder = RecordBuilder(RECORD_SPEC)
    for index in range(images):
        _, gt = random_image(np.random.default_rng(index), 0, num_gt=index % 5)
        rng = np.random.default_rng((index, seed))
        detections, _ = random_image(rng, noise)
        if len(gt.classes):
            boxes = gt.boxes + rng.normal(0, noise, gt.boxes.shape).astype(np.float32)
            count = min(len(boxes), 4)
            detections.boxes[:count], detections.classes[:count] = boxes[:count], gt.classes[:count]
            detections.points[:count] = gt.keypoints[:count] + rng.normal(0, noise, (count, 5, 3)).astype(np.float32)
        builder.add(f"{index:03}.jpg", detections, gt, LETTERBOX)
    metrics = PoseMetrics(RECORD_SPEC.names)
    metrics.set_record(builder.finish(run_info), RECORD_SPEC)
    return metrics


SIZES = [(96, 128), (128, 96), (100, 100), (60, 140), (96, 128)]
RECTANGLE_SPEC = PoseSpec(classes=("red", "green"), keypoints=KeypointSchema(count=2, dims=3, flip_idx=(0, 1)))


class RectangleRuntime:
    """Detects the red (class 0) and the green (class 1) rectangle of each image; two corners are its keypoints.

    Args:
        spec: what it claims to detect.
        shift: distance of its keypoints from the corners, pixels.
        fixed: the only (height, width) that it takes.
    """

    device = "cpu"

    def __init__(
        self, spec: PoseSpec = RECTANGLE_SPEC, shift: float = 0.0, fixed: tuple[int, int] | None = None
    ) -> None:
        self.metadata = ModelMetadata(spec=spec, name="rectangles", imgsz=fixed or (640, 640), dynamic=fixed is None)
        self.shift = shift
        self.shapes: list[tuple[int, ...]] = []
        self.calls: list[dict[str, Any]] = []

    def infer(
        self,
        batch: np.ndarray,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        self.shapes.append(batch.shape)
        self.calls.append({"conf": conf, "classes": classes, "multi_label": multi_label})
        rows = []
        for index, image in enumerate(batch.astype(int)):
            for cls in range(2):
                ys, xs = np.nonzero((image[cls] > 180) & (image[1 - cls] < 60))
                if len(ys) and (classes is None or cls in classes):
                    rows.append((index, cls, xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
        table = np.array(rows, dtype=np.float32).reshape(-1, 6)
        boxes = table[:, 2:]
        points = np.concatenate((boxes.reshape(-1, 2, 2) + self.shift, np.full((len(boxes), 2, 1), 0.9)), axis=2)
        # one score is below the default threshold of the confusion matrix, none below that of the metrics
        scores = np.where(table[:, 0] == 0, 0.1, 0.8).astype(np.float32)
        keep = scores > conf
        return Candidates(
            boxes=boxes[keep],
            scores=scores[keep],
            classes=table[keep, 1].astype(np.int64),
            points=points[keep].astype(np.float32),
            batch_idx=table[keep, 0].astype(np.int64),
        )

    def to_array(self, array: np.ndarray) -> Any:
        return array


class EvenRuntime(RectangleRuntime):
    """The same with scores that do not depend on the position of an image in its batch."""

    def infer(self, batch: np.ndarray, **options: Any) -> Candidates:
        candidates = super().infer(batch, **options)
        return replace(candidates, scores=np.where(candidates.classes == 0, 0.8, 0.6).astype(np.float32))


class ReplicatedRuntime(EvenRuntime):
    """The same in replicas, each of which takes one image at a time."""

    def replicas(self, count: int) -> list[EvenRuntime]:
        self.used = [EvenRuntime(shift=self.shift) for _ in range(count)]
        return self.used


def make_rectangles(folder: Path, labeled: bool = True, **keys: Any) -> Path:
    """A data set of five images: red in all, green in every second, the last one empty; returns the data YAML."""
    for name in ("images/val", "labels/val"):
        (folder / name).mkdir(parents=True)
    for index, (height, width) in enumerate(SIZES):
        image = np.full((height, width, 3), 114, dtype=np.uint8)
        lines = []
        for cls in range(2) if labeled and index < 4 else ():
            if cls and index % 2:
                continue
            x1, y1, x2, y2 = (5 + index, 8, 40, 50) if cls == 0 else (width // 2 + 2, 6, width - 4, 45)
            image[y1:y2, x1:x2] = (0, 0, 255) if cls == 0 else (0, 255, 0)
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            points = (x1 / width, y1 / height, 2, x2 / width, y2 / height, 2)
            lines.append(" ".join(str(value) for value in (cls, *box, *points)))
        cv2.imwrite(str(folder / f"images/val/{index:03}.png"), image)
        (folder / f"labels/val/{index:03}.txt").write_text("\n".join(lines))
    values = {
        "path": str(folder),
        "val": "images/val",
        "names": ["red", "green"],
        "kpt_shape": [2, 3],
        "flip_idx": [0, 1],
        **keys,
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def val_options(path: Path, **values: Any) -> ValOptions:
    return ValOptions(**{"data": str(path), "imgsz": 128, "batch": 2, "plots": False, "verbose": False, **values})
