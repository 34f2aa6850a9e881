"""Build the record of a validation run, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose._version import __version__
from yolopose.config import PREDICT_CONF, ValSettings
from yolopose.data.dataset import Dataset
from yolopose.data.labels import Annotations, ImageLabels
from yolopose.evaluate.confusion import match_any_class
from yolopose.evaluate.matching import (
    ERROR_KINDS,
    THRESHOLDS,
    ClassifiedKeypoints,
    ImageMatches,
    classify_errors,
    greedy_match,
    mask_other_classes,
    match_image,
)
from yolopose.evaluate.record import RunRecord, column_types, quantize
from yolopose.evaluate.visibility import HIDDEN_FLAG, VISIBLE_FLAG
from yolopose.geometry import Letterbox, box_iou
from yolopose.runtime import Runtime
from yolopose.runtime.nms import Detections
from yolopose.schema import PoseSpec

VISIBLE_CONF = 0.5
"""Keypoint confidence from which a keypoint counts as predicted visible."""
STORED_CONF = 0.1
"""Score from which the coordinates of a detection are stored; at least as many as there are ground truths are."""
_MAX_EXTRA_STORED = 10  # coordinates of at most 2·N + 10 detections are stored, which bounds the size of the record
_THRESHOLD_BITS = 1 << np.arange(len(THRESHOLDS))
_TORSO = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
_REPORTED_OPTIONS = ("imgsz", "batch", "conf", "iou", "max_det", "rect", "half", "augment", "single_cls", "classes")
_MAX_REFUSED_NAMES = 5

Columns = dict[str, npt.NDArray[Any]]


class RecordBuilder:
    """Append images to growing columns, then turn the columns into a `RunRecord` without a copy.

    Args:
        spec: classes and keypoints of the data set.
        matrix_conf: score threshold of the confusion matrix.

    Attributes:
        num_detections: detections so far.
        num_gt: ground truths so far.
    """

    def __init__(self, spec: PoseSpec, matrix_conf: float = PREDICT_CONF) -> None:
        keypoints = spec.keypoints
        self._sigmas = keypoints.sigmas_by_class(spec.nc).astype(np.float32)
        self._point_mask = keypoints.point_mask(spec.nc)
        self._flip_idx = np.array(keypoints.flip_idx if keypoints.flip_idx is not None else range(keypoints.count))
        self._torsos = [_torso_pairs(keypoints.keypoint_names(index)) for index in range(spec.nc)]
        self._matrix_conf = matrix_conf
        self._names: list[str] = []
        self._types = column_types(keypoints.count)
        self._bytes = {name: bytearray() for name in self._types}
        self.num_detections = 0
        self.num_gt = 0

    def add(self, name: str, detections: Detections, gt: ImageLabels, letterbox: Letterbox) -> None:
        """Add an image.

        Args:
            name: the image.
            detections: by descending score, network-input pixels.
            gt: ground truth in the same pixels, boxes as x1, y1, x2, y2.
            letterbox: placement of the image in the network input.
        """
        self.append(name, self.columns(detections, gt, letterbox))

    def append(self, name: str, columns: Columns) -> None:
        """Append the `columns` of an image; its own row indices become those of the whole run."""
        image = len(self._names)
        self._names.append(name)
        num_detections = len(columns["det_score"])
        num_gt = len(columns["gt_class"])
        columns = {
            **columns,
            "det_image": np.full(num_detections, image),
            "gt_image": np.full(num_gt, image),
            "pair_gt": columns["pair_gt"] + self.num_gt,
            "pair_det": columns["pair_det"] + self.num_detections,
            "stored_det": columns["stored_det"] + self.num_detections,
        }
        for column, (dtype, _) in self._types.items():
            self._bytes[column] += np.ascontiguousarray(columns[column], dtype=dtype).tobytes()
        self.num_detections += num_detections
        self.num_gt += num_gt

    def finish(self, run_info: Mapping[str, Any] | None = None) -> RunRecord:
        """Return the record. Its arrays share the memory of the builder, to which nothing can be added any more.

        Args:
            run_info: from `describe_run`.
        """
        arrays: dict[str, Any] = {
            name: np.frombuffer(self._bytes[name], dtype).reshape(-1, *shape)
            for name, (dtype, shape) in self._types.items()
        }
        return RunRecord(image_names=tuple(self._names), run_info=run_info or {}, **arrays)

    def columns(self, detections: Detections, gt: ImageLabels, letterbox: Letterbox) -> Columns:
        """Return the columns of one image, without `det_image` and `gt_image`; other row indices are the image's own.

        The arguments are those of `add`.
        """
        matches = match_image(detections, gt, self._sigmas_of(gt))
        height, width = letterbox.source
        # from network-input pixels to pixels of the original image
        scale = np.array([width / letterbox.inner[1], height / letterbox.inner[0]], dtype=np.float32)
        box_sizes = (gt.boxes[:, 2:] - gt.boxes[:, :2]) * scale
        crowding = box_iou(gt.boxes, gt.boxes)
        np.fill_diagonal(crowding, 0)
        gt_box, gt_keypoints = _quantize_instances(gt.boxes, gt.keypoints, letterbox)
        above = detections.scores > self._matrix_conf
        return {
            "image_size": np.array(letterbox.source),
            "det_score": detections.scores,
            "det_class": detections.classes,
            "det_box_match": matches.box_match,
            "det_pose_match": matches.pose_match,
            "det_any_match": match_any_class(matches.iou, above),
            "gt_class": gt.classes,
            "gt_box_area": box_sizes.prod(axis=1),
            "gt_labeled": (gt.keypoints[..., 2] != 0).sum(axis=1),
            "gt_crowding": crowding.max(axis=1, initial=0),
            "gt_box": gt_box,
            "gt_keypoints": gt_keypoints,
            "gt_visibility": gt.keypoints[..., 2],
            **_stored_columns(detections, len(gt.classes), letterbox),
            **self._pair_columns(detections, gt, matches, box_sizes, scale),
        }

    def _pair_columns(
        self,
        detections: Detections,
        gt: ImageLabels,
        matches: ImageMatches,
        box_sizes: npt.NDArray[Any],
        scale: npt.NDArray[np.float32],
    ) -> Columns:
        """Return the columns `pair_…`, and `det_corrected`, which follows from the pairs."""
        det_rows = np.flatnonzero(matches.box_match[:, 0] >= 0)
        gt_rows = matches.box_match[det_rows, 0]
        points = detections.points[det_rows]
        targets = gt.keypoints[gt_rows]
        sigmas = self._sigmas_of(gt)
        classified = classify_errors(points[..., :2], gt_rows, gt.keypoints, matches.area, sigmas, self._flip_idx)
        flags = _visibility_flags(points, None if detections.visible is None else detections.visible[det_rows])
        if self._point_mask is not None:
            flags = flags * self._point_mask[gt.classes[gt_rows]]
        distance = np.linalg.norm((points[..., :2] - targets[..., :2]) * scale, axis=-1)
        return {
            "det_corrected": _corrected_hits(matches, gt, detections, classified, gt_rows, det_rows),
            "pair_gt": gt_rows,
            "pair_det": det_rows,
            "pair_diagonal": np.linalg.norm(box_sizes[gt_rows], axis=1),
            "pair_torso": self._torso_lengths(gt, gt_rows, scale),
            "pair_distance": np.where(targets[..., 2] != 0, distance, np.nan),
            "pair_outcome": classified.outcome + flags,
        }

    def _sigmas_of(self, gt: ImageLabels) -> npt.NDArray[np.float32]:
        """Return (K,) σ, or (N, K) σ for each ground truth of an image where they depend on its class."""
        return self._sigmas if self._sigmas.ndim == 1 else self._sigmas[gt.classes]

    def _torso_lengths(
        self, gt: ImageLabels, gt_rows: npt.NDArray[np.int64], scale: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        lengths = np.full(len(gt_rows), np.nan, dtype=np.float32)
        for index, row in enumerate(gt_rows):
            for a, b in self._torsos[int(gt.classes[row]) if len(self._torsos) > 1 else 0]:
                shoulder, hip = gt.keypoints[row, a], gt.keypoints[row, b]
                if shoulder[2] and hip[2]:
                    lengths[index] = np.linalg.norm((shoulder[:2] - hip[:2]) * scale)
                    break
        return lengths


def describe_run(
    runtime: Runtime, dataset: Dataset, labels: Annotations, settings: ValSettings, names: Mapping[int, str]
) -> dict[str, Any]:
    """Describe a run with JSON values, so that its report can be made again from the record.

    Args:
        runtime: the network.
        dataset: the data set.
        labels: labels of the split.
        settings: settings of the run.
        names: the classes that were distinguished.
    """
    return {
        "version": __version__,
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": runtime.metadata.name,
        "device": str(runtime.device),
        "data": dataset.yaml_path.name,
        "root": str(dataset.root),
        "split": settings.split,
        "names": [names[index] for index in sorted(names)],
        "spec": {**dataset.spec.to_dict(), "names": list(dataset.spec.classes)},
        "options": {name: _to_json(getattr(settings, name)) for name in _REPORTED_OPTIONS},
        **({"visibility": 3} if runtime.metadata.spec.keypoints.visibility == 3 else {}),
        "refused": len(labels.issues),
        "refused_names": sorted({issue.file.name for issue in labels.issues})[:_MAX_REFUSED_NAMES],
    }


def _to_json(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _torso_pairs(names: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the indices of a shoulder and the opposite hip, for each side whose names exist."""
    normalized = [name.lower().replace(" ", "_").replace("-", "_") for name in names]
    return [(normalized.index(a), normalized.index(b)) for a, b in _TORSO if a in normalized and b in normalized]


def _visibility_flags(points: npt.NDArray[Any], visible: npt.NDArray[Any] | None) -> npt.NDArray[np.int8]:
    """Return the (P, K) flags of `RunRecord.pair_outcome`; 0 if the network has no visibility.

    Args:
        points: (P, K, D) predicted keypoints.
        visible: (P, K) probability that they are visible, with three states.
    """
    if points.shape[2] < 3:
        return np.zeros(points.shape[:2], dtype=np.int8)
    conf = points[..., 2]
    flags = np.where(conf >= VISIBLE_CONF, 8, 16)
    if visible is not None:
        state = np.stack((1 - conf, conf - visible, visible)).argmax(axis=0)
        flags += np.array([0, HIDDEN_FLAG, VISIBLE_FLAG])[state]
    return flags.astype(np.int8)


def _corrected_hits(
    matches: ImageMatches,
    gt: ImageLabels,
    detections: Detections,
    classified: ClassifiedKeypoints,
    gt_rows: npt.NDArray[np.int64],
    det_rows: npt.NDArray[np.int64],
) -> npt.NDArray[np.int16]:
    """Return (M, 4) true positives at each threshold, as bits, with all errors of one kind corrected."""
    bits = np.repeat((matches.pose_match >= 0) @ _THRESHOLD_BITS, len(ERROR_KINDS)).reshape(-1, len(ERROR_KINDS))
    labeled = np.maximum((gt.keypoints[gt_rows, :, 2] != 0).sum(axis=1), 1)
    for column, kind in enumerate(ERROR_KINDS):
        wrong = classified.outcome == kind
        affected = wrong.any(axis=1)
        if not affected.any():
            continue
        # OKS is the mean of the similarities of labeled keypoints; the others are 0 in both arrays
        corrected = np.where(wrong, classified.corrected, classified.similarity).sum(axis=1) / labeled
        similarity = matches.oks.copy()
        similarity[gt_rows[affected], det_rows[affected]] = corrected[affected]
        hits = greedy_match(mask_other_classes(similarity, gt.classes, detections.classes)) >= 0
        bits[:, column] = hits @ _THRESHOLD_BITS
    return bits.astype(np.int16)


def _stored_columns(detections: Detections, num_gt: int, letterbox: Letterbox) -> Columns:
    """Return the columns `stored_…`: coordinates of the best detections of an image.

    Args:
        detections: by descending score, network-input pixels.
        num_gt: number of ground truths in the image.
        letterbox: placement of the image in the network input.
    """
    confident = int((detections.scores >= STORED_CONF).sum())
    count = min(max(confident, num_gt), 2 * num_gt + _MAX_EXTRA_STORED, len(detections.scores))
    points = detections.points[:count]
    box, keypoints = _quantize_instances(detections.boxes[:count], points, letterbox)
    conf = np.full(points.shape[:2], 255)
    if points.shape[-1] == 3:
        conf = np.rint(np.fmin(np.fmax(points[..., 2], 0), 1) * 255)
    return {"stored_det": np.arange(count), "stored_box": box, "stored_keypoints": keypoints, "stored_conf": conf}


def _quantize_instances(
    boxes: npt.NDArray[Any], points: npt.NDArray[Any], letterbox: Letterbox
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Quantize (N, 4) boxes and (N, K, D) points in one call, since the overhead of a call counts per image."""
    corners_and_points = np.concatenate((boxes.reshape(-1, 2, 2), points[..., :2]), axis=1)
    shares = quantize(corners_and_points, letterbox)
    return shares[:, :2].reshape(-1, 4), shares[:, 2:]
