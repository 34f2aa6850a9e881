"""Active learning: which images are most worth labeling.

An image is worth labeling if the network is uncertain about it, and if it differs from the images that are labeled or
chosen already. Images are chosen one after the other, each with the largest product of uncertainty and distance to
those chosen before (greedy k-center, Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set
Approach, ICLR 2018, weighted by uncertainty).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError, SourceError
from yolopose.base.log import LOGGER, warn_once
from yolopose.base.progress import progress
from yolopose.data.convert.record import ImageRecord
from yolopose.data.images import read_image
from yolopose.data.side_names import infer_flip_idx
from yolopose.geometry import box_iou
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.schema import PoseSpec

Image = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Embedder = Callable[[Image], Float32]
"""Returns the features of an image as a (D,) vector of length 1."""

_CERTAIN = 0.02  # added to the uncertainty, so that images that differ count even if the network is certain
_MATCH_IOU = 0.5
_MOVED = 0.1  # distance of keypoints, relative to the size of the box, that counts as full disagreement
_SIDE = 32  # of a thumbnail, pixels
_GRID = 4  # per side of the grid over a thumbnail
_ORIENTATIONS = 8


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How uncertain a network is about an image; each value 0 (certain) to 1.

    Attributes:
        instances: mean of 4·c·(1 − c) over confidences c of instances, weighted by c.
        keypoints: likewise over the confidences of keypoints, weighted by the confidence of their instance.
        flip: disagreement with the mirrored image: instances detected in one of both only, and how far keypoints move.
        details: what contributes most, as phrases.
    """

    instances: float
    keypoints: float
    flip: float
    details: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Mean of the three values."""
        return (self.instances + self.keypoints + self.flip) / 3


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An image that may be suggested.

    Attributes:
        record: its pre-labels.
        uncertainty: how uncertain the network is.
        features: (D,) vector of length 1.
    """

    record: ImageRecord
    uncertainty: Uncertainty
    features: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Suggestion:
    """An image that is worth labeling.

    Attributes:
        rank: 1 for the first.
        record: its pre-labels.
        score: product of uncertainty and distance.
        uncertainty: how uncertain the network is.
        distance: to the closest image that is labeled or was chosen before, 0…1 relative to the largest distance.
        reason: why it was chosen, as a sentence.
    """

    rank: int
    record: ImageRecord
    score: float
    uncertainty: Uncertainty
    distance: float
    reason: str


class UncertaintyScorer:
    """Measure uncertainty from the results of an image and of its mirror image.

    Args:
        spec: classes and keypoints of the network.
    """

    def __init__(self, spec: PoseSpec) -> None:
        keypoints = spec.keypoints
        self._spec = spec
        self._flip = keypoints.flip_idx or infer_flip_idx(keypoints.keypoint_names(0))
        if self._flip is None:
            warn_once(
                "The mirror pairs (flip_idx) of the keypoints are unknown: only the boxes of an image and its mirror "
                "image are compared."
            )

    def candidate(self, record: ImageRecord, result: Results, mirrored: Results, embed: Embedder | None) -> Candidate:
        """Return the candidate of an image.

        Args:
            record: its pre-labels.
            result: detections from a low confidence.
            mirrored: those of the mirror image.
            embed: returns its features; None uses `thumbnail_features`.
        """
        features = (embed or thumbnail_features)(np.asarray(result.orig_img))
        return Candidate(record, self.score(result, mirrored), features)

    def score(self, result: Results, mirrored: Results) -> Uncertainty:
        """Return the uncertainty; arguments as of `candidate`."""
        boxes, scores, points = _arrays(result)
        details: list[str] = []
        instances = _weighted_mean(4 * scores * (1 - scores), scores)
        doubtful = scores[(scores > 0.15) & (scores < 0.7)]
        if len(doubtful):
            span = " to ".join(dict.fromkeys(f"{value:.2f}" for value in (doubtful.min(), doubtful.max())))
            details.append(f"{len(doubtful)} uncertain instance{'s' if len(doubtful) > 1 else ''} (confidence {span})")
        keypoints = 0.0
        if points.shape[2] == 3 and len(points):
            doubt = 4 * points[..., 2] * (1 - points[..., 2])
            keypoints = _weighted_mean(doubt.mean(axis=1), scores)
            details += self._describe_points(doubt, scores)
        flip, detail = self._disagreement(result, mirrored, boxes, scores, points)
        if detail:
            details.append(detail)
        elif not len(scores):
            details.append("no instance was detected")
        return Uncertainty(instances, keypoints, flip, tuple(details))

    def _describe_points(self, doubt: Float64, scores: Float64) -> list[str]:
        """Name the most uncertain keypoints of instances that are certain."""
        rows = doubt[scores >= 0.5]
        if not len(rows):
            return []
        means = rows.max(axis=0)
        worst = [index for index in np.argsort(-means, kind="stable")[:3] if means[index] > 0.75]
        names = self._spec.keypoints.keypoint_names(0)
        return [f"uncertain {', '.join(names[index] for index in worst)}"] if worst else []

    def _disagreement(
        self, result: Results, mirrored: Results, boxes: Float64, scores: Float64, points: Float64
    ) -> tuple[float, str]:
        width = result.orig_shape[1]
        other_boxes, other_scores, other_points = _arrays(mirrored)
        other_boxes = other_boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [width, 0, width, 0]
        other_points = other_points.copy()
        other_points[..., 0] = width - other_points[..., 0]
        if self._flip is not None:
            other_points = other_points[:, list(self._flip)]
        if not len(scores) and not len(other_scores):
            return 0.0, ""
        overlap = np.asarray(box_iou(boxes, other_boxes), dtype=np.float64)
        pairs = match_detections(overlap, scores)
        values: list[float] = []
        weights: list[float] = []
        moved: list[float] = []
        for first, second in pairs:
            difference = abs(scores[first] - other_scores[second])
            if self._flip is not None:
                distance = _mean_distance(points[first], other_points[second], boxes[first])
                moved.append(distance)
                difference = max(difference, min(distance / _MOVED, 1.0))
            values.append(difference)
            weights.append(max(scores[first], other_scores[second]))
        single = [scores[i] for i in range(len(scores)) if i not in {first for first, _ in pairs}]
        single += [other_scores[i] for i in range(len(other_scores)) if i not in {second for _, second in pairs}]
        values += [1.0] * len(single)
        weights += single
        certain = sum(score >= 0.25 for score in single)
        texts = [f"{certain} instance{'s' if certain > 1 else ''} in one view only"] if certain else []
        if moved and max(moved) > 0.03:
            texts.append(f"keypoints move by {max(moved):.0%} of the box")
        detail = f"mirrored: {', '.join(texts)}" if texts else ""
        return _weighted_mean(np.array(values), np.array(weights)), detail


def suggest_images(
    candidates: Sequence[Candidate], count: int, labeled: Sequence[Path] = (), embed: Embedder | None = None
) -> list[Suggestion]:
    """Choose the images that are most worth labeling.

    Args:
        candidates: the images.
        count: number of images to choose; all if there are fewer.
        labeled: images that are labeled already.
        embed: returns the features of an image, as for the candidates; None uses `thumbnail_features`.

    Returns:
        The suggestions, best first.
    """
    if not candidates:
        return []
    features = np.stack([candidate.features for candidate in candidates])
    uncertainty = np.array([candidate.uncertainty.total for candidate in candidates])
    distances = np.full(len(candidates), np.inf)
    for vector in _labeled_features(labeled, embed):
        distances = np.minimum(distances, _distances(features, vector))
    # without labeled images the first is the most uncertain one
    scale = float(distances.max()) if labeled else 0.0
    remaining = np.ones(len(candidates), bool)
    suggestions: list[Suggestion] = []
    for rank in range(1, min(count, len(candidates)) + 1):
        relative = np.ones(len(candidates)) if not scale else np.minimum(distances / scale, 1.0)
        scores = np.where(remaining, (uncertainty + _CERTAIN) * relative, -1.0)
        # images equal to chosen ones come last, the most uncertain first
        best = int(np.lexsort((uncertainty, scores))[-1])
        candidate = candidates[best]
        distance = float(relative[best])
        reason = _reason(candidate.uncertainty, distance, rank, bool(labeled))
        score = float(scores[best])
        suggestions.append(Suggestion(rank, candidate.record, score, candidate.uncertainty, distance, reason))
        remaining[best] = False
        distances = np.minimum(distances, _distances(features, features[best]))
        scale = max(scale, float(distances.max())) if rank == 1 else scale
    return suggestions


def thumbnail_features(image: Image) -> Float32:
    """Return features of an image without a network: orientations of gradients, and colors, on a grid of 4 × 4.

    Args:
        image: (H, W, 3) uint8 BGR.

    Returns:
        (176,) of length 1.
    """
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    gray = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)
    dy, dx = np.gradient(gray)
    orientation = np.floor(np.arctan2(dy, dx) / np.pi * _ORIENTATIONS).astype(int) % _ORIENTATIONS
    block = np.arange(_SIDE) // (_SIDE // _GRID)
    index = (block[:, None] * _GRID + block) * _ORIENTATIONS + orientation
    gradients = np.bincount(index.ravel(), np.hypot(dx, dy).ravel(), _GRID**2 * _ORIENTATIONS).astype(np.float32)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB)
    colors = np.asarray(cv2.resize(lab, (_GRID, _GRID), interpolation=cv2.INTER_AREA)).ravel() / 100
    return _unit(np.concatenate((_unit(gradients), _unit(colors.astype(np.float32)))))


def _unit(vector: Float32) -> Float32:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _arrays(result: Results) -> tuple[Float64, Float64, Float64]:
    """Return (N, 4) corners, (N,) confidences and (N, K, D) keypoints."""
    data = to_numpy(result.boxes.data).astype(np.float64)
    return data[:, :4], data[:, -2], to_numpy(result.keypoints.data).astype(np.float64)


def _weighted_mean(values: Float64, weights: Float64) -> float:
    """Return the mean with confidences as weights; instances that are unlikely altogether count little.

    The sum of the weights, the expected number of instances, is at least 1.
    """
    return float((values * weights).sum() / max(float(weights.sum()), 1.0))


def match_detections(overlap: Float64, scores: Float64) -> list[tuple[int, int]]:
    """Return pairs of detections with sufficient IoU, greedily by confidence."""
    pairs: list[tuple[int, int]] = []
    overlap = overlap.copy()
    for first in np.argsort(-scores, kind="stable"):
        if not overlap.shape[1]:
            break
        second = int(overlap[first].argmax())
        if overlap[first, second] >= _MATCH_IOU:
            pairs.append((int(first), second))
            overlap[:, second] = -1
    return pairs


def _mean_distance(first: Float64, second: Float64, box: Float64) -> float:
    """Return the mean distance of keypoints relative to the size of the box, weighted by their confidence."""
    size = float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1.0)))
    distances = np.linalg.norm(first[:, :2] - second[:, :2], axis=1) / size
    weights = np.minimum(first[:, 2], second[:, 2]) if first.shape[1] == 3 else np.ones(len(first))
    return float(np.average(distances, weights=weights)) if weights.any() else 0.0


def _distances(features: Float32, vector: Float32) -> Float64:
    """Return the Euclidean distance of each row to a vector; both have length 1."""
    return np.sqrt(np.maximum(2 - 2 * (features @ vector).astype(np.float64), 0))


def _labeled_features(files: Sequence[Path], embed: Embedder | None) -> list[Float32]:
    features: list[Float32] = []
    skipped = 0
    for file in progress(files, "Labeled images"):
        try:
            features.append((embed or thumbnail_features)(read_image(file)))
        except (SourceError, NotFoundError, DataError):
            skipped += 1
    if skipped:
        LOGGER.warning(f"{skipped} of {len(files)} labeled images cannot be read and are ignored.")
    return features


def _reason(uncertainty: Uncertainty, distance: float, rank: int, has_labeled: bool) -> str:
    parts = list(uncertainty.details)
    if not parts:
        parts.append("the network is certain")
    others = "labeled and chosen images" if has_labeled else "images chosen before"
    if has_labeled or rank > 1:
        kind = "unlike" if distance > 0.6 else "somewhat unlike" if distance > 0.3 else "similar to"
        parts.append(f"{kind} the {others}")
    return "; ".join(parts)
