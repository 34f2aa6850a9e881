"""Paint bodies: parts from far to near, and an id map of the part that is visible at each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.figures.body import Array, Body
from yolopose.schema import COCO_PERSON_NAMES

Image = npt.NDArray[np.uint8]
Color = tuple[float, float, float]
FRACTION_BITS = 4
"""Fractional bits of coordinates in OpenCV's drawing functions (their argument `shift`)."""
_SKINS = ((200, 215, 240), (165, 190, 225), (120, 150, 200), (80, 110, 160), (50, 75, 120), (35, 50, 85))  # BGR
_HAIRS = ((25, 25, 30), (30, 45, 70), (50, 90, 140), (110, 170, 210), (150, 150, 155), (40, 50, 120))

_MAX_PARTS = 64  # upper limit of the parts of a figure
OCCLUDER_ID = 1_000_000
"""Id of foreground objects in an id map."""
TORSO, HEAD, FACE = "torso", "head", "face"


@dataclass(frozen=True, slots=True)
class Part:
    """A convex piece of a figure.

    Attributes:
        name: `torso`, `head`, `left_thigh`, …
        outline: (n, 2) x, y in pixels.
        depth: position along the axis towards the viewer; far parts are painted first.
        color: BGR.
        shaded: whether it has a highlight and an outline.
    """

    name: str
    outline: Array
    depth: float
    color: Color
    shaded: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """A body in an image.

    Attributes:
        body: the body.
        scale: pixels per body height.
        position: (2,) x, y of the pelvis, pixels.
        parts: the parts, far to near.
        outline_strength: darkness of the outlines, 0…1.
        highlight_offset: (2,) position of the highlight of each part relative to its size.
        highlight_strength: brightness of the highlights, 0…1.
    """

    body: Body
    scale: float
    position: Array
    parts: tuple[Part, ...]
    outline_strength: float
    highlight_offset: Array
    highlight_strength: float

    @property
    def keypoints(self) -> Array:
        """(17, 2) COCO keypoints in pixels."""
        return np.array([self.pixel(name) for name in COCO_PERSON_NAMES])

    def pixel(self, name: str) -> Array:
        """Return the (2,) position of a joint in pixels."""
        return self.position + self.scale * self.body.joints[name][:2]


def dress(body: Body, scale: float, position: Array, rng: np.random.Generator) -> Figure:
    """Build the parts of a body with random clothes.

    Args:
        body: the body.
        scale: pixels per body height.
        position: (2,) x, y of the pelvis, pixels.
        rng: source of the colors.
    """
    skin, hair = _SKINS[rng.integers(len(_SKINS))], _HAIRS[rng.integers(len(_HAIRS))]
    shirt, trousers, shoes = (_random_cloth(rng) for _ in range(3))
    sleeves, shorts = rng.random() < 0.4, rng.random() < 0.25
    builder = _PartBuilder(body, scale, position, rng)
    parts = [builder.torso(shirt), *builder.head(skin, hair)]
    for side in ("left", "right"):
        near = 0.02 * float(np.sign(body.joints[f"{side}_shoulder"][2] - body.joints["neck"][2]))
        parts += [
            builder.limb(f"{side}_upper_arm", f"{side}_shoulder", f"{side}_elbow", 0.031, 0.025, shirt, near),
            builder.limb(f"{side}_forearm", f"{side}_elbow", f"{side}_wrist", 0.024, 0.018, shirt if sleeves else skin),
            builder.limb(f"{side}_hand", f"{side}_wrist", f"{side}_hand", 0.018, 0.02, skin, 0.004),
            builder.limb(f"{side}_thigh", f"{side}_hip", f"{side}_knee", 0.048, 0.034, trousers, -0.03),
            builder.limb(f"{side}_shin", f"{side}_knee", f"{side}_ankle", 0.032, 0.022, skin if shorts else trousers),
            builder.limb(f"{side}_foot", f"{side}_ankle", f"{side}_toe", 0.023, 0.019, shoes, 0.002),
        ]
    ordered = tuple(sorted(parts, key=lambda part: part.depth))
    # separate statements: the order of the random values is part of the drawing's version
    highlight_offset = rng.uniform(-0.1, 0.1, 2)
    highlight_strength = float(rng.choice((0.0, 0.15, 0.3)))
    outline_strength = float(rng.choice((0.0, 0.25, 0.6)))
    return Figure(body, scale, position, ordered, outline_strength, highlight_offset, highlight_strength)


def paint(canvas: Image, id_map: npt.NDArray[np.int32], figure: Figure, number: int) -> None:
    """Paint a figure onto an image.

    Args:
        canvas: (H, W, 3) BGR.
        id_map: (H, W); pixels of a part are set to `part_id(number, index of the part)`.
        figure: the figure.
        number: its number in the image.
    """
    for index, part in enumerate(figure.parts):
        outline = to_fixed_point(part.outline)
        cv2.fillConvexPoly(canvas, outline, part.color, cv2.LINE_AA, FRACTION_BITS)
        if figure.highlight_strength and part.shaded:
            center, size = part.outline.mean(axis=0), np.ptp(part.outline, axis=0)
            inner = center + 0.6 * (part.outline - center) + figure.highlight_offset * size.min()
            color = _blend(part.color, 255, figure.highlight_strength)
            cv2.fillConvexPoly(canvas, to_fixed_point(inner), color, cv2.LINE_AA, FRACTION_BITS)
        if figure.outline_strength and part.shaded:
            color = _blend(part.color, 0, figure.outline_strength)
            cv2.polylines(canvas, [outline], True, color, 1, cv2.LINE_AA, FRACTION_BITS)
        # no anti-aliasing: ids cannot be blended
        cv2.fillConvexPoly(id_map, outline, part_id(number, index), cv2.LINE_8, FRACTION_BITS)


def to_fixed_point(outline: Array) -> npt.NDArray[np.int32]:
    """Convert (n, 2) pixels to OpenCV's fixed-point coordinates, whose origin is the center of the first pixel."""
    return np.rint((outline - 0.5) * 2**FRACTION_BITS).astype(np.int32)


def _blend(color: Color, other: float, weight: float) -> Color:
    blue, green, red = (value * (1 - weight) + other * weight for value in color)
    return blue, green, red


def part_id(number: int, index: int) -> int:
    """Return the id of part `index` of figure `number` in an id map; 0 is the background."""
    return 1 + _MAX_PARTS * number + index


def decode_part_id(value: int) -> tuple[int, int]:
    """Return figure number and part index of an id; (-1, 0) for the background and occluders."""
    return divmod(value - 1, _MAX_PARTS) if 0 < value < OCCLUDER_ID else (-1, 0)


class _PartBuilder:
    """Builds the parts of one figure."""

    def __init__(self, body: Body, scale: float, position: Array, rng: np.random.Generator) -> None:
        self._body = body
        self._scale = scale
        self._position = position
        self._rng = rng

    def limb(
        self, name: str, start: str, end: str, radius: float, radius2: float, color: Color, nearer: float = 0.0
    ) -> Part:
        """Build a tapered capsule between two joints; `nearer` is added to its depth."""
        joints, limb_scale = self._body.joints, self._body.limb_scale
        outline = _hull([(self._project(start), radius * limb_scale), (self._project(end), radius2 * limb_scale)])
        depth = float((joints[start][2] + joints[end][2]) / 2) + nearer
        return Part(name, self._pixels(outline), depth, self._shade(color, depth))

    def torso(self, color: Color) -> Part:
        limb_scale = self._body.limb_scale
        circles = [(self._project(f"{side}_shoulder"), 0.028 * limb_scale) for side in ("left", "right")]
        circles += [(self._project(f"{side}_hip"), 0.045 * limb_scale) for side in ("left", "right")]
        circles += [(self._project("neck"), 0.03 * limb_scale)]
        return Part(TORSO, self._pixels(_hull(circles)), 0.0, self._shade(color, 0.0))

    def head(self, skin: Color, hair: Color) -> list[Part]:
        """Build neck, hair and face; the face is visible only if the head is turned towards the viewer."""
        radius, depth = self._body.head_radius, float(self._body.joints["head"][2])
        center, up = self._project("head"), self._project("crown") - self._project("head")
        neck = _hull([(self._project("neck"), 0.026), (center, 0.024)])
        skull = _hull([(center - 0.1 * up, radius), (center + 0.12 * up, radius)])
        parts = [
            Part("neck", self._pixels(neck), min(depth - 0.001, 0.001), skin),
            Part(HEAD, self._pixels(skull), depth, hair),
        ]
        direction = self._body.face_direction
        if direction[2] > -0.35:  # otherwise the head is seen from behind
            middle = center + 0.42 * radius * direction[:2] - 0.16 * up
            size = radius * (0.62 + 0.22 * max(direction[2], 0.0))
            face = _hull([(middle, size), (middle - 0.3 * up, 0.85 * size)])
            parts += [Part(FACE, self._pixels(face), depth + 0.001, skin), *self._features(skin, depth + 0.0015)]
        return parts

    def _features(self, skin: Color, depth: float) -> list[Part]:
        """Build those of ears, eyes and nose that are on the near side of the head."""
        dark, red = _blend(skin, 0, 0.85), _blend(skin, 0, 0.3)
        rows = [(f"{side}_ear", HEAD, 0.2, skin, -0.25) for side in ("left", "right")]
        rows += [(f"{side}_eye", FACE, 0.1, dark, 0.05) for side in ("left", "right")]
        rows += [("nose", FACE, 0.1, red, 0.05)]
        radius, joints = self._body.head_radius, self._body.joints
        return [
            Part(part, self._pixels(_hull([(self._project(name), size * radius)])), depth, color, shaded=False)
            for name, part, size, color, min_depth in rows
            if float((joints[name] - joints["head"])[2]) > min_depth * radius
        ]

    def _project(self, name: str) -> Array:
        return self._body.joints[name][:2]

    def _pixels(self, outline: Array) -> Array:
        return self._position + self._scale * outline

    def _shade(self, color: Color, depth: float) -> Color:
        """Brighten near parts, and vary all of them slightly."""
        gain = 0.92 + 0.8 * depth + self._rng.normal(0, 0.04)
        return (min(color[0] * gain, 255), min(color[1] * gain, 255), min(color[2] * gain, 255))


_CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)])


def _hull(circles: list[tuple[Array, float]]) -> Array:
    """Return the (n, 2) convex outline around circles of (center, radius)."""
    points = np.concatenate([center + radius * _CIRCLE for center, radius in circles]).astype(np.float32)
    return np.asarray(cv2.convexHull(points))[:, 0].astype(np.float64)


def _random_cloth(rng: np.random.Generator) -> Color:
    """Return a color of clothes: grayish with probability 0.3, otherwise of any hue."""
    value = rng.uniform(30, 240)
    saturation = rng.uniform(0, 40) if rng.random() < 0.3 else rng.uniform(60, 230)
    pixel = np.array([[[rng.uniform(0, 180), saturation, value]]])
    blue, green, red = np.asarray(cv2.cvtColor(pixel.astype(np.uint8), cv2.COLOR_HSV2BGR))[0, 0]
    return float(blue), float(green), float(red)
