"""Compose images of several figures with exact boxes, keypoints and visibility."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.figures.background import apply_camera_effects, draw_background, noisy_color, occluder_mask
from yolopose.data.figures.body import Array, random_body
from yolopose.data.figures.paint import (
    FACE,
    FRACTION_BITS,
    HEAD,
    OCCLUDER_ID,
    TORSO,
    Figure,
    Image,
    decode_part_id,
    dress,
    paint,
    part_id,
    to_fixed_point,
)
from yolopose.schema import COCO_PERSON_NAMES

MAX_FIGURES = 6
MIN_BOX_SIDE = 8
"""Least length in pixels of the shorter side of a box; smaller figures are not labeled."""
MIN_VISIBLE_SHARE = 0.15
"""Least visible share of a figure's area; figures that are hidden further are not labeled."""
_ASPECT_RATIOS = (1.0, 0.75, 0.75, 0.6)
_COUNT_PROBABILITIES = (0.27, 0.25, 0.2, 0.13, 0.09, 0.06)  # of 1, 2, … figures
_MAX_HEIGHTS = (0.98, 0.9, 0.8, 0.7, 0.65, 0.6)  # body height for 1, 2, … figures, in image heights
_MIN_HEIGHT = 0.17
# parts that show a joint of the same side
_LIMBS_AT_JOINT = {
    "shoulder": ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "hip": ("thigh",),
    "knee": ("thigh", "shin"), "ankle": ("shin", "foot"),
}  # fmt: skip

Floats = npt.NDArray[np.float64]
IdMap = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Scene:
    """A painted image and its figures.

    Attributes:
        image: (H, W, 3) BGR.
        figures: all figures, far to near; the index of a figure is its number.
        id_map: (H, W) id of the part that is visible at each pixel, see `paint.part_id`.
    """

    image: Image
    figures: tuple[Figure, ...]
    id_map: IdMap

    def labeled(self) -> list[int]:
        """Return the numbers of the figures that are large and visible enough to be labeled."""
        height, width = self.id_map.shape
        numbers: list[int] = []
        for number, figure in enumerate(self.figures):
            box = figure_box(figure, width, height)
            is_large = min(box[2] - box[0], box[3] - box[1]) >= MIN_BOX_SIDE
            if is_large and visible_share(figure, number, self.id_map) >= MIN_VISIBLE_SHARE:
                numbers.append(number)
        return numbers


def draw_scene(seed: int, split: str, index: int, size: int) -> tuple[Image, Floats, Floats]:
    """Draw one image; the result depends on the arguments only.

    Args:
        seed: seed of the data set, 0 or more.
        split: `train` or `val`.
        index: index of the image in the split, 0 or more.
        size: longer side, pixels.

    Returns:
        (H, W, 3) BGR; (N, 4) boxes x1, y1, x2, y2, tight around the whole part of a figure that is inside the image,
        including hidden parts; (N, 17, 3) keypoints x, y in pixels and v: 2 visible, 1 hidden, 0 outside the image
        (x = y = 0). Figures that are hardly visible have no row.
    """
    scene = compose_scene(seed, split, index, size)
    height, width = scene.id_map.shape
    numbers = scene.labeled()
    boxes = np.zeros((len(numbers), 4))
    keypoints = np.zeros((len(numbers), 17, 3))
    for row, number in enumerate(numbers):
        figure = scene.figures[number]
        visibility = keypoint_visibility(figure, number, scene.id_map)
        boxes[row] = figure_box(figure, width, height)
        keypoints[row] = np.column_stack((figure.keypoints * (visibility > 0)[:, None], visibility))
    return scene.image, boxes, keypoints


def compose_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Paint one image; arguments as of `draw_scene`."""
    # crc32 and not hash(), which differs from process to process
    rng = np.random.default_rng((seed, zlib.crc32(split.encode()), index))
    short = int(size * rng.choice(_ASPECT_RATIOS))
    shape = (size, short) if rng.random() < 0.4 else (short, size)
    canvas = draw_background(rng, shape)
    id_map = np.zeros(shape, dtype=np.int32)
    figures = _random_figures(rng, shape)
    # occluders are painted after (in front of) some of the figures; half of the images have none
    occluded = set(rng.integers(1, len(figures) + 1, rng.choice((0, 0, 1, 2))).tolist())
    for number, figure in enumerate(figures):
        paint(canvas, id_map, figure, number)
        if number + 1 in occluded:
            mask = occluder_mask(rng, shape)
            canvas[mask] = noisy_color(rng, int(mask.sum()))
            id_map[mask] = OCCLUDER_ID
    return Scene(apply_camera_effects(rng, canvas), tuple(figures), id_map)


def _random_figures(rng: np.random.Generator, shape: tuple[int, int]) -> list[Figure]:
    """Return figures from far (small) to near (large)."""
    height, width = shape
    count = int(rng.choice(MAX_FIGURES, p=_COUNT_PROBABILITIES)) + 1
    figures: list[Figure] = []
    for scale in sorted(rng.uniform(_MIN_HEIGHT, _MAX_HEIGHTS[count - 1], count) * height):
        position = rng.uniform((0.05 * width, 0.3 * height), (0.95 * width, 0.75 * height))
        figures.append(dress(random_body(rng), float(scale), position, rng))
    return figures


def figure_box(figure: Figure, width: int, height: int) -> Array:
    """Return the (4,) box x1, y1, x2, y2 of the part of a figure that is inside the image, hidden or not.

    The box of a figure outside the image is all zeros.
    """
    points = np.concatenate([part.outline for part in figure.parts])
    if points.min() < 0 or (points > (width, height)).any():
        image = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
        cut = [cv2.intersectConvexConvex(part.outline.astype(np.float32), image) for part in figure.parts]
        inside = [np.asarray(outline).reshape(-1, 2) for area, outline in cut if area > 0]
        points = np.concatenate([np.empty((0, 2)), *inside])
        if not len(points):
            return np.zeros(4)
    return np.concatenate((points.min(axis=0), points.max(axis=0))).clip(0, (width, height, width, height))


def visible_share(figure: Figure, number: int, id_map: IdMap) -> float:
    """Return the visible share of a figure's area, 0…1; parts outside the image are not visible.

    Args:
        figure: the figure.
        number: its number in the image.
        id_map: (H, W) visible part of each pixel.
    """
    points = np.concatenate([part.outline for part in figure.parts])
    corner = np.floor(points.min(axis=0)) - 1
    width, height = (np.ceil(points.max(axis=0)) + 1 - corner).astype(int)
    silhouette = np.zeros((height, width), dtype=np.uint8)
    for part in figure.parts:
        cv2.fillConvexPoly(silhouette, to_fixed_point(part.outline - corner), 1, cv2.LINE_8, FRACTION_BITS)
    visible = np.count_nonzero((id_map >= part_id(number, 0)) & (id_map < part_id(number + 1, 0)))
    return visible / max(np.count_nonzero(silhouette), 1)


def keypoint_visibility(figure: Figure, number: int, id_map: IdMap) -> npt.NDArray[np.int64]:
    """Return (17,) visibility: 2 visible, 1 hidden, 0 outside the image.

    A keypoint is visible if its pixel shows a part of the figure that it lies on, on the near side of head or trunk.

    Args:
        figure: the figure.
        number: its number in the image.
        id_map: (H, W) visible part of each pixel.
    """
    height, width = id_map.shape
    visibility = np.zeros(len(COCO_PERSON_NAMES), dtype=np.int64)
    for index, (name, (x, y)) in enumerate(zip(COCO_PERSON_NAMES, figure.keypoints, strict=True)):
        if 0 <= x < width and 0 <= y < height:
            shown_figure, part = decode_part_id(int(id_map[int(y), int(x)]))
            is_visible = shown_figure == number and _part_shows(figure, name, figure.parts[part].name)
            visibility[index] = 2 if is_visible else 1
    return visibility


def _part_shows(figure: Figure, keypoint: str, part: str) -> bool:
    """Return whether a keypoint is visible where `part` of the same figure is in front."""
    joints, body = figure.body.joints, figure.body
    side, _, joint = keypoint.rpartition("_")
    if joint in ("nose", "eye", "ear"):
        depth = float((joints[keypoint] - joints["head"])[2]) / body.head_radius
        return part in (HEAD, FACE) and depth > (-0.25 if joint == "ear" else 0.05)
    if part in [f"{side}_{limb}" for limb in _LIMBS_AT_JOINT[joint]]:
        return True
    # on the trunk a joint is visible from its side, from the front and from behind
    trunk = joints["neck"] if joint == "shoulder" else joints["pelvis"]
    return part == TORSO and joint in ("shoulder", "hip") and float(joints[keypoint][2] - trunk[2]) > -0.045
