"""COCO results: the JSON list of detections that pycocotools reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Row = dict[str, Any]


class TextStream(Protocol):
    """Anything that text can be written to."""

    def write(self, text: str, /) -> object:
        """Append text."""
        ...


class CocoResultsWriter:
    """Writes COCO results image by image, in constant memory.

    Args:
        file: destination of the text; it is not closed.

    Attributes:
        count: number of detections.
    """

    def __init__(self, file: TextStream) -> None:
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
    image_id: int | str,
    file_name: str,
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    classes: npt.NDArray[Any],
    points: npt.NDArray[np.floating],
) -> list[Row]:
    """Convert the detections of an image to COCO results.

    Args:
        image_id: unique id of the image, see `yolopose.data.image_ids`.
        file_name: file of the image.
        boxes: (N, 4) x1, y1, x2, y2, pixels.
        scores: (N,) 0…1.
        classes: (N,) class indices.
        points: (N, K, 2 or 3) x, y in pixels, and confidence.

    Returns:
        Rows of `image_id`, `file_name`, `category_id` (1-based), `bbox` (x, y, w, h), `score` and `keypoints`
        (x, y, score of each; with D = 2 the score of the detection).
    """
    sizes = boxes[:, 2:4] - boxes[:, :2]
    xywh = np.concatenate((boxes[:, :2], sizes), axis=1)
    if points.shape[2] == 2:
        shared = np.broadcast_to(scores[:, None, None], (*points.shape[:2], 1))
        points = np.concatenate((points, shared), axis=2)
    return [
        {
            "image_id": image_id,
            "file_name": file_name,
            "category_id": int(cls) + 1,
            "bbox": [round(float(value), 3) for value in box],
            "score": round(float(score), 5),
            "keypoints": [round(float(value), 4) for value in keypoints.reshape(-1)],
        }
        for box, score, cls, keypoints in zip(xywh, scores, classes, points, strict=True)
    ]
