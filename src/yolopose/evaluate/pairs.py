"""One image's rows of the record: which truth each detection takes, and how far the points of the pairs are off."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data.labels import ImageLabels
from yolopose.evaluate.accumulate import ImageMatches
from yolopose.evaluate.errors import KINDS, ClassifiedKeypoints, classify_errors
from yolopose.evaluate.matching import greedy_match, of_one_class
from yolopose.evaluate.places import detection_places, truth_places
from yolopose.evaluate.points import VISIBLE
from yolopose.geometry import Letterbox, box_iou
from yolopose.runtime.nms import Detections
from yolopose.schema import PoseSpec

_BITS = 1 << np.arange(10)
_TORSO = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
Columns = dict[str, npt.NDArray[Any]]


class Pairing:
    """Makes the rows of images.

    Args:
        spec: classes and keypoints of the data set.
    """

    def __init__(self, spec: PoseSpec) -> None:
        keypoints = spec.keypoints
        self._sigmas = keypoints.oks_sigmas.astype(np.float32)
        self._flip = np.array(keypoints.flip_idx if keypoints.flip_idx is not None else range(keypoints.count))
        self._torsos = [_torso(keypoints.keypoint_names(index)) for index in range(spec.nc)]

    def columns(self, found: Detections, truth: ImageLabels, stats: ImageMatches, letterbox: Letterbox) -> Columns:
        """Return the columns of `Record` for one image, without those that number images.

        Args:
            found: detections by falling score, network-input pixels.
            truth: objects in the same pixels.
            stats: from `match_image`.
            letterbox: where the image lies in the input.
        """
        height, width = letterbox.source
        scale = np.array([width / letterbox.inner[1], height / letterbox.inner[0]], dtype=np.float32)
        sizes = (truth.boxes[:, 2:] - truth.boxes[:, :2]) * scale
        detections = np.flatnonzero(stats.box_hit[:, 0] >= 0)
        rows = stats.box_hit[detections, 0].astype(np.int64)
        points, places = found.points[detections], truth.keypoints[rows]
        judged = classify_errors(points[..., :2], rows, truth.keypoints, stats.area, self._sigmas, self._flip)
        labeled = places[..., 2] != 0
        error = np.linalg.norm((points[..., :2] - places[..., :2]) * scale, axis=-1)
        crowd = box_iou(truth.boxes, truth.boxes)
        np.fill_diagonal(crowd, 0)
        return {
            "size": np.array(letterbox.source),
            **truth_places(truth, letterbox),
            **detection_places(found, len(truth.classes), letterbox),
            "score": found.scores,
            "cls": found.classes,
            "box_hit": stats.box_hit,
            "pose_hit": stats.pose_hit,
            "mended": _mended(stats, truth, found, judged, rows, detections),
            "truth_cls": truth.classes,
            "truth_area": sizes.prod(axis=1),
            "truth_points": (truth.keypoints[..., 2] != 0).sum(axis=1),
            "truth_crowd": crowd.max(axis=1, initial=0),
            "pair_truth": rows,
            "pair_detection": detections,
            "pair_diagonal": np.linalg.norm(sizes[rows], axis=1),
            "pair_torso": self._torso_lengths(truth, rows, scale),
            "pair_error": np.where(labeled, error, np.nan),
            "pair_kind": judged.kinds + _seen(points),
        }

    def _torso_lengths(self, truth: ImageLabels, rows: npt.NDArray[np.int64], scale: Any) -> npt.NDArray[np.float32]:
        lengths = np.full(len(rows), np.nan, dtype=np.float32)
        for number, row in enumerate(rows):
            for a, b in self._torsos[int(truth.classes[row]) if len(self._torsos) > 1 else 0]:
                first, second = truth.keypoints[row, a], truth.keypoints[row, b]
                if first[2] and second[2]:
                    lengths[number] = np.linalg.norm((first[:2] - second[:2]) * scale)
                    break
        return lengths


def _torso(names: tuple[str, ...]) -> list[tuple[int, int]]:
    plain = [name.lower().replace(" ", "_").replace("-", "_") for name in names]
    return [(plain.index(a), plain.index(b)) for a, b in _TORSO if a in plain and b in plain]


def _seen(points: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """(P, K) 8 where the network calls a point visible, 16 where it does not; 0 where it says nothing."""
    if points.shape[2] < 3:
        return np.zeros(points.shape[:2], dtype=np.int8)
    return np.where(points[..., 2] >= VISIBLE, 8, 16).astype(np.int8)


def _mended(
    stats: ImageMatches,
    truth: ImageLabels,
    found: Detections,
    judged: ClassifiedKeypoints,
    rows: npt.NDArray[np.int64],
    detections: npt.NDArray[np.int64],
) -> npt.NDArray[np.int16]:
    """(M, 4) hits at each threshold, as bits, with all errors of one kind mended."""
    bits = np.repeat((stats.pose_hit >= 0) @ _BITS[: stats.pose_hit.shape[1]], len(KINDS)).reshape(-1, len(KINDS))
    points = np.maximum((truth.keypoints[rows, :, 2] != 0).sum(axis=1), 1)
    for column, kind in enumerate(KINDS):
        wrong = judged.kinds == kind
        some = wrong.any(axis=1)
        if not some.any():
            continue
        better = stats.similarity.copy()
        better[rows[some], detections[some]] = (np.where(wrong, judged.mended, judged.own).sum(axis=1) / points)[some]
        hits = greedy_match(of_one_class(better, truth.classes, found.classes)) >= 0
        bits[:, column] = hits @ _BITS[: hits.shape[1]]
    return bits.astype(np.int16)
