"""The real `supervision` library takes our results as it takes those it was written for."""

from __future__ import annotations

import numpy as np
import pytest
from results_samples import BOXES, POINTS

sv = pytest.importorskip("supervision", reason="supervision is not installed (it is in the dev extra)")


@pytest.mark.parametrize("dims", [2, 3])
def test_keypoints(make, kind, dims):
    detections = sv.KeyPoints.from_ultralytics(make(points=POINTS[..., :dims], kind=kind))
    np.testing.assert_array_equal(detections.xy, POINTS[..., :2])
    assert isinstance(detections.xy, np.ndarray)
    assert detections.class_id.tolist() == [0, 1, 0]
    assert detections.data["class_name"].tolist() == ["person", "dog", "person"]
    np.testing.assert_array_equal(detections.detection_confidence, BOXES[:, 4])
    if dims == 3:
        np.testing.assert_array_equal(detections.keypoint_confidence, POINTS[..., 2])
    else:
        assert detections.keypoint_confidence is None


def test_boxes(make, kind, tracked):
    detections = sv.Detections.from_ultralytics(make(kind=kind))
    np.testing.assert_array_equal(detections.xyxy, BOXES[:, :4])
    assert isinstance(detections.xyxy, np.ndarray)
    np.testing.assert_array_equal(detections.confidence, BOXES[:, 4])
    assert (detections.class_id.tolist(), detections.tracker_id, detections.mask) == ([0, 1, 0], None, None)
    assert sv.Detections.from_ultralytics(make(tracked, kind=kind)).tracker_id.tolist() == [7, 3, 12]


def test_nothing_found(make, kind):
    empty = make(np.zeros((0, 6)), np.zeros((0, 3, 3)), kind=kind)
    assert len(sv.KeyPoints.from_ultralytics(empty)) == len(sv.Detections.from_ultralytics(empty)) == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_supervision_annotators(make, kind, dims):
    result, plain = make(points=POINTS[..., :dims], kind=kind), make(points=POINTS[..., :dims], kind=np.array)
    assert np.array_equal(drawn(result), drawn(plain))
    assert drawn(result).any()


def drawn(result):
    people, boxes = sv.KeyPoints.from_ultralytics(result), sv.Detections.from_ultralytics(result)
    image = result.orig_img.copy()
    for annotator in (sv.EdgeAnnotator(edges=[(1, 2), (2, 3)]), sv.VertexAnnotator()):
        image = annotator.annotate(image, people)
    for annotator in (sv.BoxAnnotator(), sv.LabelAnnotator()):
        image = annotator.annotate(image, boxes)
    return image
