"""Drawing of detections: skeletons, boxes and labels, with sizes relative to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results.palette import (
    DARK,
    WHITE,
    Color,
    color_for,
    drawing_schema,
    keypoint_colors,
    text_color_on,
)
from yolopose.results.tables import class_name
from yolopose.results.text import TextWriter, get_text_writer
from yolopose.schema import KeypointSchema

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom, pixels."""
FixedPoint = tuple[int, int]
"""x, y in units of 1/2**_SHIFT pixels."""

MIN_VISIBILITY = 0.25
"""Keypoints of lower confidence are not drawn."""

Edge = tuple[int | str, int | str]
"""Two keypoints, by index or name."""
Colors = Color | Sequence[Color] | Mapping[Any, Color] | None

# OpenCV draws with subpixel accuracy if coordinates are in units of 1/2**shift pixels.
_SHIFT = 4


@dataclass(frozen=True, slots=True)
class Style:
    """What is drawn and how.

    Attributes:
        conf: whether labels include the confidence.
        line_width: thickness of boxes, pixels; None for a size relative to the image.
        font_size: height of a line of text, pixels; None for a size relative to the image.
        font: path or name of a TrueType font; None for the built-in one.
        kpt_radius: radius of keypoints in an image of about 1000 pixels; it scales with the image.
        kpt_line: whether limbs are drawn.
        labels: whether labels are drawn.
        boxes: whether boxes and labels are drawn.
        color_mode: `class` (boxes by class, limbs by side) or `instance` (boxes and limbs by instance or track).
        txt_color: BGR of the text; white becomes dark on light backgrounds.
        kpt_conf: keypoints of lower confidence are not drawn.
        kpt_names: whether the names of keypoints are written, or the K names.
        skeleton: pairs of keypoints, by index or name, instead of those of the schema; None for these.
        colors: BGR of boxes and labels, see `_base_color`; None for different hues.
        kpt_colors: BGR of each keypoint; None for colors by side of the body.
        limb_colors: BGR of each edge; None for colors by side of the body.

    Raises:
        UsageError: an invalid value.
    """

    conf: bool = True
    line_width: float | None = None
    font_size: float | None = None
    font: str | Path | None = None
    kpt_radius: float = 5
    kpt_line: bool = True
    labels: bool = True
    boxes: bool = True
    color_mode: str = "class"
    txt_color: Color = WHITE
    kpt_conf: float = MIN_VISIBILITY
    kpt_names: bool | Sequence[str] = False
    skeleton: Sequence[Edge] | None = None
    colors: Colors = None
    kpt_colors: Sequence[Color] | None = None
    limb_colors: Sequence[Color] | None = None

    def __post_init__(self) -> None:
        if self.color_mode not in ("class", "instance"):
            raise UsageError(f"color_mode must be 'class' or 'instance', got {self.color_mode!r}.")
        for name in ("line_width", "font_size", "kpt_radius"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be a number above 0 (pixels), got {value!r}.")
        if not 0 <= self.kpt_conf <= 1:
            raise UsageError(f"kpt_conf must be a confidence from 0 to 1, got {self.kpt_conf!r}.")
        single = () if self.colors is None or isinstance(self.colors, Mapping) else self.colors
        lists = {"colors": self.colors.values() if isinstance(self.colors, Mapping) else _color_list(single)}
        lists |= {"kpt_colors": self.kpt_colors or (), "limb_colors": self.limb_colors or ()}
        for name, colors in lists.items():
            for color in colors:
                if not _is_color(color):
                    raise UsageError(f"{name}: a color is 3 numbers 0…255, blue, green, red; got {color!r}.")


def annotate(
    image: Image,
    boxes: npt.NDArray[np.floating],
    points: npt.NDArray[np.floating],
    names: Mapping[int, str],
    schema: KeypointSchema | None,
    style: Style,
) -> None:
    """Draw detections in place.

    Args:
        image: (H, W, 3) uint8 BGR, contiguous.
        boxes: (N, 6 or 7) as in `Boxes.data`, in pixels of `image`.
        points: (N, K, 2 or 3) as in `Keypoints.data`.
        names: class names.
        schema: names and skeleton of the keypoints.
        style: what is drawn and how.
    """
    # The geometric mean of the sides, so that lines in a panorama are not too thick.
    size = float(np.sqrt(image.shape[0] * image.shape[1]))
    width = max(round(style.line_width or size * 0.003), 1)
    colors = _instance_colors(boxes, names, style)
    if style.boxes:
        _draw_boxes(image, boxes, colors, width)
    if points.shape[1]:
        schema = _with_skeleton(drawing_schema(schema, points.shape[1], names), style.skeleton)
        skeleton_style = SkeletonStyle(
            max_radius=style.kpt_radius * size / 1000,
            relative_radius=style.kpt_radius / 200,
            max_thickness=max(round(size * 0.003), 1),
            limbs=style.kpt_line,
            min_conf=style.kpt_conf,
            point_colors=style.kpt_colors,
            limb_colors=style.limb_colors,
        )
        for index in range(len(points) - 1, -1, -1):
            extent = _extent(boxes[index])
            limb_color = colors[index] if style.color_mode == "instance" else None
            draw_skeleton(image, points[index].astype(np.float64), extent, schema, skeleton_style, limb_color)
        if style.kpt_names is not False:
            _draw_names(image, points, schema, style, round(float(np.clip(size * 0.014, 9, 80))))
    if style.boxes and style.labels:
        labels = _make_labels(boxes, names, colors, style.conf, image.shape[:2])
        height = round(style.font_size or np.clip(size * 0.024, 12, 200))
        writer = get_text_writer([label.text for label in labels], height, style.font)
        _draw_labels(image, labels, writer, width, style)


def _instance_colors(boxes: npt.NDArray, names: Mapping[int, str], style: Style) -> list[Color]:
    if style.color_mode == "class":
        return [_base_color(style.colors, int(row[-1]), class_name(names, int(row[-1]))) for row in boxes]
    ids = [int(row[4]) if boxes.shape[1] == 7 else index for index, row in enumerate(boxes)]
    return [_base_color(style.colors, number, "") for number in ids]


def _base_color(colors: Colors, index: int, name: str) -> Color:
    """Return the color of a class or instance: that of its name or number, that of a list, or a hue of its own."""
    if isinstance(colors, Mapping):
        chosen = colors.get(name, colors.get(index))
        return color_for(index) if chosen is None else _to_color(chosen)
    choices = _color_list(colors or ())
    return choices[index % len(choices)] if choices else color_for(index)


def _color_list(colors: Color | Sequence[Color]) -> list[Color]:
    """Return one or several colors as a list."""
    return [cast(Color, colors)] if _is_color(colors) else list(cast("Sequence[Color]", colors))


def _is_color(value: object) -> bool:
    """Return whether a value is (blue, green, red)."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(cast("Sequence[object]", value)) != 3:
        return False
    return all(np.isscalar(item) and 0 <= float(cast("Any", item)) <= 255 for item in cast("Sequence[object]", value))


def _to_color(color: Sequence[Any]) -> Color:
    blue, green, red = (round(float(value)) for value in color)
    return blue, green, red


def _with_skeleton(schema: KeypointSchema, skeleton: Sequence[Edge] | None) -> KeypointSchema:
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


def _draw_names(image: Image, points: npt.NDArray, schema: KeypointSchema, style: Style, height: int) -> None:
    """Write the names of the drawn keypoints beside them.

    Raises:
        UsageError: the number of names is not that of the keypoints.
    """
    own = style.kpt_names if isinstance(style.kpt_names, Sequence) else schema.names.get(0) or range(schema.count)
    texts = [str(name) for name in own]
    if len(texts) != schema.count:
        raise UsageError(f"kpt_names has {len(texts)} names for {schema.count} keypoints.")
    writer = get_text_writer(texts, height, style.font)
    for instance, drawn in zip(
        points, drawable_points(points, image.shape[0], image.shape[1], style.kpt_conf), strict=True
    ):
        for index in np.flatnonzero(drawn).tolist():
            x, y = (round(float(value)) for value in instance[index, :2])
            left = min(x + height // 2, max(image.shape[1] - writer.measure(texts[index])[0], 0))
            top = min(max(y - height, 0), max(image.shape[0] - 2 * height, 0))
            writer.write(image, texts[index], left + 1, top + 1, DARK)  # an outline, readable on any background
            writer.write(image, texts[index], left, top, style.txt_color)


def _extent(box: npt.NDArray) -> float:
    """Return the size of an instance in pixels: the root of its box area."""
    if not np.isfinite(box[:4]).all():
        return 0.0
    return float(np.sqrt(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)))


# -- Boxes and labels ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Label:
    text: str
    box: Rectangle
    background: Color


def _clip_box(row: npt.NDArray, limits: Sequence[int]) -> Rectangle | None:
    """Return the corner pixels of a box inside the image; None if there is nothing to draw."""
    if not np.isfinite(row[:4]).all():
        return None
    height, width = limits
    left, right = (int(min(max(value, 0), width - 1)) for value in (row[0], row[2]))
    top, bottom = (int(min(max(value, 0), height - 1)) for value in (row[1], row[3]))
    outside = row[2] < 0 or row[3] < 0 or row[0] > width or row[1] > height
    return None if outside else (left, top, right, bottom)


def _draw_boxes(image: Image, boxes: npt.NDArray, colors: Sequence[Color], width: int) -> None:
    # In reverse order, so that the box with the highest score is on top.
    for row, color in zip(boxes[::-1], colors[::-1], strict=True):
        box = _clip_box(row, image.shape[:2])
        if box is not None:
            cv2.rectangle(image, box[:2], box[2:], color, width, cv2.LINE_AA)


def _make_labels(
    boxes: npt.NDArray, names: Mapping[int, str], colors: Sequence[Color], conf: bool, limits: Sequence[int]
) -> list[_Label]:
    labels: list[_Label] = []
    for row, color in zip(boxes, colors, strict=True):
        box = _clip_box(row, limits)
        if box is not None:
            track_id = f"id:{int(row[4])} " if len(row) == 7 else ""
            score = f" {row[-2]:.2f}" if conf else ""
            labels.append(_Label(f"{track_id}{class_name(names, int(row[-1]))}{score}", box, color))
    return labels


def _draw_labels(image: Image, labels: Sequence[_Label], writer: TextWriter, width: int, style: Style) -> None:
    """Draw labels at positions where they do not overlap, if possible."""
    occupied: list[Rectangle] = []
    for label in labels:
        rectangle = _position_label(label, writer, width, image.shape[:2], occupied)
        if rectangle is None:
            continue
        occupied.append(rectangle)
        left, top, right, bottom = rectangle
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), label.background, -1)
        pad = _padding(bottom - top)
        text_color = text_color_on(label.background, style.txt_color)
        writer.write(image, label.text, left + pad, top + pad // 2, text_color)


def _padding(height: int) -> int:
    return max(height // 6, 1)


def _position_label(
    label: _Label, writer: TextWriter, width: int, limits: Sequence[int], occupied: Sequence[Rectangle]
) -> Rectangle | None:
    """Return the first free position: above the box, inside its top, inside its bottom, below it.

    Without a free one it is the first position inside the image; None if the image is too small for the text.
    """
    text_width, text_height = writer.measure(label.text)
    pad = _padding(round(text_height * 1.2))
    label_width = text_width + 2 * pad
    label_height = text_height + pad
    if label_width > limits[1] or label_height > limits[0] // 5:
        return None
    x1, y1, _, y2 = label.box
    edge = width // 2
    left = min(max(x1 - edge, 0), limits[1] - label_width)
    tops = (y1 + edge - label_height, y1 - edge, y2 + edge + 1 - label_height, y2 - edge)
    inside = [top for top in tops if 0 <= top <= limits[0] - label_height]
    candidates = [(left, top, left + label_width, top + label_height) for top in inside]
    free = [rectangle for rectangle in candidates if not any(_overlap(rectangle, other) for other in occupied)]
    return (free or candidates or [(left, 0, left + label_width, label_height)])[0]


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


# -- Skeletons -------------------------------------------------------------------------------------------------------


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
) -> None:
    """Draw the keypoints of one instance in place.

    Args:
        image: (H, W, 3) uint8 BGR.
        points: (K, 2 or 3) x, y in pixels and confidence.
        extent: size of the instance, pixels; it limits the size of keypoints and limbs.
        schema: names and skeleton of K keypoints.
        style: sizes.
        limb_color: color of all limbs; None for one per side of the body.
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


def _repeat(colors: Sequence[Color] | None, defaults: Sequence[Color]) -> Sequence[Color]:
    """Return as many of the colors as there are defaults, repeating them; the defaults where there are none."""
    return [_to_color(colors[index % len(colors)]) for index in range(len(defaults))] if colors else defaults


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
