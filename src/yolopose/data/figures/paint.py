"""Painting a body: parts from far to near, and a map of which part owns each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.figures.body import Array, Body
from yolopose.schema import COCO_PERSON_NAMES

Image = npt.NDArray[np.uint8]
Color = tuple[float, float, float]
SHIFT = 4
"""Fractional bits of the coordinates that OpenCV is given."""
_SKINS = ((200, 215, 240), (165, 190, 225), (120, 150, 200), (80, 110, 160), (50, 75, 120), (35, 50, 85))  # BGR
_HAIRS = ((25, 25, 30), (30, 45, 70), (50, 90, 140), (110, 170, 210), (150, 150, 155), (40, 50, 120))

_PARTS = 64  # more than a figure has
THING = 1_000_000
"""Mark of what stands before the figures, in the map of owners."""
TORSO, HEAD, FACE = "torso", "head", "face"


@dataclass(frozen=True, slots=True)
class Part:
    """A convex piece of a figure.

    Attributes:
        name: `torso`, `head`, `left_thigh`, …
        outline: (n, 2) x, y in pixels.
        depth: nearness to the viewer; far parts are painted first.
        color: BGR.
        large: whether it has light and outline of its own.
    """

    name: str
    outline: Array
    depth: float
    color: Color
    large: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """A body in an image.

    Attributes:
        body: the body.
        scale: pixels of its height.
        place: (2,) x, y of the pelvis, pixels.
        parts: what is painted, far to near.
        outlined: how dark the outlines are, 0…1.
        lit: (2,) where the light falls on each part, in shares of its size, and how much lighter it is there, 0…1.
    """

    body: Body
    scale: float
    place: Array
    parts: tuple[Part, ...]
    outlined: float
    lit: tuple[Array, float]

    @property
    def points(self) -> Array:
        """(17, 2) COCO points in pixels."""
        return np.array([self.pixel(name) for name in COCO_PERSON_NAMES])

    def pixel(self, name: str) -> Array:
        """(2,) place of a joint in pixels."""
        return self.place + self.scale * self.body.at[name][:2]


def dressed(body: Body, scale: float, place: Array, rng: np.random.Generator) -> Figure:
    """Return a body clothes and size, and lays out its parts.

    Args:
        body: the body.
        scale: pixels of its height.
        place: (2,) pixels of the pelvis.
        rng: of the colors.
    """
    skin, hair = _SKINS[rng.integers(len(_SKINS))], _HAIRS[rng.integers(len(_HAIRS))]
    shirt, trousers, shoes = (_cloth(rng) for _ in range(3))
    sleeves, shorts = rng.random() < 0.4, rng.random() < 0.25
    maker = _Maker(body, scale, place, rng)
    parts = [maker.torso(shirt), *maker.head(skin, hair)]
    for side in ("left", "right"):
        near = 0.02 * float(np.sign(body.at[f"{side}_shoulder"][2] - body.at["neck"][2]))
        parts += [
            maker.limb(f"{side}_upper_arm", f"{side}_shoulder", f"{side}_elbow", 0.031, 0.025, shirt, near),
            maker.limb(f"{side}_forearm", f"{side}_elbow", f"{side}_wrist", 0.024, 0.018, shirt if sleeves else skin),
            maker.limb(f"{side}_hand", f"{side}_wrist", f"{side}_hand", 0.018, 0.02, skin, 0.004),
            maker.limb(f"{side}_thigh", f"{side}_hip", f"{side}_knee", 0.048, 0.034, trousers, -0.03),
            maker.limb(f"{side}_shin", f"{side}_knee", f"{side}_ankle", 0.032, 0.022, skin if shorts else trousers),
            maker.limb(f"{side}_foot", f"{side}_ankle", f"{side}_toe", 0.023, 0.019, shoes, 0.002),
        ]
    ordered = tuple(sorted(parts, key=lambda part: part.depth))
    lit = rng.uniform(-0.1, 0.1, 2), float(rng.choice((0.0, 0.15, 0.3)))
    return Figure(body, scale, place, ordered, float(rng.choice((0.0, 0.25, 0.6))), lit)


def paint(canvas: Image, owners: npt.NDArray[np.int32], figure: Figure, number: int) -> None:
    """Paint a figure onto an image.

    Args:
        canvas: (H, W, 3) BGR.
        owners: (H, W); each pixel that a part covers becomes `owner(number, index of the part)`.
        figure: the figure.
        number: its number in the image.
    """
    where, gain = figure.lit
    for index, part in enumerate(figure.parts):
        outline = fixed(part.outline)
        cv2.fillConvexPoly(canvas, outline, part.color, cv2.LINE_AA, SHIFT)
        if gain and part.large:
            middle, size = part.outline.mean(axis=0), np.ptp(part.outline, axis=0)
            inner = fixed(middle + 0.6 * (part.outline - middle) + where * size.min())
            cv2.fillConvexPoly(canvas, inner, _mixed(part.color, 255, gain), cv2.LINE_AA, SHIFT)
        if figure.outlined and part.large:
            cv2.polylines(canvas, [outline], True, _mixed(part.color, 0, figure.outlined), 1, cv2.LINE_AA, SHIFT)
        cv2.fillConvexPoly(owners, outline, owner(number, index), cv2.LINE_8, SHIFT)


def fixed(outline: Array) -> npt.NDArray[np.int32]:
    """(n, 2) pixels as OpenCV wants them: with `SHIFT` fractional bits, and 0 in the middle of the first pixel."""
    return np.rint((outline - 0.5) * 2**SHIFT).astype(np.int32)


def _mixed(color: Color, other: float, share: float) -> Color:
    blue, green, red = (value * (1 - share) + other * share for value in color)
    return blue, green, red


def owner(number: int, index: int) -> int:
    """The mark of a part of a figure in the map of owners; 0 is the background."""
    return 1 + _PARTS * number + index


def owner_of(mark: int) -> tuple[int, int]:
    """The number of the figure and the index of the part that a mark stands for; (-1, 0) for anything else."""
    return divmod(mark - 1, _PARTS) if 0 < mark < THING else (-1, 0)


class _Maker:
    """Makes the parts of one figure."""

    def __init__(self, body: Body, scale: float, place: Array, rng: np.random.Generator) -> None:
        self._body, self._scale, self._place, self._rng = body, scale, place, rng

    def limb(
        self, name: str, start: str, end: str, radius: float, radius2: float, color: Color, nearer: float = 0.0
    ) -> Part:
        """A tapered capsule between two joints."""
        at, stout = self._body.at, self._body.stout
        outline = _hull([(self._flat(start), radius * stout), (self._flat(end), radius2 * stout)])
        depth = float((at[start][2] + at[end][2]) / 2) + nearer
        return Part(name, self._pixels(outline), depth, self._shade(color, depth))

    def torso(self, color: Color) -> Part:
        stout = self._body.stout
        circles = [(self._flat(f"{side}_shoulder"), 0.028 * stout) for side in ("left", "right")]
        circles += [(self._flat(f"{side}_hip"), 0.045 * stout) for side in ("left", "right")]
        circles += [(self._flat("neck"), 0.03 * stout)]
        return Part(TORSO, self._pixels(_hull(circles)), 0.0, self._shade(color, 0.0))

    def head(self, skin: Color, hair: Color) -> list[Part]:
        """Neck, hair and face; the face turns away with the head."""
        radius, depth = self._body.head, float(self._body.at["head"][2])
        center, up = self._flat("head"), self._flat("crown") - self._flat("head")
        neck = _hull([(self._flat("neck"), 0.026), (center, 0.024)])
        skull = _hull([(center - 0.1 * up, radius), (center + 0.12 * up, radius)])
        parts = [
            Part("neck", self._pixels(neck), min(depth - 0.001, 0.001), skin),
            Part(HEAD, self._pixels(skull), depth, hair),
        ]
        look = self._body.face
        if look[2] > -0.35:  # else it is seen from behind: hair alone
            middle, size = center + 0.42 * radius * look[:2] - 0.16 * up, radius * (0.62 + 0.22 * max(look[2], 0.0))
            face = _hull([(middle, size), (middle - 0.3 * up, 0.85 * size)])
            parts += [Part(FACE, self._pixels(face), depth + 0.001, skin), *self._features(skin, depth + 0.0015)]
        return parts

    def _features(self, skin: Color, depth: float) -> list[Part]:
        """Those of ears, eyes and nose that are on the near side of the head."""
        dark, red = _mixed(skin, 0, 0.85), _mixed(skin, 0, 0.3)
        rows = [(f"{side}_ear", HEAD, 0.2, skin, -0.25) for side in ("left", "right")]
        rows += [(f"{side}_eye", FACE, 0.1, dark, 0.05) for side in ("left", "right")]
        rows += [("nose", FACE, 0.1, red, 0.05)]
        radius, at = self._body.head, self._body.at
        return [
            Part(part, self._pixels(_hull([(self._flat(name), share * radius)])), depth, color, large=False)
            for name, part, share, color, least in rows
            if float((at[name] - at["head"])[2]) > least * radius
        ]

    def _flat(self, name: str) -> Array:
        return self._body.at[name][:2]

    def _pixels(self, outline: Array) -> Array:
        return self._place + self._scale * outline

    def _shade(self, color: Color, depth: float) -> Color:
        """Nearer parts are a little lighter, and no two quite alike."""
        gain = 0.92 + 0.8 * depth + self._rng.normal(0, 0.04)
        return (min(color[0] * gain, 255), min(color[1] * gain, 255), min(color[2] * gain, 255))


_CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)])


def _hull(circles: list[tuple[Array, float]]) -> Array:
    """(n, 2) convex outline around circles of (center, radius)."""
    dots = np.concatenate([center + radius * _CIRCLE for center, radius in circles]).astype(np.float32)
    return np.asarray(cv2.convexHull(dots))[:, 0].astype(np.float64)


def _cloth(rng: np.random.Generator) -> Color:
    """A color of clothes: gray in part, else of any hue."""
    value = rng.uniform(30, 240)
    vivid = rng.uniform(0, 40) if rng.random() < 0.3 else rng.uniform(60, 230)
    pixel = np.array([[[rng.uniform(0, 180), vivid, value]]])
    blue, green, red = np.asarray(cv2.cvtColor(pixel.astype(np.uint8), cv2.COLOR_HSV2BGR))[0, 0]
    return float(blue), float(green), float(red)
