"""Annotations of results: YOLO label files (`save_txt`) and COCO results (`save_json`)."""

from __future__ import annotations

from pathlib import Path

from yolopose.base.files import AtomicTextFile
from yolopose.data.image_ids import ImageId, ImageIds
from yolopose.predict.sinks.base import Sink, WriteContext, format_count
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.results.coco import CocoResultsWriter, Row, coco_results
from yolopose.results.writing import label_lines, write_lines

COCO_FILE = "predictions.json"


class LabelFiles(Sink):
    """Writes `labels/NAME.txt`, for frames `labels/NAME_12.txt`; no file for an image without detections.

    Args:
        save_conf: whether the confidence ends each line.
    """

    def __init__(self, save_conf: bool) -> None:
        self._save_conf = save_conf
        self._count = 0

    def write(self, context: WriteContext) -> None:
        """Write the labels of one image."""
        lines = label_lines(context.result.boxes, context.result.keypoints, self._save_conf)
        write_lines(context.folder / "labels" / f"{context.name}.txt", lines, append=False)
        self._count += bool(lines)

    def replay(self, context: WriteContext) -> None:
        """Count a file that exists."""
        self._count += bool(len(context.result))

    @property
    def summary(self) -> str:
        """Number of images with labels."""
        return f"labels of {self._count}" if self._count else "no labels (no detections)"


class CocoResults(Sink):
    """Writes `predictions.json`, detection by detection; the file appears when the run ends.

    The image's name is its `image_id`, as a number if it is one and no other image has that number. A frame's is
    `NAME_12`, and `frame` its number.
    """

    def __init__(self) -> None:
        self._file: AtomicTextFile | None = None
        self._writer: CocoResultsWriter | None = None
        self._ids = ImageIds()

    def write(self, context: WriteContext) -> None:
        """Add the detections of one image."""
        if self._writer is None:
            self._file = AtomicTextFile(context.folder / COCO_FILE)
            self._writer = CocoResultsWriter(self._file)
        self._writer.add(_coco_rows(context.result, self._ids.add(context.name)))

    def close(self) -> None:
        """End the list and rename the file."""
        if self._file and self._writer and not self._file.closed:
            self._writer.close()
            self._file.close()

    @property
    def summary(self) -> str:
        """File and number of detections."""
        if self._file is None or self._writer is None or self._file.failed:
            return ""
        return f"{COCO_FILE} ({format_count(self._writer.count, 'detection') or 'no detections'})"


def _coco_rows(result: Results, image_id: ImageId) -> list[Row]:
    values = to_numpy(result.boxes.data)
    points = to_numpy(result.keypoints.data)
    rows = coco_results(image_id, Path(result.path).name, values[:, :4], values[:, -2], values[:, -1], points)
    if result.frame is not None:
        rows = [{**row, "frame": result.frame.number} for row in rows]
    return rows
