"""Detections of a validation run as files: COCO predictions and label rows, in pixels of the original pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from yolopose.base.files import atomic_path
from yolopose.geometry import Letterbox
from yolopose.predict.nms import Detections
from yolopose.results.boxes import Boxes
from yolopose.results.keypoints import Keypoints
from yolopose.results.writing import append_lines, label_lines


def to_source(found: Detections, letterbox: Letterbox) -> Detections:
    """Maps detections from network-input pixels to pixels of the original picture, clipped to it."""
    boxes = letterbox.boxes_to_source(found.boxes).astype(np.float32, copy=False)
    points = letterbox.points_to_source(found.points).astype(np.float32, copy=False)
    return Detections(boxes, found.scores, found.classes, points)


class PredictionsFile:
    """A COCO results file that is filled picture by picture, so that nothing piles up in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._first = True

    def add(self, file: Path, found: Detections) -> None:
        """Adds a picture.

        Args:
            file: the picture; a name of digits alone is its COCO image id.
            found: detections in pixels of the original picture.
        """
        for row in coco_rows(file, found):
            self._file.write(("[\n" if self._first else ",\n") + json.dumps(row))
            self._first = False

    def close(self) -> None:
        """Ends the list."""
        self._file.write("[]\n" if self._first else "\n]\n")


@contextmanager
def predictions_file(path: Path) -> Generator[PredictionsFile, None, None]:
    """Opens `predictions.json`; it stands there only when the block ends well.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as text:
        writer = PredictionsFile(text)
        yield writer
        writer.close()


def coco_rows(file: Path, found: Detections) -> list[dict[str, Any]]:
    """Returns the detections of a picture as COCO results.

    Each holds `image_id`, `file_name`, `category_id` (1-based), `bbox` (x, y, w, h), `score` and `keypoints`
    (x, y, score for each; the score is the detection's where the network gives none to points).
    """
    sizes = found.boxes[:, 2:] - found.boxes[:, :2]
    boxes = np.concatenate((found.boxes[:, :2], sizes), axis=1)
    points = found.points
    if points.shape[2] == 2:
        scores = np.broadcast_to(found.scores[:, None, None], (*points.shape[:2], 1))
        points = np.concatenate((points, scores), axis=2)
    image_id = int(file.stem) if file.stem.isdecimal() else file.stem
    return [
        {
            "image_id": image_id,
            "file_name": file.name,
            "category_id": int(cls) + 1,
            "bbox": [round(float(value), 3) for value in box],
            "score": round(float(score), 5),
            "keypoints": [round(float(value), 4) for value in point.reshape(-1)],
        }
        for box, score, cls, point in zip(boxes, found.scores, found.classes, points, strict=True)
    ]


class LabelFolder:
    """Detections as label rows, `NAME.txt` for each picture that has any.

    When two pictures in different folders share a name, the second one's file is `NAME_2.txt`.

    Args:
        folder: where to; it is made with the first file.
        save_conf: end each row with the score.
    """

    def __init__(self, folder: Path, save_conf: bool) -> None:
        self._folder = folder
        self._save_conf = save_conf
        self._taken: Counter[str] = Counter()

    def add(self, file: Path, found: Detections, size: tuple[int, int]) -> None:
        """Writes the rows of a picture.

        Args:
            file: the picture.
            found: detections in pixels of the original picture.
            size: its (height, width).

        Raises:
            OutputError: they cannot be written.
        """
        self._taken[file.stem] += 1
        if not len(found):
            return
        number = self._taken[file.stem]
        name = file.stem if number == 1 else f"{file.stem}_{number}"
        lines = label_lines(as_boxes(found, size), Keypoints(found.points, size), self._save_conf)
        append_lines(self._folder / f"{name}.txt", lines, append=False)


def as_boxes(found: Detections, size: tuple[int, int]) -> Boxes:
    """Returns the boxes of detections in the form that results have.

    Args:
        found: the detections.
        size: (height, width) of the picture that their pixels belong to.
    """
    columns = (found.boxes, found.scores[:, None], found.classes[:, None].astype(np.float32))
    return Boxes(np.concatenate(columns, axis=1), size)
