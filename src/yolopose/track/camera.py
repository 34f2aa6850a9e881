"""Camera motion between two frames, by sparse optical flow of the background."""

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


class CameraMotion:
    """Estimates how the background moves from frame to frame.

    Corners of the previous image outside its detections are followed by the pyramidal Lucas-Kanade method, and a
    similarity transform (shift, rotation, scale) is fitted to them with RANSAC.
    """

    def __init__(self) -> None:
        self._previous: Gray | None = None
        self._boxes: FloatArray = np.zeros((0, 4))

    def update(self, image: npt.NDArray[np.uint8], boxes: FloatArray) -> FloatArray:
        """Return the (2, 3) transform of pixels of the previous image to those of this image.

        Args:
            image: (H, W, 3) uint8 BGR.
            boxes: (N, 4) detections in this image, where corners do not belong to the background.

        Returns:
            The transform; the identity for the first image, after a change of the image size, and where too few
            corners can be followed.
        """
        ratio = min(_LONG_SIDE / max(image.shape[:2]), 1.0)
        size = (max(round(image.shape[1] * ratio), 1), max(round(image.shape[0] * ratio), 1))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        gray = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (0, 0), _BLUR)
        previous = self._previous
        mask = self._background(gray.shape)
        self._previous = np.asarray(gray, np.uint8)
        self._boxes = boxes * ratio
        if previous is None or previous.shape != gray.shape:
            return np.eye(2, 3)
        matrix = _fit(previous, self._previous, mask)
        matrix[:, 2] /= ratio
        return matrix

    def _background(self, shape: tuple[int, ...]) -> Gray:
        mask = np.full(shape, 255, np.uint8)
        for left, top, right, bottom in np.clip(self._boxes, 0, max(shape)).astype(int):
            mask[top : bottom + 1, left : right + 1] = 0
        return mask

    def reset(self) -> None:
        """Forget the previous image."""
        self._previous = None
        self._boxes = np.zeros((0, 4))

    def state_dict(self) -> dict[str, Any]:
        """Return the previous image (PNG in base64) and its boxes."""
        image = None
        if self._previous is not None:
            image = base64.b64encode(cv2.imencode(".png", self._previous)[1].tobytes()).decode()
        return {"image": image, "boxes": self._boxes.tolist()}

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


def _fit(previous: Gray, current: Gray, mask: Gray) -> FloatArray:
    identity = np.eye(2, 3)
    corners: Any = cv2.goodFeaturesToTrack(previous, _MAX_CORNERS, _QUALITY, 5, mask=mask)
    if corners is None or len(corners) < _MIN_MATCHES:
        return identity
    moved, status, _ = cast(Any, cv2).calcOpticalFlowPyrLK(previous, current, corners, None, winSize=_WINDOW)
    matched = status.ravel() == 1
    if matched.sum() < _MIN_MATCHES:
        return identity
    matrix, inliers = cast(Any, cv2).estimateAffinePartial2D(corners[matched], moved[matched], method=cv2.RANSAC)
    if matrix is None or inliers.sum() < _MIN_MATCHES:
        return identity
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 1 / _MAX_SCALE < scale < _MAX_SCALE:
        return identity
    return np.asarray(matrix, np.float64)
