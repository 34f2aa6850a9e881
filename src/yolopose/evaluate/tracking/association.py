"""Similarity of tracks and ground truth in each frame: IoU of boxes or OKS of poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, UsageError
from yolopose.data.tracks import Tracks
from yolopose.data.tracks.tracks import NO_ID, Floats, Integers
from yolopose.geometry import INSTANCE_AREA_SHARE, box_iou, oks

SIMILARITIES = ("box", "oks")


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """Instances of a video with consecutive ids, and their similarity frame by frame.

    Attributes:
        gt_ids: per frame, (G,) indices 0…num_gt_ids-1 of the ground-truth tracks.
        track_ids: per frame, (T,) indices 0…num_track_ids-1 of the tracks.
        similarity: per frame, (G, T) values 0…1.
        num_gt_ids: number of ground-truth tracks.
        num_track_ids: number of tracks.
    """

    gt_ids: list[Integers]
    track_ids: list[Integers]
    similarity: list[Floats]
    num_gt_ids: int
    num_track_ids: int

    @property
    def num_gt(self) -> int:
        """Number of ground-truth instances in all frames."""
        return sum(map(len, self.gt_ids))

    @property
    def num_tracked(self) -> int:
        """Number of tracked instances in all frames."""
        return sum(map(len, self.track_ids))


def associate(
    tracks: Tracks, gt: Tracks, similarity: str = "box", *, sigmas: npt.ArrayLike | None = None, stride: int = 1
) -> Association:
    """Compute the similarity of all pairs in each frame of the ground truth.

    Instances without an id are ignored, ground-truth poses without a labeled point too where poses are compared.

    Args:
        tracks: the tracks.
        gt: the ground truth; its frames are evaluated.
        similarity: `box` (IoU) or `oks` (object keypoint similarity, on the labeled points of the ground truth, with
            the area 0.53·w·h of its box).
        sigmas: (K,) σ of the keypoints; those of the ground truth by default.
        stride: evaluate every n-th frame, from the first.

    Raises:
        UsageError: an unknown similarity.
        DataError: ids are missing, tracks are in frames that the ground truth does not have, or the keypoints do not
            fit.
    """
    if similarity not in SIMILARITIES:
        raise UsageError(f"similarity={similarity!r} is not possible: it is one of {', '.join(SIMILARITIES)}.")
    tracks, gt = _tracked(tracks, "tracks"), _tracked(gt, "ground truth")
    sigma = gt.sigmas if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    if similarity == "oks":
        _check_keypoints(tracks, gt, sigma)
        gt = gt.select((gt.keypoints[..., 2] > 0).any(axis=1))
    numbers = gt.frame_numbers
    outside = np.setdiff1d(tracks.frames, numbers)
    if len(outside):
        raise DataError(
            f"Tracks of {tracks.name or 'the video'} are in frame {outside[0]}, which the ground truth does not have "
            f"(its frames are {numbers[0] if len(numbers) else 0} to {numbers[-1] if len(numbers) else 0}). Cut the "
            "tracks to the frames of the ground truth."
        )
    numbers = numbers[(numbers - 1) % stride == 0]
    tracks, gt = (side.select(np.isin(side.frames, numbers)) for side in (tracks, gt))
    gt_names, gt_index = np.unique(gt.ids, return_inverse=True)
    names, index = np.unique(tracks.ids, return_inverse=True)
    gt_rows, rows = _rows_by_frame(gt, numbers), _rows_by_frame(tracks, numbers)
    matrices: list[Floats] = []
    for gt_row, row in zip(gt_rows, rows, strict=True):
        if similarity == "box":
            matrices.append(_iou(gt.boxes[gt_row], tracks.boxes[row]))
        else:
            area = INSTANCE_AREA_SHARE * (gt.boxes[gt_row, 2:] - gt.boxes[gt_row, :2]).prod(axis=1)
            pairs = oks(_labeled(gt.keypoints[gt_row]), tracks.keypoints[row], area, sigma)
            matrices.append(pairs.astype(np.float64))
    gt_ids = [gt_index[row] for row in gt_rows]
    track_ids = [index[row] for row in rows]
    return Association(gt_ids, track_ids, matrices, len(gt_names), len(names))


def _tracked(tracks: Tracks, label: str) -> Tracks:
    """Return the instances that have an id."""
    has_id = tracks.ids != NO_ID
    if len(tracks) and not has_id.any():
        raise DataError(
            f"The {label} of {tracks.name or 'the video'} have no track ids. `yolo pose track` writes them; detections "
            "of `predict` cannot be evaluated as tracks."
        )
    return tracks.select(has_id)


def _check_keypoints(tracks: Tracks, gt: Tracks, sigmas: Floats) -> None:
    if gt.num_keypoints == 0 or (len(tracks) and tracks.num_keypoints != gt.num_keypoints):
        raise DataError(
            f"similarity=oks needs poses with the same keypoints: the tracks have {tracks.num_keypoints}, the ground "
            f"truth has {gt.num_keypoints}. Use similarity=box for tracks of boxes."
        )
    if sigmas.shape != (gt.num_keypoints,) or not (sigmas > 0).all():
        raise DataError(f"OKS needs {gt.num_keypoints} positive σ, one per keypoint; got {sigmas.tolist()}.")


def _labeled(points: Floats) -> Floats:
    """Return points whose visibility is 0 or 1; negative confidences count as not labeled."""
    return np.concatenate((points[..., :2], (points[..., 2:] > 0).astype(np.float64)), axis=-1)


def _iou(first: Floats, second: Floats) -> Floats:
    """Return the (G, T) IoU; 0 where a box is empty."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(box_iou(first, second, eps=0.0).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _rows_by_frame(tracks: Tracks, numbers: Integers) -> list[slice]:
    starts = np.searchsorted(tracks.frames, numbers, side="left").tolist()
    stops = np.searchsorted(tracks.frames, numbers, side="right").tolist()
    return [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]
