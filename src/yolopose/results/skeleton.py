"""Keypoints and limbs on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.results.palette import DARK, WHITE, Colour, keypoint_colours
from yolopose.schema import KeypointSchema

Picture = npt.NDArray[np.uint8]
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
    """Tells which points are drawn: inside the picture, not at (0, 0) and, with a confidence, at least `VISIBLE`.

    Args:
        points: (..., K, 2 or 3), pixels.
        height: of the picture, pixels.
        width: of the picture, pixels.

    Returns:
        (..., K) bool.
    """
    x, y = points[..., 0], points[..., 1]
    # comparisons with NaN are false, so such points drop out here
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height) & ((x > 0) | (y > 0))
    return inside & (points[..., 2] >= VISIBLE) if points.shape[-1] == 3 else inside


def draw_skeleton(
    picture: Picture,
    points: Points,
    extent: float,
    schema: KeypointSchema,
    style: SkeletonStyle,
    limb_colour: Colour | None = None,
) -> None:
    """Draws one instance in place.

    Args:
        picture: (H, W, 3) uint8 BGR.
        points: (K, 2 or 3) x, y in pixels and confidence.
        extent: size of the instance, pixels; it bounds the size of points and limbs.
        schema: names and skeleton of K points.
        style: sizes.
        limb_colour: colour of all limbs; None for one per side of the body.
    """
    colours = keypoint_colours(schema.names_of(0), schema.skeleton)
    shown = drawn_points(points, *picture.shape[:2])
    places = _fixed(np.where(shown[:, None], points[:, :2], 0))
    if style.limbs:
        pairs = zip(schema.skeleton, colours.edges, strict=True)
        edges = [(places[a], places[b], paint) for (a, b), paint in pairs if shown[a] and shown[b]]
        thickness = max(min(round(extent / 60), style.limb), 1)
        _draw_limbs(picture, edges, thickness, limb_colour)
    radius = max(min(extent * style.share, style.radius), 1.0)
    for index in np.flatnonzero(shown):
        if radius >= 2:
            _dot(picture, places[index], WHITE, radius + max(1.0, radius * 0.3))
        _dot(picture, places[index], colours.points[index], radius)


def _draw_limbs(
    picture: Picture, edges: Sequence[tuple[Place, Place, Colour]], thickness: int, one_colour: Colour | None
) -> None:
    rim = thickness + max(2, thickness // 2 * 2)
    if thickness > 1:  # a dark rim under all limbs first, so that they stand out from any background
        for start, end, _ in edges:
            cv2.line(picture, start, end, DARK, rim, cv2.LINE_AA, _SHIFT)
    for start, end, paint in edges:
        cv2.line(picture, start, end, one_colour or paint, thickness, cv2.LINE_AA, _SHIFT)


def _dot(picture: Picture, centre: Place, paint: Colour, radius: float) -> None:
    cv2.circle(picture, centre, max(round(radius * 2**_SHIFT), 1), paint, -1, cv2.LINE_AA, _SHIFT)


def _fixed(points: Points) -> list[Place]:
    """Places in OpenCV's numbers, where the middle of the first pixel is 0 (ours is 0.5)."""
    return [(x, y) for x, y in np.rint((points - 0.5) * 2**_SHIFT).astype(int).tolist()]
