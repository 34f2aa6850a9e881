"""Contact sheets: many images of a split with their labels in one image, to look through a data set quickly."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import NotFoundError, OutputError, SourceError, UsageError
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.base.prefetch import map_ordered
from yolopose.base.progress import progress
from yolopose.config import limit_workers
from yolopose.data.dataset import load_dataset
from yolopose.data.images import read_image
from yolopose.data.label_file import FileLabels, LabelError, read_label_file
from yolopose.data.paths import label_path
from yolopose.data.subset_files import dataset_name
from yolopose.geometry import cxcywh_to_xyxy
from yolopose.results.drawing import annotate
from yolopose.results.palette import DARK, WHITE, Color
from yolopose.results.style import Style
from yolopose.results.text import get_text_writer
from yolopose.results.writing import save_image
from yolopose.schema import PoseSpec

Image = npt.NDArray[np.uint8]

_GAP = 6  # pixels between tiles
_CAPTION = 20  # height of the caption below a tile, pixels
_BACKGROUND = 245
_FAULT: Color = (60, 60, 220)
_EMPTY: Color = (130, 130, 130)
_STYLE = Style(conf=False, kpt_radius=9)
_MAX_SIDE = 65_000  # pixels; image files and viewers have limits near that


@dataclass(frozen=True, slots=True)
class _Tile:
    """A drawn image.

    Attributes:
        image: (H, W, 3) uint8 BGR, at most the size of a tile.
        caption: text below it.
        color: color of the caption.
    """

    image: Image
    caption: str
    color: Color = DARK


def show_split(
    data: str | Path,
    split: str = "train",
    output: str | Path | None = None,
    *,
    images: int = 24,
    columns: int = 6,
    tile: int = 320,
    seed: int | None = None,
) -> Path:
    """Write a contact sheet of a split: images with boxes, keypoints and skeletons of their labels.

    Hidden keypoints (v = 1) are rings. The caption is the file name and the number of instances, or why the label file
    is faulty.

    Args:
        data: data YAML.
        split: `train`, `val` or `test`.
        output: image file; `NAME-SPLIT.png` in the current folder by default, with a number if that exists.
        images: number of images.
        columns: images per row.
        tile: side of a tile, pixels.
        seed: choose the images randomly with this seed; None spreads them evenly over the split.

    Returns:
        The file.

    Raises:
        UsageError: the split does not exist, or the sheet would be too large for an image file.
        DataError: the data set cannot be used.
        OutputError: `output` exists or cannot be written.
    """
    dataset = load_dataset(data)
    files = list(dict.fromkeys(dataset.image_files(split)))
    target = _unused_file(f"{dataset_name(dataset.yaml_path)}-{split}") if output is None else expand_user(output)
    if os.path.lexists(target):
        raise OutputError(f"{target} already exists and was left unchanged. Choose another file (output=…).")
    shown = [files[index] for index in _choose(len(files), images, seed)]
    sheet = draw_contact_sheet(shown, dataset.spec, columns=columns, tile=tile)
    save_image(sheet, target)
    LOGGER.info(f"Wrote {target}: {len(shown)} of {len(files)} images of {split}.")
    return target


def draw_contact_sheet(files: Sequence[Path], spec: PoseSpec, *, columns: int = 6, tile: int = 320) -> Image:
    """Draw images with their labels in a grid.

    Args:
        files: the images; their labels are in the files that `label_path` names.
        spec: classes and keypoints.
        columns: images per row; fewer if there are not so many.
        tile: side of a tile, pixels.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        UsageError: the sheet would be too large for an image file, or a number is below 1.
    """
    if not files or columns < 1 or tile < 1:
        raise UsageError(f"A contact sheet needs images, columns and tile from 1; got {len(files)}, {columns}, {tile}.")
    columns = min(columns, len(files))
    width = columns * (tile + _GAP) + _GAP
    height = -(-len(files) // columns) * (tile + _GAP + _CAPTION) + _GAP
    if max(height, width) > _MAX_SIDE:
        raise UsageError(
            f"The contact sheet would have {width} × {height} pixels, more than an image file can have "
            f"({_MAX_SIDE}). Show fewer images (images=…), or make them smaller (tile=…)."
        )
    threads = limit_workers(None)
    tiles = map_ordered(lambda file: _draw_tile(file, spec, tile), files, threads=threads, ahead=2 * threads)
    drawn = list(progress(tiles, "Drawing", len(files)))
    rows = [_join_row(drawn[start : start + columns], tile, width) for start in range(0, len(drawn), columns)]
    return np.concatenate([*rows, np.full((_GAP, width, 3), _BACKGROUND, np.uint8)])


def _unused_file(stem: str) -> Path:
    number = 1
    while os.path.lexists(path := Path(f"{stem}.png" if number == 1 else f"{stem}-{number}.png")):
        number += 1
    return path


def _choose(count: int, wanted: int, seed: int | None) -> list[int]:
    """Return sorted indices of the images to show."""
    number = min(wanted, count)
    if seed is not None:
        return sorted(np.random.default_rng(seed).choice(count, number, replace=False).tolist())
    return np.linspace(0, count - 1, number).round().astype(int).tolist()


def _draw_tile(file: Path, spec: PoseSpec, size: int) -> _Tile:
    try:
        original = read_image(file)
    except (SourceError, NotFoundError):
        return _Tile(np.full((size, size, 3), 200, np.uint8), f"{file.name}: unreadable", _FAULT)
    height, width = original.shape[:2]
    scale = size / max(height, width)
    shape = max(round(width * scale), 1), max(round(height * scale), 1)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image: Image = np.ascontiguousarray(cv2.resize(original, shape, interpolation=interpolation)).astype(np.uint8)
    try:
        labels = read_label_file(label_path(file), spec)
    except LabelError as error:
        return _Tile(image, f"{file.name}: {error.reason}", _FAULT)
    if labels is None or not len(labels.classes):
        return _Tile(image, f"{file.name}: {'no label file' if labels is None else 'no instances'}", _EMPTY)
    _draw_labels(image, labels, spec)
    return _Tile(image, f"{file.name}: {len(labels.classes)}")


def _draw_labels(image: Image, labels: FileLabels, spec: PoseSpec) -> None:
    height, width = image.shape[:2]
    corners = cxcywh_to_xyxy(labels.boxes).astype(np.float64) * [width, height, width, height]
    boxes = np.column_stack((corners, np.ones(len(corners)), labels.classes.astype(np.float64)))
    points = labels.keypoints.astype(np.float64)
    points[..., :2] *= [width, height]
    hidden = points[..., 2] == 1 if spec.keypoints.dims == 3 else np.zeros(points.shape[:2], bool)
    points[..., 2] = points[..., 2] > 0
    several = len(spec.classes) > 1
    style = _STYLE if several else Style(conf=False, labels=False, kpt_radius=_STYLE.kpt_radius)
    annotate(image, boxes, points, spec.names, spec.keypoints, style)
    for x, y in points[hidden][:, :2]:
        center = round(float(x)), round(float(y))
        cv2.circle(image, center, 2, DARK, -1, cv2.LINE_AA)
        cv2.circle(image, center, 4, WHITE, 1, cv2.LINE_AA)


def _join_row(tiles: Sequence[_Tile], size: int, width: int) -> Image:
    """Return a row of the sheet, as high as its highest image, with captions below."""
    height = max(tile.image.shape[0] for tile in tiles)
    row = np.full((_GAP + height + _CAPTION, width, 3), _BACKGROUND, np.uint8)
    for column, tile in enumerate(tiles):
        left = _GAP + column * (size + _GAP)
        y = _GAP + (height - tile.image.shape[0]) // 2
        x = left + (size - tile.image.shape[1]) // 2
        row[y : y + tile.image.shape[0], x : x + tile.image.shape[1]] = tile.image
        _write_caption(row, tile, _GAP + height + 3, left, size)
    return row


def _write_caption(row: Image, tile: _Tile, top: int, left: int, size: int) -> None:
    text = tile.caption
    writer = get_text_writer([text], 14)
    while len(text) > 4 and writer.measure(text)[0] > size:
        text = text.removesuffix("...")[: -max(2, len(text) // 12)] + "..."
        writer = get_text_writer([text], 14)
    writer.write(row, text, left, top, tile.color)
