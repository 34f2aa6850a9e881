"""Results as files: label text, crops, images. Every file is written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.base.files import make_folder, remove, write_bytes, write_text
from yolopose.results.arrays import host
from yolopose.results.canvas import as_bgr
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.tables import class_name

Image = npt.NDArray[np.uint8]

# a crop shows a little of the surroundings: the box is enlarged by CROP_GAIN, then made CROP_PAD pixels wider, higher
CROP_GAIN, CROP_PAD = 1.02, 10


def label_lines(boxes: Boxes, keypoints: Keypoints | None, save_conf: bool) -> list[str]:
    """Return one line per instance: class, box cx cy w h, points x y (v), all as shares; then confidence, track id.

    Numbers have six significant digits.
    """
    shares, values = host(boxes.xywhn), host(boxes.data)
    points = None if keypoints is None else _point_columns(keypoints)
    lines: list[str] = []
    for index, row in enumerate(values):
        numbers = [*shares[index], *(() if points is None else points[index]), *((row[-2],) if save_conf else ())]
        track = [str(int(row[4]))] if boxes.is_track else []
        lines.append(" ".join([str(int(row[-1])), *(f"{number:g}" for number in numbers), *track]))
    return lines


def _point_columns(keypoints: Keypoints) -> npt.NDArray[np.floating]:
    """(N, K·D) x, y (v) of every point, x and y as shares of the image."""
    points = host(keypoints.data).copy()
    points[..., :2] = host(keypoints.xyn)
    return points.reshape(len(points), points.shape[1] * points.shape[2])


def append_lines(path: str | Path, lines: list[str], append: bool) -> None:
    """Add lines to a text file, or replaces it. No lines make no file; one of an earlier run goes when replaced.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    if not lines:
        if not append and path.is_file():
            remove(path)
        return
    before = path.read_text(encoding="utf-8") if append and path.is_file() else ""
    write_text(path, before + "".join(f"{line}\n" for line in lines), sync=False)


def save_crops(image: npt.NDArray, boxes: Boxes, names: Mapping[int, str], folder: str | Path, stem: str) -> list[Path]:
    """Write each box as `folder/CLASS/STEM.jpg`, `STEM-2.jpg`, …; a taken name is never overwritten.

    Where `image` has another size than the boxes' image, they are cut at the same shares of it.

    Returns:
        The files. A box that holds no pixel of the image is left out.

    Raises:
        OutputError: a file cannot be written.
    """
    img = as_bgr(image)
    written: list[Path] = []
    for corners, index in zip(host(boxes.xyxy) * scale_to(img, boxes.orig_shape), host(boxes.cls), strict=True):
        part = crop(img, corners)
        if part.size:
            name = class_name(names, int(index)).replace("/", "_").replace("\\", "_")
            target = _free_name(make_folder(Path(folder) / name), stem)
            save_image(part, target)
            written.append(target)
    return written


def scale_to(img: npt.NDArray, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the (4,) factors of x1, y1, x2, y2 from an image of (height, width) `shape` to the one at hand."""
    return np.tile([img.shape[1] / max(shape[1], 1), img.shape[0] / max(shape[0], 1)], 2)


def crop(img: Image, corners: npt.NDArray) -> Image:
    """Cut a box with some surroundings out of an image.

    Args:
        img: (H, W, 3).
        corners: (4,) x1, y1, x2, y2, pixels.

    Returns:
        A view of the image; of size 0 when the box lies outside or is not finite.
    """
    if not np.isfinite(corners).all():
        return img[:0, :0]
    height, width = img.shape[:2]
    limit = np.array([width, height])
    center, half = (corners[:2] + corners[2:]) / 2, ((corners[2:] - corners[:2]) * CROP_GAIN + CROP_PAD) / 2
    left, top = np.clip(center - half, 0, limit).astype(int)
    right, bottom = np.clip(center + half, 0, limit).astype(int)
    return img[top:bottom, left:right]


def _free_name(folder: Path, stem: str) -> Path:
    number, target = 1, folder / f"{stem}.jpg"
    while target.exists():
        number += 1
        target = folder / f"{stem}-{number}.jpg"
    return target


def save_image(img: npt.NDArray, path: str | Path) -> None:
    """Write a BGR image in the format that the suffix names.

    Raises:
        UsageError: the suffix names no image format.
        OutputError: it cannot be written.
    """
    write_bytes(path, encoded(img, Path(path).suffix), sync=False)


def encoded(img: npt.NDArray, suffix: str) -> bytes:
    """Return a BGR image as the bytes of an image file.

    Raises:
        UsageError: `suffix` names no image format.
    """
    try:
        fine, data = cv2.imencode(suffix.lower(), img)
    except cv2.error:
        fine, data = False, None
    if not fine or data is None:
        raise UsageError(f"An image cannot be written as {suffix or 'a file without suffix'!r}: name it .jpg or .png.")
    return data.tobytes()
