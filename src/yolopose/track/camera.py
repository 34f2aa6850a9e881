"""Camera motion between two frames, by sparse optical flow and alignment of the background."""

from __future__ import annotations

import base64
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.track.frames import FloatArray

Gray = npt.NDArray[np.uint8]

_LONG_SIDE = 480  # pixels of the image in which corners are followed
_BLUR = 2.0  # σ, pixels of that image: sensor noise has corners, too, which do not move with the background
_MAX_CORNERS = 400
_QUALITY = 0.005  # of the weakest corner, as a share of the strongest
_WINDOW = (31, 31)  # of the flow, pixels
_MIN_MATCHES = 12
_MAX_SCALE = 1.5  # of one frame to the next; a larger one is a wrong estimate
_ALIGNED_SIDES = (40, 80, 160)  # pixels of the images whose gray values are compared: noise and small objects vanish
_ALIGNED_BLUR = 1.0  # σ, pixels of these images
_MIN_SHARE = 0.05  # of the pixels that must be background in both images
_MAX_ITERATIONS = 15
_CONVERGED = 0.01  # pixels of that image
_PRIOR = 2.0  # standard deviation of the correction of a start value, pixels of that image
_MIN_GAIN = 0.005  # share by which an estimate must reduce the difference of the images


class CameraMotion:
    """Estimates how the background moves from frame to frame, as a similarity transform (shift, rotation, scale).

    Corners of the previous image outside its detections are followed by the pyramidal Lucas-Kanade method, and a
    transform is fitted to them with RANSAC. Walls, skies and floors have few corners, and those of sensor noise do not
    move with them. So the transform is a start value only, like that of the previous frame and no motion: the best one
    is improved until the gray values of the background agree (Gauss-Newton with robust weights), and is used only if
    they agree better than without motion.
    """

    def __init__(self) -> None:
        self.reset()

    def update(self, image: npt.NDArray[np.uint8], boxes: FloatArray) -> FloatArray:
        """Return the (2, 3) transform of pixels of the previous image to those of this image.

        Args:
            image: (H, W, 3) uint8 BGR; further channels are ignored.
            boxes: (N, 4) detections in this image, where corners do not belong to the background.

        Returns:
            The transform; the identity for the first image, after a change of the image size, and where too few
            corners can be followed.
        """
        ratio = min(_LONG_SIDE / max(image.shape[:2]), 1.0)
        size = (max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1))
        color = np.ascontiguousarray(image[:, :, :3])
        small = cv2.cvtColor(cv2.resize(color, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        previous = self._previous
        mask = self._background(small.shape)
        self._previous = np.asarray(small, np.uint8)
        self._boxes = boxes * ratio
        if previous is None or previous.shape != small.shape:
            self._last = np.eye(2, 3)
            return self._last
        starts = [np.eye(2, 3), self._last]
        flow = _fit_corners(previous, self._previous, mask)
        if flow is not None:
            starts.append(flow)
        matrix = _align(previous, self._previous, mask, self._background(small.shape), starts)
        self._last = matrix.copy()
        matrix[:, 2] /= ratio
        return matrix

    def _background(self, shape: tuple[int, ...]) -> Gray:
        mask = np.full(shape, 255, np.uint8)
        for left, top, right, bottom in np.clip(self._boxes, 0, max(shape)).astype(int):
            mask[top : bottom + 1, left : right + 1] = 0
        return mask

    def reset(self) -> None:
        """Forget the previous image."""
        self._previous: Gray | None = None
        self._boxes: FloatArray = np.zeros((0, 4))
        self._last: FloatArray = np.eye(2, 3)  # motion of the last image, in pixels of the small image

    def state_dict(self) -> dict[str, Any]:
        """Return the previous image (PNG in base64), its boxes, and the last motion."""
        image = None
        if self._previous is not None:
            image = base64.b64encode(cv2.imencode(".png", self._previous)[1].tobytes()).decode()
        return {"image": image, "boxes": self._boxes.tolist(), "motion": self._last.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the previous image.

        Raises:
            UsageError: the state is damaged.
        """
        self.reset()
        if state["image"] is not None:
            data = np.frombuffer(base64.b64decode(state["image"]), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
            if image is None:
                raise UsageError("The image of the camera motion in the state of the tracker is damaged.")
            self._previous = np.asarray(image, np.uint8)
        self._boxes = np.asarray(state["boxes"], np.float64).reshape(-1, 4)
        self._last = np.asarray(state["motion"], np.float64).reshape(2, 3)


def _fit_corners(previous: Gray, current: Gray, mask: Gray) -> FloatArray | None:
    """Return the transform of the corners of the background, or None where too few can be followed."""
    first, second = (cv2.GaussianBlur(image, (0, 0), _BLUR) for image in (previous, current))
    corners: Any = cv2.goodFeaturesToTrack(first, _MAX_CORNERS, _QUALITY, 5, mask=mask)
    if corners is None or len(corners) < _MIN_MATCHES:
        return None
    moved, status, _ = cast(Any, cv2).calcOpticalFlowPyrLK(first, second, corners, None, winSize=_WINDOW)
    matched = status.ravel() == 1
    if matched.sum() < _MIN_MATCHES:
        return None
    matrix, inliers = cast(Any, cv2).estimateAffinePartial2D(corners[matched], moved[matched], method=cv2.RANSAC)
    if matrix is None or inliers.sum() < _MIN_MATCHES:
        return None
    return np.asarray(matrix, np.float64)


def _align(previous: Gray, current: Gray, mask: Gray, other: Gray, starts: list[FloatArray]) -> FloatArray:
    """Return the transform under which the backgrounds of two images agree best.

    Args:
        previous: the previous image.
        current: this image.
        mask: 255 at the background of the previous image, else 0.
        other: the same of this image.
        starts: (2, 3) start values; the first one is the identity.
    """
    identity, matrix = starts[0], starts[0]
    is_better = False
    for side in _ALIGNED_SIDES:
        ratio = min(side / max(previous.shape), 1.0)
        aligner = _Aligner(*(_reduce(image, ratio) for image in (previous, current, mask, other)))
        # an estimate of a small image may be worse than a start value
        start = min((_scale_shift(item, ratio) for item in (*starts, matrix)), key=aligner.compare_cost)
        estimate = aligner.refine(start)
        is_better = aligner.compare_cost(estimate) < (1 - _MIN_GAIN) * aligner.compare_cost(identity)
        matrix = _scale_shift(estimate, 1 / ratio)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return matrix if is_better and 1 / _MAX_SCALE < scale < _MAX_SCALE else identity


def _scale_shift(matrix: FloatArray, ratio: float) -> FloatArray:
    """Return the transform in an image that is `ratio` as large."""
    return np.column_stack((matrix[:, :2], matrix[:, 2] * ratio))


def _reduce(image: Gray, ratio: float) -> npt.NDArray[np.float32]:
    size = (max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _ALIGNED_BLUR), np.float32)


class _Aligner:
    """Compares two gray images under a transform of the first one.

    Args:
        previous: (H, W) image.
        current: (H, W) image.
        mask: (H, W) 255 at the background of the previous image.
        other: the same of the current image.
    """

    def __init__(
        self,
        previous: npt.NDArray[np.float32],
        current: npt.NDArray[np.float32],
        mask: npt.NDArray[np.float32],
        other: npt.NDArray[np.float32],
    ) -> None:
        height, width = previous.shape
        self._previous = previous
        self._current = current
        self._mask = mask > 254
        self._other = np.where(other > 254, 255, 0).astype(np.uint8)
        self._size = (width, height)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        self._reach = max(width, height) / 2
        self._center = np.array([(width - 1) / 2, (height - 1) / 2])
        self._x = (x - self._center[0]) / self._reach
        self._y = (y - self._center[1]) / self._reach

    def compare(self, matrix: FloatArray) -> tuple[float, FloatArray, npt.NDArray[np.bool_]]:
        """Return the robust difference of the images, and (H, W) differences and background pixels.

        A change of brightness does not count. Where too few pixels are common, the difference is infinite.
        """
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(self._current, matrix, self._size, flags=flags)
        valid = self._mask & (cv2.warpAffine(self._other, matrix, self._size, flags=flags) == 255)
        difference = (warped - self._previous).astype(np.float64)
        if np.count_nonzero(valid) < self._mask.size * _MIN_SHARE:
            return np.inf, difference, valid
        difference -= np.median(difference[valid])
        return float(np.minimum(np.abs(difference[valid]), 30.0).mean()), difference, valid

    def compare_cost(self, matrix: FloatArray) -> float:
        """Return the robust difference of the images."""
        return self.compare(matrix)[0]

    def refine(self, matrix: FloatArray) -> FloatArray:
        """Return a better transform, near a start value."""
        best, best_cost = matrix, np.inf
        for _ in range(_MAX_ITERATIONS):
            cost, difference, valid = self.compare(matrix)
            if cost >= best_cost:
                break
            best, best_cost = matrix, cost
            step = self._step(difference, valid)
            matrix = self._compose(matrix, step)
            if np.abs(step).max() < _CONVERGED:
                break
        return best

    def _step(self, difference: FloatArray, valid: npt.NDArray[np.bool_]) -> FloatArray:
        """Return (4,) the correction: shift in x and y, scale and rotation at the border, all in pixels."""
        mean = self._previous + difference / 2  # of both images: their gradients together converge faster
        gx, gy = (np.asarray(np.gradient(mean, axis=axis), np.float64)[valid] for axis in (1, 0))
        x, y = self._x[valid], self._y[valid]
        error = difference[valid]
        jacobian = np.stack((gx, gy, gx * x + gy * y, gy * x - gx * y), axis=1)
        spread = max(1.4826 * float(np.median(np.abs(error))), 0.1)
        weight = 1 / np.maximum(np.abs(error) / (2 * spread), 1.0)
        weighted = jacobian * weight[:, None]
        # pixels are not independent: blurring joins some ten of them
        damping = 10 * (spread / _PRIOR) ** 2
        return -np.linalg.solve(weighted.T @ jacobian + damping * np.eye(4), weighted.T @ error)

    def _compose(self, matrix: FloatArray, step: FloatArray) -> FloatArray:
        shift, scale, rotation = step[:2], step[2] / self._reach, step[3] / self._reach
        linear = np.array([[1 + scale, -rotation], [rotation, 1 + scale]])
        change = np.column_stack((linear, self._center - linear @ self._center + shift))
        return np.column_stack((matrix[:, :2] @ change[:, :2], matrix[:, :2] @ change[:, 2] + matrix[:, 2]))
