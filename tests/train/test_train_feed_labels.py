from __future__ import annotations

import numpy as np
import pytest

from yolopose.data import ImageLabels
from yolopose.geometry import Transform2D
from yolopose.train.feed.augment import Canvas, Layout, Size
from yolopose.train.feed.labels import box_candidates, place_labels, transform_labels


@pytest.mark.parametrize(
    ("before", "after", "keep"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), True),
        ((0, 0, 10, 10), (0, 0, 2, 10), False),  # 2 px is not more than 2
        ((0, 0, 10, 10), (0, 0, 2.1, 10), True),
        ((0, 0, 10, 10), (0, 0, 3, 3.2), False),  # 9.6 % of the area
        ((0, 0, 10, 10), (0, 0, 3, 3.5), True),
        ((0, 0, 300, 3), (0, 0, 300, 2.9), False),  # longer than 100 : 1
        ((0, 0, 280, 3), (0, 0, 280, 2.9), True),
        ((0, 0, 0, 0), (0, 0, 0, 0), False),
        ((0, 0, 10, 10), (np.nan,) * 4, False),
    ],
)
def test_box_candidates(before: tuple[float, ...], after: tuple[float, ...], keep: bool) -> None:
    assert box_candidates(np.array([before], float), np.array([after], float)).tolist() == [keep]


LABELS = ImageLabels(
    np.array([0, 3], np.int32),
    np.array([[0.5, 0.5, 0.5, 0.5], [0.95, 0.5, 0.1, 0.5]], np.float32),
    np.array([[[0.3, 0.5, 2], [0.7, 0.5, 1], [0.5, 0.5, 0]]] * 2, np.float32),
)


def transformed(placement: Transform2D, transform: Transform2D, shape: Size, *, mirrored: bool = False) -> ImageLabels:
    canvas = Canvas(Layout((), (100, 100)), transform, 1.0, mirrored)
    return transform_labels(place_labels(LABELS, placement), canvas, shape, (1, 0, 2))


def test_clips_boxes_and_hides_keypoints_outside_the_image() -> None:
    # a layout 100 px wide, shifted left by half: the first instance is cut in the middle, the second stays whole
    labels = transformed(Transform2D.scale(100), Transform2D.translate(-50, 0), (100, 100))
    np.testing.assert_allclose(labels.boxes, [[0, 25, 25, 75], [40, 25, 50, 75]], atol=1e-5)
    np.testing.assert_allclose(labels.keypoints[0], [[0, 0, 0], [20, 50, 1], [0, 0, 0]], atol=1e-5)
    assert labels.classes.tolist() == [0, 3]


def test_what_the_layout_cuts_off_does_not_come_back() -> None:
    placement = Transform2D.translate(40, 0) @ Transform2D.scale(100)
    labels = transformed(placement, Transform2D.identity(), (100, 200))
    np.testing.assert_allclose(labels.boxes, [[65, 25, 100, 75]], atol=1e-5)
    assert labels.keypoints[0, :, 2].tolist() == [2, 0, 0]


def test_permutes_keypoints_of_mirrored_canvases() -> None:
    flip = Transform2D.flip(100, 100, horizontal=True)
    labels = transformed(Transform2D.scale(100), flip, (100, 100), mirrored=True)
    np.testing.assert_allclose(labels.keypoints[0], [[30, 50, 1], [70, 50, 2], [0, 0, 0]], atol=1e-4)
