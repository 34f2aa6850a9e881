"""The confusion matrix: which class is taken for which, and what is missed or invented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.log import LOGGER
from yolopose.evaluate.export import TableMixin
from yolopose.evaluate.matching import FloatArray, IntArray, greedy_match
from yolopose.evaluate.plots import image_grid, plot_confusion
from yolopose.geometry import box_iou
from yolopose.results.writing import save_image
from yolopose.schema import KeypointSchema

CONFIDENCE = 0.25
IOU = 0.45
BACKGROUND = "background"


class ConfusionMatrix(TableMixin):
    """Counts of detections (rows) against truths (columns), matched by box IoU whatever their classes.

    The last row counts truths that nothing found, the last column detections that hit nothing.

    Args:
        names: class names by index.
        save_matches: keep the boxes of the image that `process_batch` saw last, for `plot_matches`.

    Attributes:
        names: class names by index.
        nc: number of classes.
        matrix: (nc+1, nc+1) float64 counts.
        matches: boxes of that image, (N, 6) x1, y1, x2, y2, score, class, under `GT` (all truths), `TP` and `FP`
            (detections) and `FN` (truths that were missed); None before.
    """

    def __init__(self, names: Mapping[int, str] | None = None, save_matches: bool = False) -> None:
        self.names = dict(names or {})
        self.nc = len(self.names)
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))
        self.matches: dict[str, npt.NDArray[np.float32]] | None = None
        self._save_matches = save_matches

    def add(
        self,
        similarity: FloatArray,
        truth_classes: IntArray,
        detection_classes: IntArray,
        confidence: FloatArray,
        conf: float = CONFIDENCE,
        iou_thres: float = IOU,
    ) -> npt.NDArray[np.int64]:
        """Count one image.

        Args:
            similarity: (N, M) IoU of N truths with M detections.
            truth_classes: (N,) class of each truth.
            detection_classes: (M,) class of each detection.
            confidence: (M,) 0…1, falling.
            conf: detections must exceed it.
            iou_thres: a detection takes the best free truth whose IoU reaches it.

        Returns:
            (M,) index of the truth that each detection took, -1 for none, -2 for a detection not above `conf`.
        """
        above = confidence > conf
        taken = np.full(len(confidence), -2, dtype=np.int64)
        taken[above] = greedy_match(similarity[:, above], np.array([iou_thres]))[:, 0]
        hit = taken >= 0
        missed = np.ones(len(truth_classes), dtype=np.bool_)
        missed[taken[hit]] = False
        lost, invented = truth_classes[missed], detection_classes[taken == -1]
        rows = np.concatenate((detection_classes[hit], np.full(len(lost), self.nc), invented))
        columns = np.concatenate((truth_classes[taken[hit]], lost, np.full(len(invented), self.nc)))
        np.add.at(self.matrix, (rows, columns), 1)
        return taken

    def process_batch(
        self,
        detections: Mapping[str, Any],
        batch: Mapping[str, Any],
        conf: float = CONFIDENCE,
        iou_thres: float = IOU,
    ) -> None:
        """Count one image given as arrays or tensors.

        Args:
            detections: `bboxes` (M, 4) x1, y1, x2, y2, `conf` (M,) and `cls` (M,), in any order.
            batch: `bboxes` (N, 4) in the same units and `cls` (N,).
            conf: detections must exceed it.
            iou_thres: IoU that a match must reach.
        """
        confidence = _host(detections["conf"]).reshape(-1)
        order = np.argsort(-confidence, kind="stable")
        boxes = _host(detections["bboxes"]).reshape(-1, 4)[order]
        classes = _host(detections["cls"]).reshape(-1).astype(np.int64)[order]
        truth_classes = _host(batch["cls"]).reshape(-1).astype(np.int64)
        truths = _host(batch["bboxes"]).reshape(-1, 4)
        taken = self.add(box_iou(truths, boxes), truth_classes, classes, confidence[order], conf, iou_thres)
        if self._save_matches:
            found = np.column_stack((boxes, confidence[order], classes)).astype(np.float32)
            there = np.column_stack((truths, np.ones(len(truths)), truth_classes)).astype(np.float32)
            right = taken >= 0
            right[right] = classes[right] == truth_classes[taken[right]]
            wrong = (taken != -2) & ~right
            missed = np.delete(there, taken[right], axis=0)
            self.matches = {"GT": there, "TP": found[right], "FP": found[wrong], "FN": missed}

    def tp_fp(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return true and false positives of each class, both (nc,)."""
        true = self.matrix.diagonal()[:-1].copy()
        return true, self.matrix.sum(axis=1)[:-1] - true

    def normalized(self) -> npt.NDArray[np.float64]:
        """Return the matrix with each column (truth) divided by its sum; an empty column stays 0."""
        return self.matrix / np.maximum(self.matrix.sum(axis=0), 1)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict per row: `Predicted` and the value of each true class and of `background`.

        Args:
            normalize: shares of each true class instead of counts.
            decimals: digits after the point.
        """
        matrix = self.normalized() if normalize else self.matrix
        heads = _distinct([*self.names.values(), BACKGROUND])
        return [
            {"Predicted": head, **{name: round(float(value), decimals) for name, value in zip(heads, row, strict=True)}}
            for head, row in zip(heads, matrix, strict=True)
        ]

    def print(self) -> None:
        """Write the matrix to the log, a row a line."""
        for row in self.matrix:
            LOGGER.info(" ".join(f"{value:g}" for value in row))

    def plot_matches(self, img: Any, im_file: str | Path, save_dir: str | Path) -> Path | None:
        """Draw the boxes that `matches` holds, one tile for each of its kinds.

        Args:
            img: (3, H, W) RGB, uint8 or float 0…1: the image that `process_batch` saw last.
            im_file: its file; the drawing gets the name.
            save_dir: the drawing goes to its subfolder `visualizations`.

        Returns:
            The drawing, None when there are no matches (`save_matches` was not asked for).

        Raises:
            OutputError: it cannot be written.
        """
        if self.matches is None:
            return None
        image = _host(img)
        if image.dtype.kind == "f":
            image = np.clip(image * 255 + 0.5, 0, 255)
        images = np.broadcast_to(image.astype(np.uint8), (len(self.matches), *image.shape))
        drawn = [(boxes, np.zeros((len(boxes), 1, 2), dtype=np.float32)) for boxes in self.matches.values()]
        path = Path(save_dir) / "visualizations" / f"{Path(im_file).stem}.jpg"
        save_image(image_grid(images, list(self.matches), drawn, self.names, KeypointSchema(count=1), conf=True), path)
        return path

    def plot(
        self,
        normalize: bool = True,
        save_dir: str | Path = "",
        on_plot: Callable[[Path], None] | None = None,
    ) -> None:
        """Draw `confusion_matrix_normalized.png` or `confusion_matrix.png` into a folder.

        Args:
            normalize: shares of each true class instead of counts.
            save_dir: folder.
            on_plot: called with the path of the image.
        """
        path = Path(save_dir) / f"confusion_matrix{'_normalized' if normalize else ''}.png"
        matrix = self.normalized() if normalize else self.matrix
        if plot_confusion(matrix, [*self.names.values(), BACKGROUND], path, normalize) and on_plot:
            on_plot(path)


def _host(array: Any) -> npt.NDArray[Any]:
    """The array itself, or what a tensor of any device holds."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def _distinct(names: list[str]) -> list[str]:
    """Name as dict keys: one that came before (or is the first column's) gets its index added."""
    seen = {"Predicted"}
    result: list[str] = []
    for index, name in enumerate(names):
        result.append(f"{name} {index}" if name in seen else name)
        seen.add(result[-1])
    return result
