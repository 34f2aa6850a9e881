"""A simulated detector: detections of visible figures with noise, misses and false positives at given rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.data.figures.body import random_body
from yolopose.data.figures.scene import MIN_VISIBLE_SHARE
from yolopose.geometry import INSTANCE_AREA_SHARE, box_iou
from yolopose.schema import COCO_PERSON_NAMES, COCO_PERSON_SIGMAS

Floats = npt.NDArray[np.float64]

_SIGMAS = np.array(COCO_PERSON_SIGMAS)
_POINT_NOISE = 0.35  # of each of the two noise terms, in units of σ·√area
_BOX_NOISE = 0.012  # of each of the two noise terms, in sides of the box
_MEMORY = 0.7  # correlation of the slow noise term from frame to frame
_HIDDEN_GAIN = 2.5  # noise of hidden points
_SWAP = 0.25  # probability that a hidden point is placed on the figure in front
_NMS_IOU = 0.7
_MIN_SCORE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class VisibleFigure:
    """A figure of a frame, as the detector sees it.

    Attributes:
        track_id: its id.
        share: visible share of its area inside the image, 0…1.
        box: (4,) x1, y1, x2, y2 of the whole figure inside the image, pixels.
        visible_box: (4,) of its visible part.
        keypoints: (17, 3) x, y, v: 2 visible, 1 hidden, 0 outside the image.
        front: `track_id` of the figure that hides most of it, or None.
    """

    track_id: int
    share: float
    box: Floats
    visible_box: Floats
    keypoints: Floats
    front: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detections of one frame.

    Attributes:
        boxes: (N, 4).
        scores: (N,).
        keypoints: (N, 17, 3) x, y, confidence.
    """

    boxes: Floats
    scores: Floats
    keypoints: Floats


class SimulatedDetector:
    """Detects the figures of consecutive frames.

    Half of the noise of boxes and points is independent, half changes slowly, as errors of networks do. Scores and
    boxes shrink with the visible share, and overlapping detections are suppressed (IoU 0.7).

    Args:
        rng: source of all random values.
        size: (height, width) of the image.
        missed: probability that a fully visible figure is not detected.
        false_positives: mean number of false detections per frame; half of them stay at a place for some frames.
    """

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], *, missed: float, false_positives: float
    ) -> None:
        self._rng = rng
        self._size = size
        self._missed = missed
        self._rate = false_positives
        self._slow: dict[int, Floats] = {}  # (19, 2) slow noise by track id: two corners, 17 points
        self._ghosts: list[tuple[int, Floats]] = []  # remaining frames, points of false detections that stay

    def detect(self, figures: list[VisibleFigure]) -> Detections:
        """Detect the figures of the next frame."""
        boxes: list[Floats] = []
        scores: list[float] = []
        points: list[Floats] = []
        by_id = {figure.track_id: figure for figure in figures}
        for figure in figures:
            slow = self._next_noise(figure.track_id)
            visible = np.clip((figure.share - 0.1) / 0.3, 0, 1)
            score = 0.3 + 0.62 * figure.share**0.7 + self._rng.normal(0, 0.05)
            is_detected = self._rng.random() < visible * (1 - self._missed)
            box, keypoints = self._measure(figure, slow, by_id.get(figure.front or 0))
            if is_detected and figure.share >= MIN_VISIBLE_SHARE:
                boxes.append(box)
                scores.append(float(np.clip(score, _MIN_SCORE, 0.98)))
                points.append(keypoints)
        for keypoints in self._false_positives():
            low, high = keypoints[:, :2].min(axis=0), keypoints[:, :2].max(axis=0)
            boxes.append(self._clip(np.concatenate((low, high))))
            scores.append(float(self._rng.uniform(_MIN_SCORE, 0.6)))
            points.append(keypoints)
        return _suppress(
            Detections(np.array(boxes).reshape(-1, 4), np.array(scores), np.array(points).reshape(-1, len(_SIGMAS), 3))
        )

    def _next_noise(self, track_id: int) -> Floats:
        fresh = self._rng.normal(0, 1, (19, 2))
        last = self._slow.get(track_id)
        noise = fresh if last is None else _MEMORY * last + np.sqrt(1 - _MEMORY**2) * fresh
        self._slow[track_id] = noise
        return noise

    def _measure(self, figure: VisibleFigure, slow: Floats, front: VisibleFigure | None) -> tuple[Floats, Floats]:
        """Return the measured box and (17, 3) keypoints of a figure."""
        rng = self._rng
        hidden_share = 1 - figure.share
        weight = 0.6 * hidden_share  # a network sees little of the hidden part
        box = (1 - weight) * figure.box + weight * figure.visible_box
        sides = np.tile(box[2:] - box[:2], 2)
        noise = (slow[:2].reshape(-1) + rng.normal(0, 1, 4)) * _BOX_NOISE * (1 + 2 * hidden_share)
        box = self._clip(box + noise * sides)
        visible = figure.keypoints[:, 2] == 2
        scale = np.sqrt(INSTANCE_AREA_SHARE * (figure.box[2:] - figure.box[:2]).prod())
        spread = _POINT_NOISE * _SIGMAS * scale * np.where(visible, 1, _HIDDEN_GAIN)
        xy = figure.keypoints[:, :2] + (slow[2:] + rng.normal(0, 1, (17, 2))) * spread[:, None]
        is_swapped = (figure.keypoints[:, 2] == 1) & (rng.random(17) < _SWAP)
        if front is not None and front.track_id != figure.track_id:
            swapped = is_swapped & (front.keypoints[:, 2] > 0)
            xy[swapped] = front.keypoints[swapped, :2] + rng.normal(0, 1, (int(swapped.sum()), 2)) * 2
        outside = figure.keypoints[:, 2] == 0
        xy[outside] = np.array([(box[0] + box[2]) / 2, box[3]])
        confidence = np.where(visible, rng.normal(0.92, 0.05, 17), rng.normal(0.45, 0.15, 17))
        confidence[outside] = rng.uniform(0.02, 0.2, int(outside.sum()))
        xy = np.clip(xy, 0, np.array(self._size[::-1], dtype=np.float64))
        return box, np.column_stack((xy, np.clip(confidence, 0.01, 0.99)))

    def _false_positives(self) -> list[Floats]:
        """Return the (17, 3) keypoints of each false detection."""
        rng = self._rng
        self._ghosts = [(left - 1, keypoints) for left, keypoints in self._ghosts if left > 1]
        new = [self._random_pose() for _ in range(int(rng.poisson(self._rate / 2)))]
        for _ in range(int(rng.poisson(self._rate / 2 / 8))):  # each stays for about 8 frames
            self._ghosts.append((int(rng.integers(4, 13)), self._random_pose()))
        staying = [keypoints + np.append(rng.normal(0, 1, 2), 0) for _, keypoints in self._ghosts]
        return [*new, *staying]

    def _random_pose(self) -> Floats:
        rng = self._rng
        height, width = self._size
        joints = random_body(rng).joints
        position = rng.uniform((0.05 * width, 0.2 * height), (0.95 * width, 0.8 * height))
        xy = position + rng.uniform(0.15, 0.4) * height * np.array([joints[name][:2] for name in COCO_PERSON_NAMES])
        xy = np.clip(xy, 0, (width, height))
        return np.column_stack((xy, rng.uniform(0.1, 0.7, len(xy))))

    def _clip(self, box: Floats) -> Floats:
        height, width = self._size
        box = np.clip(box, 0, (width, height, width, height))
        return np.concatenate((np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])))


def _suppress(detections: Detections) -> Detections:
    """Return the detections that are left after NMS, by descending score."""
    order = np.argsort(-detections.scores, kind="stable")
    iou = box_iou(detections.boxes[order], detections.boxes[order])
    rows: list[int] = []
    for row in range(len(order)):
        if not any(iou[row, other] > _NMS_IOU for other in rows):
            rows.append(row)
    selected = order[rows]
    return Detections(detections.boxes[selected], detections.scores[selected], detections.keypoints[selected])
