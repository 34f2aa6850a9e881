"""Boxes and keypoints against formulas of their own, on every kind of array."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from results_samples import BOXES, POINTS, SCHEMA

from yolopose.base.errors import UsageError
from yolopose.results import Boxes, HostArray, Keypoints

SHAPE = (100, 200)
NAMES = SCHEMA.names[0]


def near(values, expected):
    np.testing.assert_allclose(np.asarray(values), expected, rtol=1e-6, atol=1e-7)


def test_box_forms(kind):
    data = kind(BOXES)
    boxes = Boxes(data, SHAPE)
    near(boxes.xyxy, [row[:4] for row in BOXES])
    near(boxes.xywh, [[(a + c) / 2, (b + d) / 2, c - a, d - b] for a, b, c, d, *_ in BOXES.astype(float)])
    near(boxes.xyxyn, [[a / 200, b / 100, c / 200, d / 100] for a, b, c, d, *_ in BOXES.astype(float)])
    near(
        boxes.xywhn,
        [[(a + c) / 400, (b + d) / 200, (c - a) / 200, (d - b) / 100] for a, b, c, d, *_ in BOXES.astype(float)],
    )
    near(boxes.conf, BOXES[:, 4])
    near(boxes.cls, BOXES[:, 5])
    assert boxes.id is None
    assert not boxes.is_track
    for values in (boxes.xyxy, boxes.xywh, boxes.xyxyn, boxes.xywhn, boxes.conf, boxes.cls):
        assert type(values) is type(data)
    near(boxes.data, BOXES)  # no form wrote into the data


def test_track_ids(kind, tracked):
    boxes = Boxes(kind(tracked), SHAPE)
    assert boxes.is_track
    assert np.asarray(boxes.id).tolist() == [7, 3, 12]
    near(boxes.conf, BOXES[:, 4])
    near(boxes.cls, BOXES[:, 5])


@pytest.mark.parametrize(
    ("index", "rows"), [(0, [0]), (-1, [2]), (slice(1, 3), [1, 2]), ([2, 0], [2, 0]), ([True, False, True], [0, 2])]
)
def test_indexing(kind, index, rows):
    boxes, points = Boxes(kind(BOXES), SHAPE)[index], Keypoints(kind(POINTS), SHAPE, NAMES)[index]
    near(boxes.data, BOXES[rows])
    near(points.data, POINTS[rows])
    assert (len(boxes), boxes.shape, points.shape) == (len(rows), (len(rows), 6), (len(rows), 3, 3))
    assert boxes.orig_shape == points.orig_shape == SHAPE
    assert points.names == NAMES


def test_iteration(kind):
    assert [box.shape for box in Boxes(kind(BOXES), SHAPE)] == [(1, 6)] * 3
    assert [points.shape for points in Keypoints(kind(POINTS), SHAPE)] == [(1, 3, 3)] * 3


@pytest.mark.parametrize("dims", [2, 3])
def test_keypoint_forms(kind, dims):
    data = kind(POINTS[..., :dims])
    points = Keypoints(data, SHAPE, NAMES)
    near(points.xy, POINTS[..., :2])
    near(points.xyn, POINTS[..., :2] / [200, 100])
    assert points.has_visible is (dims == 3)
    assert (points.conf is None) is (dims == 2)
    if dims == 3:
        near(points.conf, POINTS[..., 2])
    assert type(points.xyn) is type(points["nose"]) is type(data)
    near(points["nose"], POINTS[:, 1, :dims])
    near(points.data, POINTS[..., :dims])


def test_conversions(kind):
    for rows in (Boxes(kind(BOXES), SHAPE), Keypoints(kind(POINTS), SHAPE, NAMES)):
        assert type(rows.numpy().data) is np.ndarray
        assert type(rows.cpu().data) is type(rows.data)
        assert type(rows.to("cpu").data) is type(rows.data)
        assert "float64" in str(rows.to(torch.float64).data.dtype)
        if not torch.is_tensor(rows.data):
            with pytest.raises(UsageError, match="without torch"):
                rows.cuda()


def test_unknown_keypoint_names():
    with pytest.raises(UsageError, match=r"Did you mean .*left_ear"):
        Keypoints(POINTS, SHAPE, NAMES)["left_eat"]
    with pytest.raises(UsageError, match="are unknown"):
        Keypoints(POINTS, SHAPE)["nose"]
    with pytest.raises(UsageError, match="2 keypoint names"):
        Keypoints(POINTS, SHAPE, ("a", "b"))


@pytest.mark.parametrize("shape", [(2, 5), (2, 8), (5,), (1, 2, 6), (0,)])
def test_refuses_invalid_boxes(shape):
    with pytest.raises(UsageError, match=r"shape \(N, 6\)"):
        Boxes(np.zeros(shape), SHAPE)


@pytest.mark.parametrize("shape", [(2, 3, 4), (3,), (2, 3, 1), (1, 2, 3, 3)])
def test_refuses_invalid_keypoints(shape):
    with pytest.raises(UsageError, match=r"shape \(N, K, 2\)"):
        Keypoints(np.zeros(shape), SHAPE)


def test_converts_integers_to_float():
    assert np.asarray(Boxes(HostArray(np.array([[0, 0, 5, 5, 1, 0]])), SHAPE).xywh).tolist() == [[2.5, 2.5, 5, 5]]
