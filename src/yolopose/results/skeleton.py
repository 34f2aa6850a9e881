"""Keypoints and limbs on an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.results.palette import DARK, WHITE, Color, keypoint_colors
from yolopose.schema import KeypointSchema

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Place = tuple[int, int]

VISIBLE = 0.25
"""Points of lower confidence are not drawn."""

# OpenCV draws at fractions of a pixel: coordinates are given in 1/2**_SHIFT
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class SkeletonStyle:
    """How points and limbs look.

    Attributes:
        radius: largest radius of a point, pixels.
        share: largest radius of a point as a share of the instance's size, so that small ones stay visible.
        limb: largest thickness of a limb, pixels.
        limbs: whether limbs are drawn.
    """

    radius: float
    share: float
    limb: int
    limbs: bool = True


def drawn_points(points: Points, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return which points are drawn: inside the image, not at (0, 0) and, with a confidence, at least `VISIBLE`.

    Args:
        points: (..., K, 2 or 3), pixels.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        (..., K) bool.
    """
    x, y = points[..., 0], points[..., 1]
    # comparisons with NaN are false, so such points drop out here
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height) & ((x > 0) | (y > 0))
    return inside & (points[..., 2] >= VISIBLE) if points.shape[-1] == 3 else inside


def draw_skeleton(
    image: Image,
    points: Points,
    extent: float,
    schema: KeypointSchema,
    style: SkeletonStyle,
    limb_color: Color | None = None,
) -> None:
    """Draw one instance in place.

    Args:
        image: (H, W, 3) uint8 BGR.
        points: (K, 2 or 3) x, y in pixels and confidence.
        extent: size of the instance, pixels; it bounds the size of points and limbs.
        schema: names and skeleton of K points.
        style: sizes.
        limb_color: color of all limbs; None for one per side of the body.
    """
    colors = keypoint_colors(schema.keypoint_names(0), schema.skeleton)
    shown = drawn_points(points, *image.shape[:2])
    places = _fixed(np.where(shown[:, None], points[:, :2], 0))
    if style.limbs:
        pairs = zip(schema.skeleton, colors.edges, strict=True)
        edges = [(places[a], places[b], paint) for (a, b), paint in pairs if shown[a] and shown[b]]
        thickness = max(min(round(extent / 60), style.limb), 1)
        _draw_limbs(image, edges, thickness, limb_color)
    radius = max(min(extent * style.share, style.radius), 1.0)
    for index in np.flatnonzero(shown):
        if radius >= 2:
            _dot(image, places[index], WHITE, radius + max(1.0, radius * 0.3))
        _dot(image, places[index], colors.points[index], radius)


def _draw_limbs(
    image: Image, edges: Sequence[tuple[Place, Place, Color]], thickness: int, one_color: Color | None
) -> None:
    rim = thickness + max(2, thickness // 2 * 2)
    if thickness > 1:  # a dark rim under all limbs first, so that they stand out from any background
        for start, end, _ in edges:
            cv2.line(image, start, end, DARK, rim, cv2.LINE_AA, _SHIFT)
    for start, end, paint in edges:
        cv2.line(image, start, end, one_color or paint, thickness, cv2.LINE_AA, _SHIFT)


def _dot(image: Image, center: Place, paint: Color, radius: float) -> None:
    cv2.circle(image, center, max(round(radius * 2**_SHIFT), 1), paint, -1, cv2.LINE_AA, _SHIFT)


def _fixed(points: Points) -> list[Place]:
    """Place in OpenCV's numbers, where the middle of the first pixel is 0 (ours is 0.5)."""
    return [(x, y) for x, y in np.rint((points - 0.5) * 2**_SHIFT).astype(int).tolist()]
