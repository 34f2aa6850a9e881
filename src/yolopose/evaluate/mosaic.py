"""Images of a batch in one JPEG, once with the truth and once with what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.data.batches import ValBatch
from yolopose.predict.nms import Detections
from yolopose.results.drawing import Style, annotate
from yolopose.results.text import pen_for
from yolopose.results.writing import save_image
from yolopose.schema import KeypointSchema

IMAGES = 16
SIDE = 1920
"""Longer side of a mosaic, pixels."""
_ENLARGED = 4.0  # small inputs are shown so many times their size at most
_POINTS = 9.0  # `Style.kpt_radius`: larger than in an image of its own, for whoever looks whether points lie right
_SHOWN_CONF = 0.25
_GAP = 4
_CAPTION = 18


def save_mosaics(
    folder: Path,
    number: int,
    batch: ValBatch,
    files: Sequence[Path],
    found: Sequence[Detections],
    names: Mapping[int, str],
    schema: KeypointSchema,
) -> list[Path]:
    """Write `val_batchN_labels.jpg` and `val_batchN_pred.jpg`.

    Args:
        folder: where to.
        number: N.
        batch: the images with their truth.
        files: their names.
        found: the detections of each; those with a score above 0.25 are drawn.
        names: class names.
        schema: keypoints.

    Returns:
        The two files.

    Raises:
        OutputError: they cannot be written.
    """
    count = min(len(batch.images), IMAGES)
    truths: list[Drawn] = []
    for index in range(count):
        mine = batch.batch_idx == index
        truths.append(_drawn(batch.boxes[mine], np.ones(int(mine.sum())), batch.classes[mine], batch.keypoints[mine]))
    sure = [item.scores > _SHOWN_CONF for item in found[:count]]
    results = [
        _drawn(item.boxes[keep], item.scores[keep], item.classes[keep], item.points[keep])
        for item, keep in zip(found, sure, strict=False)
    ]
    captions = [file.name for file in files[:count]]
    paths = [folder / f"val_batch{number}_labels.jpg", folder / f"val_batch{number}_pred.jpg"]
    for path, drawn, conf in zip(paths, (truths, results), (False, True), strict=True):
        save_image(mosaic(batch.images[:count], captions, drawn, names, schema, conf), path)
    return paths


Drawn = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""(N, 6) boxes and (N, K, D) points of an image, in its pixels."""


def mosaic(
    images: npt.NDArray[np.uint8],
    captions: Sequence[str],
    drawn: Sequence[Drawn],
    names: Mapping[int, str],
    schema: KeypointSchema,
    conf: bool,
) -> npt.NDArray[np.uint8]:
    """Lay images into a grid, with what is drawn on each.

    Args:
        images: (B, 3, H, W) uint8 RGB.
        captions: a line of text for each.
        drawn: boxes and points for each.
        names: class names.
        schema: keypoints.
        conf: whether labels hold the score.

    Returns:
        (height, width, 3) uint8 BGR, at most `SIDE` pixels on its longer side.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[2:]
    scale = min(_ENLARGED, SIDE / max(rows * height, columns * width))
    resampling = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = max(round(height * scale) - _GAP, 1), max(round(width * scale) - _GAP, 1)
    canvas = np.full((rows * (tile[0] + _GAP) + _GAP, columns * (tile[1] + _GAP) + _GAP, 3), 255, dtype=np.uint8)
    factor = np.array([tile[1] / width, tile[0] / height], dtype=np.float32)
    for index, (image, caption, (boxes, points)) in enumerate(zip(images, captions, drawn, strict=True)):
        img = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        small = np.asarray(cv2.resize(img, tile[::-1], interpolation=resampling), dtype=np.uint8)
        boxes, points = boxes.copy(), points.copy()
        boxes[:, :4] *= np.tile(factor, 2)
        points[..., :2] *= factor
        annotate(small, boxes, points, names, schema, Style(conf=conf, kpt_radius=_POINTS))
        _caption(small, caption)
        top, left = (_GAP + place * (side + _GAP) for place, side in zip(divmod(index, columns), tile, strict=True))
        canvas[top : top + tile[0], left : left + tile[1]] = small
    return canvas


def _drawn(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    classes: npt.NDArray[np.integer],
    points: npt.NDArray[np.floating],
) -> Drawn:
    columns = np.concatenate((boxes, scores[:, None], classes[:, None]), axis=1)
    return columns.astype(np.float32), points.astype(np.float32)


def _caption(img: npt.NDArray[np.uint8], text: str) -> None:
    """The file name in the lower left corner, on a dark band."""
    pen = pen_for([text], min(_CAPTION, max(img.shape[0] // 12, 8)))
    width, height = pen.measure(text)
    top = max(img.shape[0] - height - 4, 0)
    band = img[top:, : width + 8]
    band[:] = band // 4
    pen.write(img, text, 4, top + 2, (255, 255, 255))
