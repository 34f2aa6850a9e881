"""Detections of a validation run as files: COCO predictions and label rows, in pixels of the original images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.files import atomic_path
from yolopose.data.image_ids import image_ids, relative_names
from yolopose.evaluate.coco import CocoAnnotations
from yolopose.geometry import Letterbox
from yolopose.results.coco import CocoResultsWriter, coco_results
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.writing import label_lines, write_lines
from yolopose.runtime.nms import Detections

PREDICTIONS_FILE = "predictions.json"


def to_source(
    detections: Detections, letterbox: Letterbox, point_mask: npt.NDArray[np.bool_] | None = None
) -> Detections:
    """Map detections from network-input pixels to pixels of the original image, clipped to it.

    Args:
        detections: the detections.
        letterbox: placement of the image in the network input.
        point_mask: (nc, K) which keypoints each class has; the others are set to 0. None if all classes have all.
    """
    boxes = letterbox.boxes_to_source(detections.boxes).astype(np.float32, copy=False)
    points = letterbox.points_to_source(detections.points).astype(np.float32, copy=False)
    if point_mask is not None:
        points = points * point_mask[detections.classes][..., None]
    return replace(detections, boxes=boxes, points=points)


class PredictionsFile:
    """The COCO predictions of a run, written image by image.

    Args:
        rows: the open file.
        files: all images of the run; without annotations, they determine the ids (`yolopose.data.image_ids`).
        gt: annotations whose image and category ids are used; images that they do not contain are skipped.
    """

    def __init__(self, rows: CocoResultsWriter, files: Sequence[Path], gt: CocoAnnotations | None = None) -> None:
        self._rows = rows
        self._gt = gt
        self._ids = gt.ids if gt else image_ids(files)
        self._names = relative_names(files)

    def add(self, file: Path, detections: Detections) -> None:
        """Add an image.

        Args:
            file: the image.
            detections: in pixels of the original image.
        """
        if file not in self._ids:
            return
        rows = coco_results(
            self._ids[file],
            self._names[file],
            detections.boxes,
            detections.scores,
            detections.classes,
            detections.points,
        )
        if self._gt:
            for row in rows:
                row["category_id"] = self._gt.categories[row["category_id"] - 1]
        self._rows.add(rows)


@contextmanager
def open_predictions(
    path: Path, files: Sequence[Path], gt: CocoAnnotations | None = None
) -> Generator[PredictionsFile, None, None]:
    """Open `predictions.json`; it appears only if the block ends without an error.

    Args:
        path: the file.
        files: all images of the run.
        gt: annotations whose ids are used.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as text:
        rows = CocoResultsWriter(text)
        yield PredictionsFile(rows, files, gt)
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
