from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fake_runtime import SPEC, FakeRuntime, painted
from yolopose.base.errors import UsageError
from yolopose.config import PredictOptions
from yolopose.predict import predict
from yolopose.runtime import Candidates
from yolopose.runtime.nms import Detections
from yolopose.runtime.tta import TTA_VIEWS, TTARuntime, TTAView, fuse_boxes
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec


def options(**values: object) -> PredictOptions:
    return PredictOptions(**{"imgsz": 128, "verbose": False, **values})  # type: ignore[arg-type]  # any key


FLIP_SPEC = PoseSpec(classes=SPEC.classes, keypoints=KeypointSchema(count=2, dims=3, flip_idx=(1, 0)))


class Upper(FakeRuntime):
    """Predicts the upper corners as keypoints, a pair that a flip swaps."""

    def infer(self, batch: np.ndarray, **options: object) -> Candidates:
        candidates = super().infer(batch, **options)  # type: ignore[arg-type]
        points = candidates.points.copy()
        points[:, 1, 1] = points[:, 0, 1]
        return replace(candidates, points=points)


@pytest.mark.parametrize("spec", [SPEC, FLIP_SPEC])
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("shape", [(96, 128), (200, 300), (300, 100)])
def test_views_agree(spec: PoseSpec, fixed: bool, shape: tuple[int, int]) -> None:
    height, width = shape
    box = (width // 8, height // 8, width // 2, height * 3 // 4)
    runtime = Upper(ModelMetadata(spec=spec, imgsz=(128, 128), dynamic=not fixed, batch=1 if fixed else 0))
    views = TTARuntime(runtime, 0.7).views
    assert any(view.flipped for view in views) == (spec is FLIP_SPEC)
    assert any(view.scale > 1 for view in views) != fixed
    (result,) = predict(runtime, painted(height, width, box), options(augment=True, conf=0.1))
    assert len(runtime.shapes) == len(views)
    pixel = max(shape) / 60
    np.testing.assert_allclose(result.boxes.xyxy, [box], atol=pixel)
    np.testing.assert_allclose(result.keypoints.xy[0], [[box[0], box[1]], [box[2], box[1]]], atol=pixel)
    np.testing.assert_allclose(result.boxes.conf, 0.875, rtol=1e-6)


def detections(*rows: tuple[float, float, int]) -> Detections:
    """(x, score, class) of boxes 10 wide whose one point is their corner."""
    x = np.array([row[0] for row in rows], np.float32)
    boxes = np.stack((x, 0 * x, x + 10, 0 * x + 10), 1)
    points = np.stack((x, 0 * x, 0 * x + 1), 1)[:, None]
    scores, classes = (np.array([row[place] for row in rows]) for place in (1, 2))
    return Detections(boxes, scores.astype(np.float32), classes.astype(np.int64), points)


def test_fuse_boxes() -> None:
    one, two = detections((0, 0.9, 0), (50, 0.4, 0), (80, 0.6, 1)), detections((1, 0.3, 0), (80, 0.5, 0))
    fused = fuse_boxes([one, two], 0.7)
    # the pair at 0 and 1: (0·.9 + 1·.3) / 1.2; the others were seen by one view of two, and classes stay apart
    np.testing.assert_allclose(fused.scores, [0.6, 0.3, 0.25, 0.2], rtol=1e-6)
    np.testing.assert_allclose(fused.boxes[:, 0], [0.25, 80, 80, 50], rtol=1e-6)
    np.testing.assert_allclose(fused.points[:, 0, 0], [0.25, 80, 80, 50], rtol=1e-6)
    assert fused.classes.tolist() == [0, 1, 0, 0]
    together = fuse_boxes([one, two], 0.7, agnostic=True)
    np.testing.assert_allclose(together.scores, [0.6, 0.55, 0.2], rtol=1e-6)
    assert together.classes.tolist() == [0, 1, 0]


def test_no_detections() -> None:
    assert len(fuse_boxes([detections(), detections()], 0.7)) == 0
    with pytest.raises(UsageError, match="uncertainty=True"):
        predict(Upper(), np.zeros((64, 64, 3), np.uint8), options(augment=True, uncertainty=True))
    (result,) = predict(Upper(), np.zeros((64, 64, 3), np.uint8), options(augment=True))
    assert (result.boxes.data.shape, result.keypoints.data.shape) == ((0, 6), (0, 2, 3))


def test_first_view_is_the_plain_image() -> None:
    assert TTA_VIEWS[0] == TTAView(1.0, False)
