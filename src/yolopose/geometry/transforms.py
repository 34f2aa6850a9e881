"""2-D projective transforms: letterbox, mosaic placement, affine, perspective and flip.

Labels are in continuous coordinates: pixel i covers [i, i + 1), so its center is at i + 0.5, and an image of width w
spans 0…w. Scaling by r is x' = r·x there. Image warps address pixels by their centers (the center of pixel i is i);
`Transform2D.pixel_matrix` converts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.geometry.boxes import FloatArray
from yolopose.geometry.letterbox import Letterbox

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Transform2D:
    """A projective transform in continuous label coordinates.

    Attributes:
        matrix: (3, 3) float64, multiplied with column vectors (x, y, 1).
    """

    matrix: Matrix

    @classmethod
    def identity(cls) -> Transform2D:
        """Return the identity."""
        return cls(np.eye(3))

    @classmethod
    def translate(cls, x: float, y: float) -> Transform2D:
        """Shift by x, y pixels."""
        return cls(np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]]))

    @classmethod
    def scale(cls, x: float, y: float | None = None) -> Transform2D:
        """Scale by the factors x and y (y = x by default) about the origin."""
        return cls(np.array([[x, 0, 0], [0, x if y is None else y, 0], [0, 0, 1.0]]))

    @classmethod
    def rotate(cls, degrees: float) -> Transform2D:
        """Rotate about the origin, counter-clockwise on the screen (y points down)."""
        cos = math.cos(math.radians(degrees))
        sin = math.sin(math.radians(degrees))
        return cls(np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]))

    @classmethod
    def shear(cls, x_degrees: float, y_degrees: float) -> Transform2D:
        """Shear: x' = x + tan(x_degrees)·y, y' = y + tan(y_degrees)·x."""
        x = math.tan(math.radians(x_degrees))
        y = math.tan(math.radians(y_degrees))
        return cls(np.array([[1.0, x, 0], [y, 1, 0], [0, 0, 1]]))

    @classmethod
    def perspective(cls, x: float, y: float) -> Transform2D:
        """Divide points (X, Y) by 1 + x·X + y·Y; x and y are per pixel."""
        return cls(np.array([[1.0, 0, 0], [0, 1, 0], [x, y, 1]]))

    @classmethod
    def flip(cls, height: float, width: float, *, horizontal: bool = False, vertical: bool = False) -> Transform2D:
        """Flip an image of the given size onto itself: left with right, top with bottom, both or neither."""
        x = -1.0 if horizontal else 1.0
        y = -1.0 if vertical else 1.0
        return cls(np.array([[x, 0, width * horizontal], [0, y, height * vertical], [0, 0, 1.0]]))

    @classmethod
    def letterbox(cls, letterbox: Letterbox) -> Transform2D:
        """Return the transform from an image to its padded input."""
        return cls.translate(letterbox.left, letterbox.top) @ cls.scale(*letterbox.gain)

    def __matmul__(self, first: Transform2D) -> Transform2D:
        """Compose: `(second @ first)` applies `first`, then `second`."""
        return Transform2D(self.matrix @ first.matrix)

    def inverse(self) -> Transform2D:
        """Return the inverse transform.

        Raises:
            numpy.linalg.LinAlgError: the transform is singular.
        """
        if self.axis_aligned and self.matrix[2, 2] == 1:  # most transforms, in a fraction of the time
            (x, _, left), (_, y, top), _ = self.matrix.tolist()
            if x and y:
                return Transform2D(np.array([[1 / x, 0.0, -left / x], [0.0, 1 / y, -top / y], [0.0, 0.0, 1.0]]))
        return Transform2D(np.linalg.inv(self.matrix).astype(np.float64, copy=False))

    @property
    def _affine(self) -> bool:
        return not (self.matrix[2, 0] or self.matrix[2, 1])

    @property
    def axis_aligned(self) -> bool:
        """Whether rectangles stay rectangles: only scaling, translation and flip."""
        return self._affine and not (self.matrix[0, 1] or self.matrix[1, 0])

    def points(self, points: npt.NDArray[np.floating[Any]]) -> Matrix:
        """Transform (..., 2) points x, y; points that a perspective puts behind the viewer become NaN."""
        if self._affine and self.matrix[2, 2] == 1:
            return (points @ self.matrix[:2, :2].T + self.matrix[:2, 2]).astype(np.float64, copy=False)
        mapped = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        depth = mapped[..., 2:]
        return (mapped[..., :2] / np.where(depth > 1e-9, depth, np.nan)).astype(np.float64, copy=False)

    def boxes(self, boxes: FloatArray) -> Matrix:
        """Transform (..., 4) boxes x1, y1, x2, y2 to the bounds of their four corners; NaN as in `points`."""
        if self.axis_aligned:  # two corners suffice, in half the time
            ends = self.points(boxes.reshape(*boxes.shape[:-1], 2, 2))
            first, second = ends[..., 0, :], ends[..., 1, :]
            return np.concatenate((np.minimum(first, second), np.maximum(first, second)), axis=-1)
        corners = self.points(boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:-1], 4, 2))
        return np.concatenate((corners.min(axis=-2), corners.max(axis=-2)), axis=-1)

    def max_scale_at(self, x: float, y: float) -> float:
        """Return the largest local scale at a point: 0.5 where lengths in every direction shrink to half or less.

        This is the spectral norm of the Jacobian.
        """
        if self.axis_aligned:
            return float(np.abs(self.matrix[[0, 1], [0, 1]] / self.matrix[2, 2]).max())
        u, v, depth = self.matrix @ (x, y, 1.0)
        jacobian_shift = np.outer((u / depth, v / depth), self.matrix[2, :2])
        return float(np.linalg.norm((self.matrix[:2, :2] - jacobian_shift) / depth, 2))

    def pixel_matrix(self) -> Matrix:
        """Return the (3, 3) matrix for image warps, whose coordinates are 0 at the center of the first pixel."""
        matrix = self.matrix.copy()
        matrix[:, 2] += (matrix[:, 0] + matrix[:, 1]) / 2
        matrix[:2] -= matrix[2] / 2
        return matrix
