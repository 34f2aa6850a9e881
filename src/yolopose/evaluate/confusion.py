"""The confusion matrix of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.log import LOGGER
from yolopose.config import PREDICT_CONF
from yolopose.evaluate.matching import BoolArray, FloatArray, IntArray, greedy_match
from yolopose.evaluate.plots import image_grid, plot_confusion
from yolopose.geometry import box_iou
from yolopose.results.tables import TableMixin
from yolopose.results.writing import save_image
from yolopose.schema import KeypointSchema

MATRIX_IOU = 0.45
BACKGROUND = "background"
NO_MATCH, BELOW_CONF = -1, -2


def match_any_class(iou: FloatArray, above: BoolArray, iou_thres: float = MATRIX_IOU) -> npt.NDArray[np.int64]:
    """Match the detections of an image with ground truth by box IoU in any class.

    Args:
        iou: (N, M) IoU of ground truths with detections, by descending confidence.
        above: (M,) which detections are above the confidence threshold.
        iou_thres: IoU that a match must reach.

    Returns:
        (M,) index of the ground truth, `NO_MATCH` or `BELOW_CONF`.
    """
    matches = np.full(len(above), BELOW_CONF, dtype=np.int64)
    matches[above] = greedy_match(iou[:, above], np.array([iou_thres]))[:, 0]
    return matches


class ConfusionMatrix(TableMixin):
    """Counts of detections (rows) against ground truth (columns), matched by box IoU in any class.

    The last row counts missed ground truths, the last column detections without a match.

    Args:
        names: class names by index.
        save_matches: keep the boxes of the image that `process_batch` saw last, for `plot_matches`.

    Attributes:
        names: class names by index.
        nc: number of classes.
        matrix: (nc+1, nc+1) float64 counts.
        matches: boxes of that image, (N, 6) x1, y1, x2, y2, score, class, by kind: `GT` (all ground truths), `TP`,
            `FP` and `FN`; None before.

    Examples:
        >>> from yolopose.evaluate import ConfusionMatrix
        >>> ConfusionMatrix({0: "cat", 1: "dog"}).matrix.shape  # with background
        (3, 3)
    """

    def __init__(self, names: Mapping[int, str] | None = None, save_matches: bool = False) -> None:
        self.names = dict(names or {})
        self.nc = len(self.names)
        self.matrix = np.zeros((self.nc + 1, self.nc + 1))
        self.matches: dict[str, npt.NDArray[np.float32]] | None = None
        self._save_matches = save_matches

    def add(self, matches: IntArray, det_classes: IntArray, gt_classes: IntArray) -> None:
        """Count matched detections, of one image or of a whole run.

        Args:
            matches: (M,) index among the ground truths, `NO_MATCH` or `BELOW_CONF`.
            det_classes: (M,) class of each detection.
            gt_classes: (N,) class of each ground truth.
        """
        hit = matches >= 0
        missed = np.ones(len(gt_classes), dtype=np.bool_)
        missed[matches[hit]] = False
        fn, fp = gt_classes[missed], det_classes[matches == NO_MATCH]
        rows = np.concatenate((det_classes[hit], np.full(len(fn), self.nc), fp))
        columns = np.concatenate((gt_classes[matches[hit]], fn, np.full(len(fp), self.nc)))
        np.add.at(self.matrix, (rows, columns), 1)

    def process_batch(
        self,
        detections: Mapping[str, Any],
        batch: Mapping[str, Any],
        conf: float = PREDICT_CONF,
        iou_thres: float = MATRIX_IOU,
    ) -> None:
        """Count one image given as arrays or tensors.

        Args:
            detections: `bboxes` (M, 4) x1, y1, x2, y2, `conf` (M,) and `cls` (M,), in any order.
            batch: `bboxes` (N, 4) in the same units and `cls` (N,).
            conf: detections must exceed it.
            iou_thres: IoU that a match must reach.
        """
        scores = _to_numpy(detections["conf"]).reshape(-1)
        order = np.argsort(-scores, kind="stable")
        scores = scores[order]
        boxes = _to_numpy(detections["bboxes"]).reshape(-1, 4)[order]
        classes = _to_numpy(detections["cls"]).reshape(-1).astype(np.int64)[order]
        gt_classes = _to_numpy(batch["cls"]).reshape(-1).astype(np.int64)
        gt_boxes = _to_numpy(batch["bboxes"]).reshape(-1, 4)
        matches = match_any_class(box_iou(gt_boxes, boxes), scores > conf, iou_thres)
        self.add(matches, classes, gt_classes)
        if self._save_matches:
            detected = np.column_stack((boxes, scores, classes)).astype(np.float32)
            labeled = np.column_stack((gt_boxes, np.ones(len(gt_boxes)), gt_classes)).astype(np.float32)
            tp = matches >= 0
            tp[tp] = classes[tp] == gt_classes[matches[tp]]
            fp = (matches != BELOW_CONF) & ~tp
            fn = np.delete(labeled, matches[tp], axis=0)
            self.matches = {"GT": labeled, "TP": detected[tp], "FP": detected[fp], "FN": fn}

    def tp_fp(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return true and false positives of each class, both (nc,)."""
        tp = self.matrix.diagonal()[:-1].copy()
        return tp, self.matrix.sum(axis=1)[:-1] - tp

    def normalized(self) -> npt.NDArray[np.float64]:
        """Return the matrix with each column (ground-truth class) divided by its sum; an empty column stays 0."""
        return self.matrix / np.maximum(self.matrix.sum(axis=0), 1)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict per row: `Predicted` and the value of each ground-truth class and of `background`.

        Args:
            normalize: shares of each ground-truth class instead of counts.
            decimals: digits after the decimal point.
        """
        matrix = self.normalized() if normalize else self.matrix
        header = _unique([*self.names.values(), BACKGROUND])
        return [
            {"Predicted": name, **{key: round(float(value), decimals) for key, value in zip(header, row, strict=True)}}
            for name, row in zip(header, matrix, strict=True)
        ]

    def print(self) -> None:
        """Log the matrix, one line per row."""
        for row in self.matrix:
            LOGGER.info(" ".join(f"{value:g}" for value in row))

    def plot_matches(self, img: Any, im_file: str | Path, save_dir: str | Path) -> Path | None:
        """Draw the boxes of `matches`, one tile per kind.

        Args:
            img: (C, H, W), RGB with 3 channels, uint8 or float 0…1: the image that `process_batch` saw last.
            im_file: its file; the drawing gets its name.
            save_dir: the drawing is written to its subfolder `visualizations`.

        Returns:
            The drawing; None without matches (`save_matches` is not set).

        Raises:
            OutputError: it cannot be written.
        """
        if self.matches is None:
            return None
        image = _to_numpy(img)
        if image.dtype.kind == "f":
            image = np.clip(image * 255 + 0.5, 0, 255)
        images = np.broadcast_to(image.astype(np.uint8), (len(self.matches), *image.shape))
        overlays = [(boxes, np.zeros((len(boxes), 1, 2), dtype=np.float32)) for boxes in self.matches.values()]
        grid = image_grid(images, list(self.matches), overlays, self.names, KeypointSchema(count=1), conf=True)
        path = Path(save_dir) / "visualizations" / f"{Path(im_file).stem}.jpg"
        save_image(grid, path)
        return path

    def plot(
        self,
        normalize: bool = True,
        save_dir: str | Path = "",
        on_plot: Callable[[Path], None] | None = None,
    ) -> None:
        """Draw `confusion_matrix_normalized.png` or `confusion_matrix.png` into a folder.

        Args:
            normalize: shares of each ground-truth class instead of counts.
            save_dir: folder.
            on_plot: called with the path of the image.
        """
        path = Path(save_dir) / f"confusion_matrix{'_normalized' if normalize else ''}.png"
        matrix = self.normalized() if normalize else self.matrix
        if plot_confusion(matrix, [*self.names.values(), BACKGROUND], path, normalize) and on_plot:
            on_plot(path)


def _to_numpy(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def _unique(names: list[str]) -> list[str]:
    """Append the index to names that occur before, or that equal the key of the first column."""
    used = {"Predicted"}
    unique: list[str] = []
    for index, name in enumerate(names):
        unique.append(f"{name} {index}" if name in used else name)
        used.add(unique[-1])
    return unique
