"""Draw the keypoints and limbs of an instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results.palette import DARK, WHITE, Color, keypoint_colors
from yolopose.results.style import MIN_VISIBILITY, Edge, to_color
from yolopose.schema import KeypointSchema

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
FixedPoint = tuple[int, int]
"""x, y in units of 1/2**_SHIFT pixels."""

# OpenCV draws with subpixel accuracy if coordinates are in units of 1/2**shift pixels.
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class SkeletonStyle:
    """Sizes of keypoints and limbs.

    Attributes:
        max_radius: maximum radius of a keypoint, pixels.
        relative_radius: maximum radius relative to the size of the instance, so that small instances remain visible.
        max_thickness: maximum thickness of a limb, pixels.
        limbs: whether limbs are drawn.
        min_conf: keypoints of lower confidence are not drawn.
        point_colors: BGR of each keypoint, repeated if shorter; None for colors by side of the body.
        limb_colors: BGR of each edge, repeated if shorter; None for colors by side of the body.
    """

    max_radius: float
    relative_radius: float
    max_thickness: int
    limbs: bool = True
    min_conf: float = MIN_VISIBILITY
    point_colors: Sequence[Color] | None = None
    limb_colors: Sequence[Color] | None = None


def drawable_points(points: Points, height: int, width: int, min_conf: float = MIN_VISIBILITY) -> npt.NDArray[np.bool_]:
    """Return which keypoints are drawn: inside the image, not (0, 0), and with at least the confidence `min_conf`.

    Args:
        points: (..., K, 2 or 3), pixels.
        height: height of the image, pixels.
        width: width of the image, pixels.
        min_conf: smallest confidence.

    Returns:
        (..., K) bool.
    """
    x = points[..., 0]
    y = points[..., 1]
    # Comparisons with NaN are False, so keypoints with NaN are excluded.
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height) & ((x > 0) | (y > 0))
    return inside & (points[..., 2] >= min_conf) if points.shape[-1] == 3 else inside


def draw_skeleton(
    image: Image,
    points: Points,
    extent: float,
    schema: KeypointSchema,
    style: SkeletonStyle,
    limb_color: Color | None = None,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Draw the keypoints of one instance in place.

    Args:
        image: (H, W, 3) uint8 BGR.
        points: (K, 2 or 3) x, y in pixels and confidence.
        extent: size of the instance, pixels; it limits the size of keypoints and limbs.
        schema: names and skeleton of K keypoints.
        style: sizes.
        limb_color: color of all limbs; None for one per side of the body.
        hidden: (K,) which keypoints are drawn hollow, as rings; None for none.
    """
    colors = keypoint_colors(schema.keypoint_names(0), schema.skeleton)
    point_colors = _repeat(style.point_colors, colors.points)
    limb_colors = _repeat(style.limb_colors, colors.edges)
    drawn = drawable_points(points, image.shape[0], image.shape[1], style.min_conf)
    positions = _to_fixed_point(np.where(drawn[:, None], points[:, :2], 0))
    if style.limbs:
        edges = zip(schema.skeleton, limb_colors, strict=True)
        limbs = [(positions[a], positions[b], limb_color or color) for (a, b), color in edges if drawn[a] and drawn[b]]
        _draw_limbs(image, limbs, max(min(round(extent / 60), style.max_thickness), 1))
    radius = max(min(extent * style.relative_radius, style.max_radius), 1.0)
    for index in np.flatnonzero(drawn).tolist():
        if radius >= 2:
            _draw_dot(image, positions[index], WHITE, radius + max(1.0, radius * 0.3))
        _draw_dot(image, positions[index], point_colors[index], radius)
        if hidden is not None and hidden[index]:
            _draw_dot(image, positions[index], WHITE, max(radius * 0.6, radius - 3.0))


def _repeat(colors: Sequence[Color] | None, defaults: Sequence[Color]) -> Sequence[Color]:
    """Return as many of the colors as there are defaults, repeating them; the defaults where there are none."""
    return [to_color(colors[index % len(colors)]) for index in range(len(defaults))] if colors else defaults


def _draw_limbs(image: Image, limbs: Sequence[tuple[FixedPoint, FixedPoint, Color]], thickness: int) -> None:
    if thickness > 1:  # dark outlines below all limbs, so that they are visible on any background
        outline = thickness + max(2, thickness // 2 * 2)
        for start, end, _ in limbs:
            cv2.line(image, start, end, DARK, outline, cv2.LINE_AA, _SHIFT)
    for start, end, color in limbs:
        cv2.line(image, start, end, color, thickness, cv2.LINE_AA, _SHIFT)


def _draw_dot(image: Image, center: FixedPoint, color: Color, radius: float) -> None:
    cv2.circle(image, center, max(round(radius * 2**_SHIFT), 1), color, -1, cv2.LINE_AA, _SHIFT)


def _to_fixed_point(points: Points) -> list[FixedPoint]:
    """Convert to OpenCV's coordinates, where the center of the first pixel is 0 (here it is 0.5)."""
    return [(x, y) for x, y in np.rint((points - 0.5) * 2**_SHIFT).astype(int).tolist()]


def with_skeleton(schema: KeypointSchema, skeleton: Sequence[Edge] | None) -> KeypointSchema:
    """Return the schema with other edges.

    Raises:
        UsageError: an edge names no keypoint.
    """
    if skeleton is None:
        return schema
    names = schema.keypoint_names(0)
    edges: list[tuple[int, int]] = []
    for edge in skeleton:
        ends = [names.index(end) if isinstance(end, str) and end in names else end for end in edge]
        if len(ends) != 2 or not all(isinstance(end, int) and 0 <= end < schema.count for end in ends):
            raise UsageError(
                f"skeleton has {edge!r}: give pairs of keypoints, by index (0…{schema.count - 1}) or by name"
                f"{f' ({chr(44).join(names)})' if names else ''}."
            )
        edges.append((int(ends[0]), int(ends[1])))
    return replace(schema, skeleton=tuple(edges))
