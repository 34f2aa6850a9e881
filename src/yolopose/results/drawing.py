"""Detections drawn on an image: skeletons, boxes, labels. Sizes follow the size of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results.palette import WHITE, Color, color_for, drawing_schema, text_color_on
from yolopose.results.skeleton import SkeletonStyle, draw_skeleton
from yolopose.results.tables import class_name
from yolopose.results.text import TextWriter, get_text_writer
from yolopose.schema import KeypointSchema

Image = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Style:
    """What is drawn and how.

    Attributes:
        conf: whether labels hold the confidence.
        line_width: thickness of boxes, pixels; None follows the image.
        font_size: height of a line of text, pixels; None follows the image.
        font: path or name of a TrueType font; None for the built-in one.
        kpt_radius: radius of points in an image of about 1000 pixels; it grows and shrinks with the image.
        kpt_line: whether limbs are drawn.
        labels: whether labels are drawn.
        boxes: whether boxes and labels are drawn.
        color_mode: `class` (boxes by class, limbs by side) or `instance` (boxes and limbs by instance or track).
        txt_color: BGR of the text; white turns dark on light backgrounds.

    Raises:
        UsageError: a value is not possible.
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

    def __post_init__(self) -> None:
        if self.color_mode not in ("class", "instance"):
            raise UsageError(f"color_mode must be 'class' or 'instance', got {self.color_mode!r}.")
        for name in ("line_width", "font_size", "kpt_radius"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be a number above 0 (pixels), got {value!r}.")


@dataclass(frozen=True, slots=True)
class Label:
    """A text and the box it belongs to, both in one color."""

    text: str
    box: Rectangle
    background: Color


def annotate(
    image: Image,
    boxes: npt.NDArray[np.floating] | None,
    points: npt.NDArray[np.floating] | None,
    names: Mapping[int, str],
    schema: KeypointSchema | None,
    style: Style,
) -> None:
    """Draw detections in place.

    Args:
        image: (H, W, 3) uint8 BGR, contiguous.
        boxes: (N, 6 or 7) as in `Boxes.data`, in pixels of `image`, or None.
        points: (N, K, 2 or 3) as in `Keypoints.data`, or None.
        names: class names.
        schema: names and skeleton of the keypoints.
        style: what is drawn and how.
    """
    # the geometric mean of the sides: a panorama does not get lines as thick as itself
    size = float(np.sqrt(image.shape[0] * image.shape[1]))
    width = max(round(style.line_width or size * 0.003), 1)
    colors = _instance_colors(boxes, points, style)
    if boxes is not None and style.boxes:
        _draw_boxes(image, boxes, colors, width)
    if points is not None:
        shown = drawing_schema(schema, points.shape[1], names)
        radius, share = style.kpt_radius * size / 1000, style.kpt_radius / 200
        look = SkeletonStyle(radius, share, max(round(size * 0.003), 1), style.kpt_line)
        for index in range(len(points) - 1, -1, -1):
            extent = _extent(None if boxes is None else boxes[index], points[index])
            limb = colors[index] if style.color_mode == "instance" else None
            draw_skeleton(image, points[index].astype(np.float64), extent, shown, look, limb)
    if boxes is not None and style.boxes and style.labels:
        labels = _labels(boxes, names, colors, style.conf, image.shape[:2])
        height = round(style.font_size or np.clip(size * 0.024, 12, 200))
        _draw_labels(image, labels, get_text_writer([label.text for label in labels], height, style.font), width, style)


def _instance_colors(boxes: npt.NDArray | None, points: npt.NDArray | None, style: Style) -> list[Color]:
    if boxes is None:
        return [color_for(index) for index in range(0 if points is None else len(points))]
    if style.color_mode == "class":
        return [color_for(int(row[-1])) for row in boxes]
    return [color_for(int(row[4]) if boxes.shape[1] == 7 else index) for index, row in enumerate(boxes)]


def _extent(box: npt.NDArray | None, points: npt.NDArray) -> float:
    """Size of an instance in pixels: the root of its box's area, or the reach of its points."""
    if box is not None and np.isfinite(box[:4]).all():
        return float(np.sqrt(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)))
    finite = points[np.isfinite(points[:, :2]).all(axis=1), :2]
    return float(np.ptp(finite, axis=0).max()) if len(finite) else 0.0


def _rectangle(row: npt.NDArray, limits: Sequence[int]) -> Rectangle | None:
    """Corner pixels of a box inside the image; None when there is nothing to draw."""
    if not np.isfinite(row[:4]).all():
        return None
    height, width = limits
    left, right = (int(min(max(value, 0), width - 1)) for value in (row[0], row[2]))
    top, bottom = (int(min(max(value, 0), height - 1)) for value in (row[1], row[3]))
    outside = row[2] < 0 or row[3] < 0 or row[0] > width or row[1] > height
    return None if outside else (left, top, right, bottom)


def _draw_boxes(image: Image, boxes: npt.NDArray, colors: Sequence[Color], width: int) -> None:
    # the most certain one is drawn last and lies on top
    for row, paint in zip(boxes[::-1], colors[::-1], strict=True):
        corners = _rectangle(row, image.shape[:2])
        if corners is not None:
            cv2.rectangle(image, corners[:2], corners[2:], paint, width, cv2.LINE_AA)


def _labels(
    boxes: npt.NDArray, names: Mapping[int, str], colors: Sequence[Color], conf: bool, limits: Sequence[int]
) -> list[Label]:
    found: list[Label] = []
    for row, paint in zip(boxes, colors, strict=True):
        corners = _rectangle(row, limits)
        if corners is not None:
            track = f"id:{int(row[4])} " if len(row) == 7 else ""
            score = f" {row[-2]:.2f}" if conf else ""
            found.append(Label(f"{track}{class_name(names, int(row[-1]))}{score}", corners, paint))
    return found


def _draw_labels(image: Image, labels: Sequence[Label], pen: TextWriter, width: int, style: Style) -> None:
    """Write labels where they do not cover one another, as far as that can be had."""
    taken: list[Rectangle] = []
    for label in labels:
        place = _place(label, pen, width, image.shape[:2], taken)
        if place is None:
            continue
        taken.append(place)
        cv2.rectangle(image, place[:2], (place[2] - 1, place[3] - 1), label.background, -1)
        pad = _padding(place[3] - place[1])
        text_color = text_color_on(label.background, style.txt_color)
        pen.write(image, label.text, place[0] + pad, place[1] + pad // 2, text_color)


def _padding(height: int) -> int:
    return max(height // 6, 1)


def _place(
    label: Label, pen: TextWriter, width: int, limits: Sequence[int], taken: Sequence[Rectangle]
) -> Rectangle | None:
    """Choose where a label goes: above its box, inside its top, inside its bottom, below; the first that is free.

    Returns:
        (left, top, right, bottom), or None when the image is too small to hold the text.
    """
    text_width, text_height = pen.measure(label.text)
    pad = _padding(round(text_height * 1.2))
    wide, high = text_width + 2 * pad, text_height + pad
    if wide > limits[1] or high > limits[0] // 5:
        return None
    x1, y1, _, y2 = label.box
    edge = width // 2
    left = min(max(x1 - edge, 0), limits[1] - wide)
    tops = (y1 + edge - high, y1 - edge, y2 + edge + 1 - high, y2 - edge)
    places = [(left, top, left + wide, top + high) for top in tops if 0 <= top <= limits[0] - high]
    free = [place for place in places if not any(_overlap(place, other) for other in taken)]
    return (free or places or [(left, 0, left + wide, high)])[0]


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
