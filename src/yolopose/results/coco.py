"""Detections as COCO results: the JSON list that `pycocotools` and its kin read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Row = dict[str, Any]


class Text(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> object:
        """Add some text."""
        ...


class CocoResultsWriter:
    """A COCO results file that is filled image by image, so that nothing piles up in memory.

    Args:
        file: where the text goes; it is not closed here.
    """

    def __init__(self, file: Text) -> None:
        self._file = file
        self.count = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Add the detections of an image, from `coco_results`."""
        for row in rows:
            self._file.write(("," if self.count else "[") + "\n" + json.dumps(row, ensure_ascii=False))
            self.count += 1

    def close(self) -> None:
        """End the list."""
        self._file.write("\n]\n" if self.count else "[]\n")


def coco_results(
    image_name: str,
    file_name: str,
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    classes: npt.NDArray[Any],
    points: npt.NDArray[np.floating],
) -> list[Row]:
    """Return the detections of an image as COCO results.

    Args:
        image_name: name that tells the image from the others; digits alone are its COCO image id.
        file_name: the image's file.
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        scores: (N,) 0…1.
        classes: (N,) class indices.
        points: (N, K, 2 or 3) x, y in pixels, and confidence.

    Returns:
        Rows of `image_id`, `file_name`, `category_id` (1-based), `bbox` (x, y, w, h), `score` and `keypoints`
        (x, y, score for each; the score is the detection's where the network gives none to points).
    """
    sizes = boxes[:, 2:4] - boxes[:, :2]
    corners = np.concatenate((boxes[:, :2], sizes), axis=1)
    if points.shape[2] == 2:
        shared = np.broadcast_to(scores[:, None, None], (*points.shape[:2], 1))
        points = np.concatenate((points, shared), axis=2)
    image_id = int(image_name) if image_name.isdecimal() else image_name
    return [
        {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": int(cls) + 1,
            "bbox": [round(float(value), 3) for value in box],
            "score": round(float(score), 5),
            "keypoints": [round(float(value), 4) for value in point.reshape(-1)],
        }
        for box, score, cls, point in zip(corners, scores, classes, points, strict=True)
    ]
