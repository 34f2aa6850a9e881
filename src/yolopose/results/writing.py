"""Files of results: label files, crops, images. Every file is written atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.base.files import make_folder, remove, write_bytes, write_text
from yolopose.base.names import safe_file_name
from yolopose.results.arrays import to_numpy
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.tables import class_name

Image = npt.NDArray[np.uint8]

# A crop includes some context: the box is enlarged by the factor, then by the number of pixels.
CROP_GAIN = 1.02
CROP_PAD = 10


def label_lines(boxes: Boxes, keypoints: Keypoints, save_conf: bool) -> list[str]:
    """Return one line per instance: class, box cx cy w h, keypoints x y (v), [confidence], [track id].

    Coordinates are divided by width and height of the image and have six significant digits.
    """
    xywhn = to_numpy(boxes.xywhn)
    points = _flat_keypoints(keypoints)
    lines: list[str] = []
    for index, row in enumerate(to_numpy(boxes.data)):
        values = [*xywhn[index], *points[index], *((row[-2],) if save_conf else ())]
        track_id = [str(int(row[4]))] if boxes.is_track else []
        lines.append(" ".join([str(int(row[-1])), *(f"{value:g}" for value in values), *track_id]))
    return lines


def _flat_keypoints(keypoints: Keypoints) -> npt.NDArray[np.floating]:
    """Return (N, K·D) x, y (v), with normalized x and y."""
    points = to_numpy(keypoints.data).copy()
    points[..., :2] = to_numpy(keypoints.xyn)
    return points.reshape(len(points), points.shape[1] * points.shape[2])


def write_lines(path: str | Path, lines: list[str], append: bool) -> None:
    """Append lines to a text file, or replace it; without lines a replaced file is removed.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    if not lines:
        if not append and path.is_file():
            remove(path)
        return
    existing = path.read_text(encoding="utf-8") if append and path.is_file() else ""
    write_text(path, existing + "".join(f"{line}\n" for line in lines), sync=False)


def save_crops(image: npt.NDArray, boxes: Boxes, names: Mapping[int, str], folder: str | Path, stem: str) -> list[Path]:
    """Write each box as `folder/CLASS/STEM.jpg`, `STEM-2.jpg`, …; existing files are never overwritten.

    If `image` has another size than the boxes' image, the boxes are scaled to it.

    Returns:
        The files; boxes outside the image are skipped.

    Raises:
        OutputError: a file cannot be written.
    """
    img = to_uint8_bgr(image)
    files: list[Path] = []
    corners = to_numpy(boxes.xyxy) * scale_to_image(img, boxes.orig_shape)
    for box, cls in zip(corners, to_numpy(boxes.cls), strict=True):
        part = crop(img, box)
        if part.size:
            name = safe_file_name(class_name(names, int(cls)), f"class{int(cls)}")
            target = _unused_path(make_folder(Path(folder) / name), stem)
            save_image(part, target)
            files.append(target)
    return files


def scale_to_image(img: npt.NDArray, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return (4,) factors of x1, y1, x2, y2 from an image of (height, width) `shape` to `img`."""
    return np.tile([img.shape[1] / max(shape[1], 1), img.shape[0] / max(shape[0], 1)], 2)


def crop(img: Image, box: npt.NDArray) -> Image:
    """Cut a box with some context out of an image.

    Args:
        img: (H, W, 3).
        box: (4,) x1, y1, x2, y2, pixels.

    Returns:
        A view of the image; of size 0 if the box is outside the image or not finite.
    """
    if not np.isfinite(box).all():
        return img[:0, :0]
    height, width = img.shape[:2]
    limit = np.array([width, height])
    center = (box[:2] + box[2:]) / 2
    half_size = ((box[2:] - box[:2]) * CROP_GAIN + CROP_PAD) / 2
    left, top = np.clip(center - half_size, 0, limit).astype(int)
    right, bottom = np.clip(center + half_size, 0, limit).astype(int)
    return img[top:bottom, left:right]


def _unused_path(folder: Path, stem: str) -> Path:
    number = 1
    target = folder / f"{stem}.jpg"
    while target.exists():
        number += 1
        target = folder / f"{stem}-{number}.jpg"
    return target


def save_image(img: npt.NDArray, path: str | Path) -> None:
    """Write a BGR image in the format of the suffix.

    Raises:
        UsageError: unknown image format.
        OutputError: it cannot be written.
    """
    write_bytes(path, encode_image(img, Path(path).suffix), sync=False)


def encode_image(img: npt.NDArray, suffix: str) -> bytes:
    """Return the content of an image file for a BGR image.

    Raises:
        UsageError: `suffix` is not an image format.
    """
    try:
        success, data = cv2.imencode(suffix.lower(), img)
    except cv2.error:
        success, data = False, None
    if not success or data is None:
        raise UsageError(f"An image cannot be written as {suffix or 'a file without suffix'!r}: use .jpg or .png.")
    return data.tobytes()


def to_uint8_bgr(image: Any) -> Image:
    """Convert an image to contiguous (H, W, 3) uint8 BGR; it shares memory with such an image.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16, bool, or floating point 0…1.

    Raises:
        UsageError: another shape.
    """
    img = to_numpy(image)
    shape = img.shape
    if img.ndim == 2:
        img = img[..., None]
    if img.ndim != 3 or img.shape[2] not in (1, 3, 4):
        raise UsageError(
            f"An image to draw on must be (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; got {shape}."
        )
    img = _to_uint8(img[..., :3])
    if img.shape[2] == 1:
        img = np.repeat(img, 3, axis=2)
    return np.ascontiguousarray(img)


def _to_uint8(img: npt.NDArray[Any]) -> Image:
    if img.dtype == np.uint8:
        return img
    if img.dtype == np.uint16:
        return (img >> 8).astype(np.uint8)
    scale = 255.0 if img.dtype.kind in "fb" else 1.0
    return np.clip(np.nan_to_num(img.astype(np.float32)) * scale + 0.5, 0, 255).astype(np.uint8)
