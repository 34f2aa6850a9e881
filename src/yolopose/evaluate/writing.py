"""Detections of a validation run as files: COCO predictions and label rows, in pixels of the original images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from yolopose.base.files import atomic_path
from yolopose.evaluate.coco_truth import CocoTruth
from yolopose.geometry import Letterbox
from yolopose.results.coco import CocoResultsWriter, coco_results
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.writing import append_lines, label_lines
from yolopose.runtime.nms import Detections


def to_source(found: Detections, letterbox: Letterbox) -> Detections:
    """Map detections from network-input pixels to pixels of the original image, clipped to it."""
    boxes = letterbox.boxes_to_source(found.boxes).astype(np.float32, copy=False)
    points = letterbox.points_to_source(found.points).astype(np.float32, copy=False)
    return Detections(boxes, found.scores, found.classes, points)


class PredictionsFile:
    """The COCO results of a validation run, written image by image.

    Args:
        file: where the text goes.
        truth: annotations whose ids of images and categories are used; images that they do not know are left out.
    """

    def __init__(self, file: TextIO, truth: CocoTruth | None = None) -> None:
        self._rows = CocoResultsWriter(file)
        self._truth = truth

    def add(self, file: Path, found: Detections) -> None:
        """Add an image.

        Args:
            file: the image; without annotations, a name of digits alone is its COCO image id.
            found: detections in pixels of the original image.
        """
        truth = self._truth
        if truth and file not in truth.ids:
            return
        rows = coco_results(file.stem, file.name, found.boxes, found.scores, found.classes, found.points)
        if truth:
            for row in rows:
                row.update(image_id=truth.ids[file], category_id=truth.categories[row["category_id"] - 1])
        self._rows.add(rows)

    def close(self) -> None:
        """End the list."""
        self._rows.close()


@contextmanager
def predictions_file(path: Path, truth: CocoTruth | None = None) -> Generator[PredictionsFile, None, None]:
    """Open `predictions.json`; it stands there only when the block ends well.

    Args:
        path: the file.
        truth: annotations whose ids are used.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as text:
        writer = PredictionsFile(text, truth)
        yield writer
        writer.close()


class LabelFolder:
    """Detections as label rows, `NAME.txt` for each image that has any.

    When two images in different folders share a name, the second one's file is `NAME_2.txt`.

    Args:
        folder: where to; it is made with the first file.
        save_conf: end each row with the score.
    """

    def __init__(self, folder: Path, save_conf: bool) -> None:
        self._folder = folder
        self._save_conf = save_conf
        self._taken: Counter[str] = Counter()

    def add(self, file: Path, found: Detections, size: tuple[int, int]) -> None:
        """Write the rows of an image.

        Args:
            file: the image.
            found: detections in pixels of the original image.
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
    """Return the boxes of detections in the form that results have.

    Args:
        found: the detections.
        size: (height, width) of the image that their pixels belong to.
    """
    columns = (found.boxes, found.scores[:, None], found.classes[:, None].astype(np.float32))
    return Boxes(np.concatenate(columns, axis=1), size)
