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

_GOLDEN_RATIO = 0.618033988749895


@lru_cache(maxsize=4096)
def color_for(index: int) -> Color:
    """Return the color of a class or instance; consecutive indices differ strongly in hue (golden ratio)."""
    hue = (0.70 + index * _GOLDEN_RATIO) % 1.0
    return _bgr(hue, 0.78, 0.95 if index % 2 == 0 else 0.80)


def text_color_on(background: Color, text_color: Color) -> Color:
    """Return the text color, but dark instead of white on a light background."""
    blue, green, red = background
    is_light = 0.114 * blue + 0.587 * green + 0.299 * red > 150  # luma of BT.601
    return DARK if is_light and text_color == WHITE else text_color


@dataclass(frozen=True, slots=True)
class KeypointColors:
    """Colors of the K keypoints and of the edges of the skeleton, in their order."""

    points: tuple[Color, ...]
    edges: tuple[Color, ...]


@lru_cache(maxsize=64)
def keypoint_colors(names: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> KeypointColors:
    """Return the colors of a skeleton.

    If the names have sides (`left_wrist`, `wrist_r`), there is one color per side and one for the center. Otherwise
    each keypoint has its own hue, and an edge has the hue of its second keypoint.
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
    """Return the side of an edge: center to side is that side, left to right is the center."""
    if first == second or not second:
        return first
    return second if not first else ""


def _side(name: str) -> str:
    """Return `left`, `right` or an empty text, from names in snake_case, kebab-case or camelCase."""
    parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    if parts & {"left", "l"} or name.lower().startswith("left"):
        return "left"
    return "right" if parts & {"right", "r"} or name.lower().startswith("right") else ""


def _bgr(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(blue * 255), round(green * 255), round(red * 255)


def drawing_schema(schema: KeypointSchema | None, count: int, names: Mapping[int, str]) -> KeypointSchema:
    """Return the schema to draw with.

    17 keypoints without names and skeleton are treated as COCO persons if they have the same mirror pairs or, without
    mirror pairs, if a class is named `person`.

    Args:
        schema: schema of the network, or None.
        count: K, number of keypoints.
        names: class names.
    """
    if schema is None or schema.count != count:
        return KeypointSchema.coco_person() if count == 17 else KeypointSchema(count=max(count, 1))
    if count != 17 or schema.skeleton or schema.names:
        return schema
    is_person = "person" in names.values() if schema.flip_idx is None else schema.flip_idx == COCO_PERSON_FLIP
    return KeypointSchema.coco_person() if is_person else schema
