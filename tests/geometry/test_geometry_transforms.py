from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolopose.geometry import Letterbox, Transform2D

POINTS = np.array([[0.0, 0.0], [3.5, -2.0], [100.0, 40.0]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Transform2D.identity(), POINTS),
        (Transform2D.translate(2, -3), POINTS + np.array([2, -3])),
        (Transform2D.scale(2), POINTS * 2),
        (Transform2D.scale(2, 0.5), POINTS * [2, 0.5]),
        (Transform2D.rotate(90), np.stack((POINTS[:, 1], -POINTS[:, 0]), 1)),
        (Transform2D.shear(45, 0), POINTS + POINTS[:, 1:] * [1, 0]),
        (Transform2D.shear(0, 45), POINTS + POINTS[:, :1] * [0, 1]),
        (Transform2D.perspective(0.01, 0.001), POINTS / (1 + POINTS @ [[0.01], [0.001]])),
        (Transform2D.flip(40, 100, horizontal=True), [100, 0] + POINTS * [-1, 1]),
        (Transform2D.flip(40, 100, vertical=True), [0, 40] + POINTS * [1, -1]),
        (Transform2D.flip(40, 100), POINTS),
    ],
)
def test_transforms_points_and_inverts(change: Transform2D, expected: np.ndarray) -> None:
    np.testing.assert_allclose(change.points(POINTS), expected, atol=1e-9)
    np.testing.assert_allclose(change.inverse().points(change.points(POINTS)), POINTS, atol=1e-9)


def test_composition_applies_the_right_operand_first() -> None:
    np.testing.assert_allclose(
        (Transform2D.scale(2) @ Transform2D.translate(1, 0)).points(np.array([3.0, 1.0])), [8, 2]
    )
    np.testing.assert_allclose(
        (Transform2D.translate(1, 0) @ Transform2D.scale(2)).points(np.array([3.0, 1.0])), [7, 2]
    )


def test_boxes_become_the_bounds_of_their_corners() -> None:
    turned = Transform2D.rotate(45).boxes(np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]))
    half = 2 * np.sqrt(2)
    np.testing.assert_allclose(turned, [[0, -half / 2, half, half / 2], [0, 0, 0, 0]], atol=1e-9)
    flipped = Transform2D.flip(10, 10, horizontal=True).boxes(np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(flipped, [7, 2, 9, 4])
    assert Transform2D.rotate(5).boxes(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize(
    "turn", [Transform2D.identity(), Transform2D.flip(30, 40, horizontal=True), Transform2D.flip(30, 40, vertical=True)]
)
def test_axis_aligned_shortcuts_agree_with_the_general_case(turn: Transform2D) -> None:
    upright = turn @ Transform2D.scale(0.3, 1.7) @ Transform2D.translate(4, -9)
    tilted = Transform2D(upright.matrix + np.array([[0, 1e-13, 0], [1e-13, 0, 0], [1e-13, 0, 0]]))  # takes the long way
    assert upright.axis_aligned
    assert not tilted.axis_aligned
    boxes = np.random.default_rng(0).uniform(0, 50, (7, 4))
    np.testing.assert_allclose(upright.points(POINTS), tilted.points(POINTS), atol=1e-9)
    np.testing.assert_allclose(upright.boxes(boxes), tilted.boxes(boxes), atol=1e-9)
    np.testing.assert_allclose(upright.boxes(boxes[0]), tilted.boxes(boxes[0]), atol=1e-9)
    assert upright.max_scale_at(3, 4) == pytest.approx(tilted.max_scale_at(3, 4))


@pytest.mark.parametrize(
    "change",
    [Transform2D.scale(2, 3), Transform2D.rotate(20), Transform2D.perspective(1e-3, 2e-3) @ Transform2D.shear(3, 4)],
)
def test_pixel_matrix_uses_pixel_centers(change: Transform2D) -> None:
    expected = Transform2D.translate(-0.5, -0.5) @ change @ Transform2D.translate(0.5, 0.5)
    np.testing.assert_allclose(change.pixel_matrix(), expected.matrix, atol=1e-12)


def test_points_behind_the_viewer_are_nan() -> None:
    assert np.isnan(Transform2D.perspective(0.01, 0).points(np.array([-200.0, 0.0]))).all()


def test_letterbox_transform_inverts_points_to_source() -> None:
    box = Letterbox.fit((300, 500), (640, 640))
    np.testing.assert_allclose(
        box.points_to_source(Transform2D.letterbox(box).points(POINTS + 5)), POINTS + 5, atol=1e-9
    )


def test_axis_aligned_and_max_scale() -> None:
    assert (Transform2D.scale(2, 3) @ Transform2D.flip(4, 5, horizontal=True, vertical=True)).axis_aligned
    assert not any(
        one.axis_aligned for one in (Transform2D.rotate(1), Transform2D.shear(1, 0), Transform2D.perspective(1e-4, 0))
    )
    assert Transform2D.rotate(30).max_scale_at(5, 5) == pytest.approx(1)
    assert Transform2D.scale(0.5, 0.25).max_scale_at(5, 5) == pytest.approx(0.5)
    tilt = Transform2D.perspective(1e-3, 0)
    step = tilt.points(np.array([[100.0, 0.0], [100.001, 0.0], [100.0, 0.001]]))
    ends = np.linalg.norm(step[1:] - step[0], axis=1) / 0.001
    assert tilt.max_scale_at(100, 0) == pytest.approx(ends.max(), rel=1e-3)


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5, 2.0, 3.0])
def test_pixel_matrix_agrees_with_resize(factor: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    size = round(64 * factor), round(48 * factor)
    expected = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    matrix = Transform2D.scale(factor).pixel_matrix()[:2]
    ours = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # the warp rounds source coordinates to 1/32 pixel, so noise of full contrast may differ by 255/32
    blur = cv2.GaussianBlur(image, (0, 0), 3)
    smooth = cv2.warpAffine(blur, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(smooth.astype(int) - cv2.resize(blur, size, interpolation=cv2.INTER_LINEAR)).max() <= 2
    assert np.abs(ours.astype(int) - expected).max() <= 8
