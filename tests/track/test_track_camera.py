"""The motion of the camera is recovered from images that move by a known transform."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from yolopose.data.figures.sequences import FigureSequence
from yolopose.track import TrackDetections, make_tracker
from yolopose.track.camera import CameraMotion

SIZE = (360, 640)
CORNERS = np.array([[0, 0, 1], [640, 0, 1], [0, 360, 1], [640, 360, 1]], float)


def world() -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 255, (30, 50, 3), dtype=np.uint8)
    return cv2.resize(coarse, (1000, 600), interpolation=cv2.INTER_CUBIC)


def view(matrix: np.ndarray) -> np.ndarray:
    """The world, seen by a camera that was moved by a (3, 3) transform of its pixels."""
    middle = np.array([[1, 0, -180], [0, 1, -120], [0, 0, 1]], float)
    return cv2.warpAffine(world(), (matrix @ middle)[:2], SIZE[::-1])


def transform(shift: tuple[float, float], scale: float = 1.0, degrees: float = 0.0) -> np.ndarray:
    matrix = np.vstack((cv2.getRotationMatrix2D((320, 180), degrees, scale), (0, 0, 1)))
    matrix[:2, 2] += shift
    return matrix


@pytest.mark.parametrize(
    ("shift", "scale", "degrees"), [((7.5, -3.0), 1.0, 0.0), ((0.0, 0.0), 1.03, 0.0), ((-4.0, 2.0), 0.98, 1.5)]
)
def test_known_motion_is_recovered(shift: tuple[float, float], scale: float, degrees: float) -> None:
    expected = transform(shift, scale, degrees)
    camera = CameraMotion()
    nothing = np.zeros((0, 4))
    np.testing.assert_array_equal(camera.update(view(np.eye(3)), nothing), np.eye(2, 3))
    matrix = camera.update(view(expected), nothing)
    np.testing.assert_allclose(CORNERS @ matrix.T, CORNERS @ expected[:2].T, atol=0.5)  # pixels


def test_drawn_pan_with_moving_figures() -> None:
    """Figures are masked: what is estimated is the motion of the background."""
    sequence = FigureSequence("pan-6", 0)
    camera = CameraMotion()
    errors: list[float] = []
    boxes = {frame.number: frame.boxes for frame in sequence.detections.by_frame()}
    for number in range(20, 26):
        matrix = camera.update(sequence.render(number), boxes[number])
        step = sequence._camera[number - 1] @ np.linalg.inv(sequence._camera[number - 2])
        errors.append(float(np.abs(CORNERS @ matrix.T - CORNERS @ step[:2].T).max()))
    assert np.median(errors[1:]) < 1.0  # pixels; the camera moves by 3 to 10
    assert max(errors[1:]) < 3.0


@pytest.mark.parametrize("change", [0, 15])
def test_walls_with_few_corners_and_noise(change: int) -> None:
    """Six large areas: what the corners of the noise do must not count, and neither a change of brightness."""
    rng = np.random.default_rng(5)
    areas = cv2.resize(rng.integers(60, 180, (2, 3, 3), dtype=np.uint8), (1000, 600), interpolation=cv2.INTER_NEAREST)
    areas = cv2.circle(areas, (620, 330), 60, (30, 60, 150), -1, cv2.LINE_AA)
    middle = np.array([[1, 0, -180], [0, 1, -120], [0, 0, 1]], float)

    def noisy_view(matrix: np.ndarray, brightness: int) -> np.ndarray:
        image = cv2.warpAffine(areas, (matrix @ middle)[:2], SIZE[::-1]).astype(float)
        return np.clip(image + rng.normal(brightness, 4, (*SIZE, 1)), 0, 255).astype(np.uint8)

    camera = CameraMotion()
    moved = np.eye(3)
    nothing = np.zeros((0, 4))
    camera.update(noisy_view(moved, 0), nothing)
    for number in range(1, 6):
        step = transform((9 - number, 3.0), 1 + 0.004 * number)
        moved = step @ moved
        matrix = camera.update(noisy_view(moved, change * (number % 2)), nothing)
        np.testing.assert_allclose(CORNERS @ matrix.T, CORNERS @ step[:2].T, atol=1.2)  # pixels
    state = json.loads(json.dumps(camera.state_dict()))
    other = CameraMotion()
    other.load_state_dict(state)
    image = noisy_view(moved, 0)
    np.testing.assert_array_equal(camera.update(image, nothing), other.update(image, nothing))


def test_images_without_corners_do_not_move_tracks() -> None:
    camera = CameraMotion()
    for value in (10, 200, 30):
        matrix = camera.update(np.full((*SIZE, 3), value, np.uint8), np.zeros((0, 4)))
        np.testing.assert_array_equal(matrix, np.eye(2, 3))


@pytest.mark.parametrize(("method", "ids"), [("sparseOptFlow", [1]), ("none", [0])])
def test_sudden_pan_keeps_ids(method: str, ids: list[int]) -> None:
    """The camera moves by more than the width of the box."""
    tracker = make_tracker("bytetrack", gmc_method=method)
    for shift in (0.0, 0.0):
        tracker.update(TrackDetections.of([[300, 100, 340, 200]], [0.9], image=view(transform((shift, 0)))))
    moved = TrackDetections.of([[345, 100, 385, 200]], [0.9], image=view(transform((45, 0))))
    state = json.loads(json.dumps(tracker.state_dict()))
    assert tracker.update(moved).ids.tolist() == ids
    tracker.load_state_dict(state)  # with the previous image
    assert tracker.update(moved).ids.tolist() == ids
