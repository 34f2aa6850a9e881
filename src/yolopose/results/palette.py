"""Colors for classes, instances, keypoints and limbs; all BGR, 0…255."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from yolopose.schema import COCO_PERSON_FLIP, KeypointSchema

Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
DARK: Color = (24, 24, 24)
LEFT: Color = (40, 150, 255)
RIGHT: Color = (255, 190, 50)
CENTER: Color = (110, 225, 90)

_GOLDEN = 0.618033988749895


@lru_cache(maxsize=4096)
def color_for(index: int) -> Color:
    """Return the color of a class or instance; neighbors in number are far apart in hue, and never repeat soon."""
    hue = (0.70 + index * _GOLDEN) % 1.0
    return _bgr(hue, 0.78, 0.95 if index % 2 == 0 else 0.80)


def text_color_on(background: Color, wanted: Color) -> Color:
    """Return the wanted text color, or a dark one where white would not be readable."""
    blue, green, red = background
    light = 0.114 * blue + 0.587 * green + 0.299 * red > 150
    return DARK if light and wanted == WHITE else wanted


@dataclass(frozen=True, slots=True)
class KeypointColors:
    """Colors of the K points and of the edges of the skeleton, in their order."""

    points: tuple[Color, ...]
    edges: tuple[Color, ...]


@lru_cache(maxsize=64)
def keypoint_colors(names: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> KeypointColors:
    """Choose colors for a skeleton.

    Names with a left and a right (`left_wrist`, `wrist_r`) give one color per side and one for the
    middle, so that a turned person is seen at once. Other names give every point a hue of its own,
    going round the color wheel; an edge takes the hue of its second point.
    """
    sides = [_side(name) for name in names]
    if "left" in sides and "right" in sides:
        by_side = {"left": LEFT, "right": RIGHT, "": CENTER}
        return KeypointColors(
            points=tuple(by_side[side] for side in sides),
            edges=tuple(by_side[_edge_side(sides[a], sides[b])] for a, b in edges),
        )
    points = tuple(_bgr(index / max(len(names), 1), 0.72, 1.0) for index in range(len(names)))
    return KeypointColors(points=points, edges=tuple(points[b] for _, b in edges))


def _edge_side(first: str, second: str) -> str:
    """An edge from the middle to a side belongs to the side; one between the sides to the middle."""
    if first == second or not second:
        return first
    return second if not first else ""


def _side(name: str) -> str:
    # words of snake_case, kebab-case and camelCase
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    lowered = {word.lower() for word in words}
    if lowered & {"left", "l"} or name.lower().startswith("left"):
        return "left"
    return "right" if lowered & {"right", "r"} or name.lower().startswith("right") else ""


def _bgr(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def drawing_schema(schema: KeypointSchema | None, count: int, names: Mapping[int, str]) -> KeypointSchema:
    """Return the schema to draw with.

    It is the given one; but 17 points of which neither names nor skeleton are known are a COCO person's when they
    mirror as those do or, where that is not known either, when a class is called `person`.

    Args:
        schema: what is known, or None for nothing.
        count: K, number of points.
        names: class names.
    """
    if schema is None or schema.count != count:
        return KeypointSchema.coco_person() if count == 17 else KeypointSchema(count=max(count, 1))
    if count != 17 or schema.skeleton or schema.names:
        return schema
    person = "person" in names.values() if schema.flip_idx is None else schema.flip_idx == COCO_PERSON_FLIP
    return KeypointSchema.coco_person() if person else schema
