"""Detections of a validation run as files: COCO predictions and label rows, in pixels of the original images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from yolopose.base.files import atomic_path
from yolopose.evaluate.coco import CocoAnnotations
from yolopose.geometry import Letterbox
from yolopose.results.coco import CocoResultsWriter, coco_results
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.writing import label_lines, write_lines
from yolopose.runtime.nms import Detections

PREDICTIONS_FILE = "predictions.json"


def to_source(detections: Detections, letterbox: Letterbox) -> Detections:
    """Map detections from network-input pixels to pixels of the original image, clipped to it."""
    boxes = letterbox.boxes_to_source(detections.boxes).astype(np.float32, copy=False)
    points = letterbox.points_to_source(detections.points).astype(np.float32, copy=False)
    return Detections(boxes, detections.scores, detections.classes, points)


class PredictionsFile:
    """The COCO predictions of a run, written image by image.

    Args:
        rows: the open file.
        gt: annotations whose image and category ids are used; images that they do not contain are skipped.
    """

    def __init__(self, rows: CocoResultsWriter, gt: CocoAnnotations | None = None) -> None:
        self._rows = rows
        self._gt = gt

    def add(self, file: Path, detections: Detections) -> None:
        """Add an image.

        Args:
            file: the image; without annotations, a file stem of digits is its COCO image id.
            detections: in pixels of the original image.
        """
        gt = self._gt
        if gt and file not in gt.ids:
            return
        rows = coco_results(
            file.stem, file.name, detections.boxes, detections.scores, detections.classes, detections.points
        )
        if gt:
            for row in rows:
                row.update(image_id=gt.ids[file], category_id=gt.categories[row["category_id"] - 1])
        self._rows.add(rows)


@contextmanager
def open_predictions(path: Path, gt: CocoAnnotations | None = None) -> Generator[PredictionsFile, None, None]:
    """Open `predictions.json`; it appears only if the block ends without an error.

    Args:
        path: the file.
        gt: annotations whose ids are used.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as text:
        rows = CocoResultsWriter(text)
        yield PredictionsFile(rows, gt)
        rows.close()


class LabelFolder:
    """Label rows of detections, `NAME.txt` for each image with detections.

    If images in different folders share a name, the file of the second one is `NAME_2.txt`.

    Args:
        folder: created with the first file.
        save_conf: append the score to each row.
    """

    def __init__(self, folder: Path, save_conf: bool) -> None:
        self._folder = folder
        self._save_conf = save_conf
        self._stems: Counter[str] = Counter()

    def add(self, file: Path, detections: Detections, size: tuple[int, int]) -> None:
        """Write the rows of an image.

        Args:
            file: the image.
            detections: in pixels of the original image.
            size: its (height, width).

        Raises:
            OutputError: they cannot be written.
        """
        self._stems[file.stem] += 1
        if not len(detections):
            return
        number = self._stems[file.stem]
        name = file.stem if number == 1 else f"{file.stem}_{number}"
        classes = detections.classes[:, None].astype(np.float32)
        boxes = Boxes(np.concatenate((detections.boxes, detections.scores[:, None], classes), axis=1), size)
        lines = label_lines(boxes, Keypoints(detections.points, size), self._save_conf)
        write_lines(self._folder / f"{name}.txt", lines, append=False)
