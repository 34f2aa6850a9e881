"""Drawn images whose dots are labeled exactly, as a label table and as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolopose.config import TrainOptions
from yolopose.data import Annotations, LabelCounts
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.train.feed.augment import Size
from yolopose.train.feed.sampling import BatchSpec

PLAIN = {
    "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0,
    "perspective": 0.0, "flipud": 0.0, "fliplr": 0.0, "bgr": 0.0, "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0,
}  # fmt: skip
GRAY = 60
COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])  # BGR of keypoints 0, 1, 2


def options(**changes: float | bool | str) -> TrainOptions:
    return TrainOptions(**{**PLAIN, **changes})


def spec(count: int = 3, flip: tuple[int, ...] | None = (1, 0, 2), dims: int = 3) -> PoseSpec:
    return PoseSpec(classes=("thing",), keypoints=KeypointSchema(count=count, dims=dims, flip_idx=flip))


def dot(image: np.ndarray, x: float, y: float, radius: float, color: np.ndarray) -> None:
    """A disc whose center is at x, y in continuous coordinates, its edge smoothed by area."""
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    share = np.clip(radius - np.hypot(xs - x, ys - y) + 0.5, 0, 1)[..., None]
    image[:] = np.rint(image * (1 - share) + color * share)


def scene(size: Size, seed: int, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A gray image with one dot for each of three keypoints: image, box (cx cy w h), keypoints (3, 3)."""
    height, width = size
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), GRAY, np.uint8)
    # three columns, so that dots do not touch
    xy = np.stack(((np.arange(3) + rng.uniform(0.35, 0.65, 3)) / 3, rng.uniform(0.25, 0.75, 3)), 1)
    for (x, y), color in zip(xy, COLORS, strict=True):
        dot(image, x * width, y * height, radius, color)
    reach = np.array([radius / width, radius / height])
    low, high = xy.min(0) - reach, xy.max(0) + reach
    box = np.concatenate(((low + high) / 2, high - low))
    return image, box, np.concatenate((xy, np.full((3, 1), 2.0)), 1)


def table(boxes: list[np.ndarray], points: list[np.ndarray], sizes: list[Size], files: list[Path]) -> Annotations:
    """One table; each image has the (n, 4) boxes and (n, K, 3) points given."""
    counts = [len(one) for one in boxes]
    return Annotations(
        files=files,
        shapes=np.array(sizes, np.int32),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        classes=np.zeros(sum(counts), np.int32),
        boxes=np.concatenate(boxes).astype(np.float32),
        keypoints=np.concatenate(points).astype(np.float32),
        issues=(),
        counts=LabelCounts(sum(count > 0 for count in counts), 0, sum(count == 0 for count in counts), 0),
    )


def scenes(sizes: list[Size], radius: float = 5) -> tuple[Annotations, list[np.ndarray]]:
    made = [scene(size, seed, radius) for seed, size in enumerate(sizes)]
    files = [Path(f"{number}.png") for number in range(len(made))]
    return table([one[1][None] for one in made], [one[2][None] for one in made], sizes, files), [one[0] for one in made]


def scene_files(folder: Path, sizes: list[Size]) -> Annotations:
    made, images = scenes(sizes)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    files = [folder / "images" / f"{number}.png" for number in range(len(images))]
    for path, image in zip(files, images, strict=True):
        cv2.imwrite(str(path), image)
    return table([made[i].boxes for i in range(len(made))], [made[i].keypoints for i in range(len(made))],
                 sizes, files)  # fmt: skip


def request(index: int, count: int, shape: Size, mosaic: bool = True, epoch: int = 0) -> BatchSpec:
    return BatchSpec(epoch, np.array([index]), np.arange(count), shape, mosaic)


def find_dot(image: np.ndarray, x: float, y: float, color: np.ndarray, reach: int) -> tuple[float, float]:
    """Centroid of what has the color, near a place: distance of each pixel from gray along that color."""
    top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
    part = image[top : int(y) + reach + 1, left : int(x) + reach + 1].astype(float)
    own = part[..., color.argmax()] - part[..., [c for c in range(3) if c != color.argmax()]].max(-1)
    weight = np.clip(own, 0, None)
    assert weight.sum() > 500, f"no dot of color {color} near {x:.1f}, {y:.1f}"
    ys, xs = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    return (weight * xs).sum() / weight.sum() + left, (weight * ys).sum() / weight.sum() + top
