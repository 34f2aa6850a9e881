"""Drawing of detections: skeletons, boxes and labels, with sizes relative to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results.palette import (
    DARK,
    Color,
    drawing_schema,
    text_color_on,
)
from yolopose.results.skeletons import SkeletonStyle, draw_skeleton, drawable_points, with_skeleton
from yolopose.results.style import Style, base_color
from yolopose.results.tables import class_name
from yolopose.results.text import TextWriter, get_text_writer
from yolopose.schema import KeypointSchema

Image = npt.NDArray[np.uint8]
Rectangle = tuple[int, int, int, int]
"""left, top, right, bottom, pixels."""


def annotate(
    image: Image,
    boxes: npt.NDArray[np.floating],
    points: npt.NDArray[np.floating],
    names: Mapping[int, str],
    schema: KeypointSchema | None,
    style: Style,
    hidden: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Draw detections in place.

    Args:
        image: (H, W, 3) uint8 BGR, contiguous.
        boxes: (N, 6 or 7) as in `Boxes.data`, in pixels of `image`.
        points: (N, K, 2 or 3) as in `Keypoints.data`.
        names: class names.
        schema: names and skeleton of the keypoints.
        style: what is drawn and how.
        hidden: (N, K) which keypoints are hidden: they are drawn hollow. None for none.
    """
    # The geometric mean of the sides, so that lines in a panorama are not too thick.
    size = float(np.sqrt(image.shape[0] * image.shape[1]))
    width = max(round(style.line_width or size * 0.003), 1)
    colors = _instance_colors(boxes, names, style)
    if style.boxes:
        _draw_boxes(image, boxes, colors, width)
    if points.shape[1]:
        schema = with_skeleton(drawing_schema(schema, points.shape[1], names), style.skeleton)
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
            hollow = None if hidden is None else hidden[index]
            draw_skeleton(image, points[index].astype(np.float64), extent, schema, skeleton_style, limb_color, hollow)
        if style.kpt_names is not False:
            _draw_names(image, points, schema, style, round(float(np.clip(size * 0.014, 9, 80))))
    if style.boxes and style.labels:
        labels = _make_labels(boxes, names, colors, style.conf, image.shape[:2])
        height = round(style.font_size or np.clip(size * 0.024, 12, 200))
        writer = get_text_writer([label.text for label in labels], height, style.font)
        _draw_labels(image, labels, writer, width, style)


def _instance_colors(boxes: npt.NDArray, names: Mapping[int, str], style: Style) -> list[Color]:
    if style.color_mode == "class":
        return [base_color(style.colors, int(row[-1]), class_name(names, int(row[-1]))) for row in boxes]
    ids = [int(row[4]) if boxes.shape[1] == 7 else index for index, row in enumerate(boxes)]
    return [base_color(style.colors, number, "") for number in ids]


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
