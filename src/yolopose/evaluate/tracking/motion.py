"""Jitter of points and their distance from the ground truth, in units of the σ of the OKS."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolopose.data.tracks import Tracks
from yolopose.data.tracks.tracks import NO_ID, Floats
from yolopose.evaluate.tracking.association import associate
from yolopose.evaluate.tracking.scores import require_scipy
from yolopose.geometry import INSTANCE_AREA_SHARE


def point_scale(boxes: Floats, sigmas: Floats) -> Floats:
    """Return the (N, K) distance in pixels at which the OKS of a point is exp(-1/2): 2σ·√(0.53·w·h)."""
    area = INSTANCE_AREA_SHARE * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return 2 * sigmas * np.sqrt(np.maximum(area, 1e-7))[:, None]


def jitter(tracks: Tracks, sigmas: npt.ArrayLike | None = None, min_conf: float = 0.0) -> float:
    """Compute the mean acceleration of the points, in units of `point_scale` per frame².

    The acceleration of a point is |p(t+1) - 2·p(t) + p(t-1)| where its track has three frames in a row. Movement
    contributes too, so the value is to be compared with the one of the ground truth or of another file.

    Args:
        tracks: the tracks; instances without an id are ignored.
        sigmas: (K,) σ of the keypoints; those of the tracks by default.
        min_conf: points with a confidence up to this value are ignored.

    Returns:
        The mean; NaN without three frames in a row.
    """
    sigma = tracks.sigmas if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    tracks = tracks.select(tracks.ids != NO_ID)
    order = np.lexsort((tracks.frames, tracks.ids))
    ids, frames, points = tracks.ids[order], tracks.frames[order], tracks.keypoints[order]
    if len(ids) < 3 or tracks.num_keypoints == 0:
        return float("nan")
    step = np.diff(np.searchsorted(tracks.frame_numbers, frames))  # 1 for neighbors, also with a frame stride
    same = (np.diff(ids) == 0) & (step == 1)
    in_row = same[1:] & same[:-1]
    visible = points[..., 2] > min_conf
    valid = in_row[:, None] & visible[2:] & visible[1:-1] & visible[:-2]
    acceleration = np.linalg.norm(points[2:, :, :2] - 2 * points[1:-1, :, :2] + points[:-2, :, :2], axis=2)
    relative = acceleration / point_scale(tracks.boxes[order][1:-1], sigma)
    return float(relative[valid].mean()) if valid.any() else float("nan")


def point_error(
    tracks: Tracks, gt: Tracks, *, threshold: float = 0.5, sigmas: npt.ArrayLike | None = None, stride: int = 1
) -> float:
    """Compute the mean distance of the labeled points of matched instances, in units of `point_scale`.

    Instances are matched frame by frame by the IoU of their boxes, without regard to ids.

    Args:
        tracks: the tracks.
        gt: the ground truth.
        threshold: least IoU of a match.
        sigmas: (K,) σ of the keypoints; those of the ground truth by default.
        stride: evaluate every n-th frame.

    Returns:
        The mean; NaN without matches.

    Raises:
        DataError: the keypoints do not fit, or as in `associate`.
    """
    sigma = gt.sigmas if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    pairs = associate(tracks, gt, "box", stride=stride)
    tracks, gt = tracks.select(tracks.ids != NO_ID), gt.select(gt.ids != NO_ID)
    assign = require_scipy().linear_sum_assignment
    numbers = gt.frame_numbers[(gt.frame_numbers - 1) % stride == 0]
    gt_starts = np.searchsorted(gt.frames, numbers).tolist()
    starts = np.searchsorted(tracks.frames, numbers).tolist()
    gt_rows: list[int] = []
    rows: list[int] = []
    for gt_start, start, similarity in zip(gt_starts, starts, pairs.similarity, strict=True):
        first, second = assign(-similarity)
        is_match = similarity[first, second] >= threshold
        gt_rows += (gt_start + first[is_match]).tolist()
        rows += (start + second[is_match]).tolist()
    if not rows:
        return float("nan")
    points, labels = tracks.keypoints[rows], gt.keypoints[gt_rows]
    labeled = labels[..., 2] > 0
    distance = np.linalg.norm(points[..., :2] - labels[..., :2], axis=2) / point_scale(gt.boxes[gt_rows], sigma)
    return float(distance[labeled].mean()) if labeled.any() else float("nan")
