"""Synthetic images whose dots are labeled exactly, as annotations in memory and as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from yolopose.config import TrainOptions
from yolopose.data import Annotations, ImageLabels, LabelCounts
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.train.feed.augment import Size
from yolopose.train.feed.sampling import BatchSpec

NO_AUGMENTATION = {
    "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0,
    "perspective": 0.0, "flipud": 0.0, "fliplr": 0.0, "bgr": 0.0, "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0,
}  # fmt: skip
GRAY = 60
COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]])  # BGR of keypoints 0, 1, 2


def train_options(**changes: float | bool | str) -> TrainOptions:
    return TrainOptions(**{**NO_AUGMENTATION, **changes})


def pose_spec(count: int = 3, flip_idx: tuple[int, ...] | None = (1, 0, 2), dims: int = 3) -> PoseSpec:
    return PoseSpec(classes=("thing",), keypoints=KeypointSchema(count=count, dims=dims, flip_idx=flip_idx))


def draw_dot(image: np.ndarray, x: float, y: float, radius: float, color: np.ndarray) -> None:
    """Draw a disc with its center at x, y in continuous coordinates, its edge antialiased by area."""
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    coverage = np.clip(radius - np.hypot(xs - x, ys - y) + 0.5, 0, 1)[..., None]
    image[:] = np.rint(image * (1 - coverage) + color * coverage)


def draw_scene(size: Size, seed: int, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a gray image with one dot for each of three keypoints, its box (cx cy w h) and keypoints (3, 3)."""
    height, width = size
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), GRAY, np.uint8)
    # three columns, so that dots do not touch
    xy = np.stack(((np.arange(3) + rng.uniform(0.35, 0.65, 3)) / 3, rng.uniform(0.25, 0.75, 3)), 1)
    for (x, y), color in zip(xy, COLORS, strict=True):
        draw_dot(image, x * width, y * height, radius, color)
    margin = np.array([radius / width, radius / height])
    low, high = xy.min(0) - margin, xy.max(0) + margin
    box = np.concatenate(((low + high) / 2, high - low))
    return image, box, np.concatenate((xy, np.full((3, 1), 2.0)), 1)


def annotations(
    boxes: list[np.ndarray], keypoints: list[np.ndarray], sizes: list[Size], files: list[Path]
) -> Annotations:
    """Return annotations of images with (n, 4) boxes and (n, K, 3) keypoints each."""
    counts = [len(rows) for rows in boxes]
    return Annotations(
        files=files,
        shapes=np.array(sizes, np.int32),
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        classes=np.zeros(sum(counts), np.int32),
        boxes=np.concatenate(boxes).astype(np.float32),
        keypoints=np.concatenate(keypoints).astype(np.float32),
        issues=(),
        counts=LabelCounts(sum(count > 0 for count in counts), 0, sum(count == 0 for count in counts), 0),
    )


def make_scenes(sizes: list[Size], radius: float = 5) -> tuple[Annotations, list[np.ndarray]]:
    scenes = [draw_scene(size, seed, radius) for seed, size in enumerate(sizes)]
    files = [Path(f"{number}.png") for number in range(len(scenes))]
    table = annotations([box[None] for _, box, _ in scenes], [points[None] for _, _, points in scenes], sizes, files)
    return table, [image for image, _, _ in scenes]


def write_scenes(folder: Path, sizes: list[Size], *, suffix: str = ".png") -> Annotations:
    table, images = make_scenes(sizes)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    files = [folder / "images" / f"{number}{suffix}" for number in range(len(images))]
    for path, image in zip(files, images, strict=True):
        cv2.imwrite(str(path), image)
    labels = [table[index] for index in range(len(table))]
    return annotations([one.boxes for one in labels], [one.keypoints for one in labels], sizes, files)


def batch_spec(index: int, count: int, shape: Size, multi_image: bool = True, epoch: int = 0) -> BatchSpec:
    """Return the spec of a batch of one image, with a pool of the first `count` images."""
    return BatchSpec(epoch, np.array([index]), np.arange(count), shape, multi_image)


def find_dot(image: np.ndarray, x: float, y: float, color: np.ndarray, reach: int) -> tuple[float, float]:
    """Return the centroid of a color near a position; pixels weigh by their distance from gray along the color."""
    top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
    part = image[top : int(y) + reach + 1, left : int(x) + reach + 1].astype(float)
    own = part[..., color.argmax()] - part[..., [c for c in range(3) if c != color.argmax()]].max(-1)
    weight = np.clip(own, 0, None)
    assert weight.sum() > 500, f"no dot of color {color} near {x:.1f}, {y:.1f}"
    ys, xs = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    return (weight * xs).sum() / weight.sum() + left, (weight * ys).sum() / weight.sum() + top


def check_dots(image: np.ndarray, labels: ImageLabels, *, order: tuple[int, ...] = (0, 1, 2), reach: int = 14) -> int:
    """Check that each labeled keypoint away from the border has its dot within half a pixel; return their number.

    Args:
        image: the rendered sample.
        labels: its instances.
        order: the dot of each keypoint; another one in mirrored samples.
        reach: pixels around a keypoint that are searched.
    """
    count = 0
    height, width = image.shape[:2]
    for keypoints in labels.keypoints:
        for number, (x, y, v) in enumerate(keypoints):
            if v == 0 or not (reach < x < width - reach and reach < y < height - reach):
                continue
            found_x, found_y = find_dot(image, x, y, COLORS[order[number]], reach)
            distance = np.hypot(found_x - x, found_y - y)
            assert distance < 0.5, f"keypoint {number} at {x:.2f}, {y:.2f} is {distance:.2f} px off"
            count += 1
    return count
