"""What limits the mAP of a run: scores of each keypoint, cost of each kind of error, mAP of slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.matching import ERROR_KINDS, BoolArray, KeypointOutcome
from yolopose.evaluate.metric import Float64, Int64, average_precision
from yolopose.evaluate.pixels import PixelErrors
from yolopose.evaluate.record import RunRecord
from yolopose.geometry import INSTANCE_AREA_SHARE
from yolopose.results.tables import TableMixin
from yolopose.schema import PoseSpec

Row = dict[str, Any]

PCK_LIMITS = (0.05, 0.1, 0.2)
"""Shares of the box diagonal (or of the torso) within which a keypoint counts as correct."""
SMALL_AREA, LARGE_AREA = 32**2, 96**2
"""Bounds of medium instances, pixels² of the original image, as in COCO."""
CROWDING_LIMITS = (0.1, 0.5)
"""Bounds of medium crowding: IoU with the nearest other ground-truth box."""
OUTCOME_MASK = 7
"""Bits of `RunRecord.pair_outcome` that hold the outcome."""
_PREDICTED_VISIBLE, _PREDICTED_EITHER = 8, 24


def mean_ap(record: RunRecord, hits: BoolArray, kind: str = "pose", selected: BoolArray | None = None) -> Float64:
    """Compute average precision at each threshold, as the mean over the classes of the ground truth.

    Args:
        record: the run.
        hits: (M, T) true positives.
        kind: `box` or `pose`: whose matches `hits` are; needed with `selected`.
        selected: (N,) the ground truths that count. The others are ignored with their true positives, and false
            positives, which belong to no ground truth, are weighted by the share of the selected ones.

    Returns:
        (T,) mean over classes; 0 without ground truth.
    """
    rows: list[list[float]] = []
    for cls in np.unique(record.gt_class if selected is None else record.gt_class[selected]).tolist():
        of_class = record.gt_class == cls
        num_gt = int((of_class if selected is None else of_class & selected).sum())
        fp_weight = num_gt / int(of_class.sum())
        ranked = record.ranked[cls]
        row: list[float] = []
        for level in range(hits.shape[1]):
            ranks = np.flatnonzero(hits[ranked, level])
            fp = ranks - np.arange(len(ranks))  # false positives before each true positive
            if selected is not None:
                matched = ranked[ranks]
                fp = fp[selected[record.gt_rows(matched, record.matches(kind)[matched, level])]]
            tp = np.arange(1, len(fp) + 1)
            ap = average_precision(tp[:, None], (tp + fp_weight * fp)[:, None], np.array([num_gt]))
            row.append(float(ap[0]))
        rows.append(row)
    return np.mean(rows, axis=0) if rows else np.zeros(hits.shape[1])


class KeypointTable(TableMixin):
    """Scores of each keypoint, over the ground truths that a detection matches by box IoU .50.

    Distances and PCK in pixels are counted as by `PixelErrors`.

    Args:
        record: the run.
        spec: classes and keypoints.

    Attributes:
        rows: the unrounded `summary`.
        num_pairs: matched ground truths.
        num_gt: all ground truths.
    """

    def __init__(self, record: RunRecord, spec: PoseSpec) -> None:
        self.num_pairs = len(record.pair_gt)
        self.num_gt = len(record.gt_class)
        classes = record.gt_class[record.pair_gt]
        groups = classes_by_keypoints(spec)
        errors = PixelErrors.from_record(record)
        self.rows: list[Row] = []
        for (names, points), members in groups.items():
            prefix = "" if len(groups) == 1 else ", ".join(spec.classes[index] for index in members[:3]) + ": "
            pairs = np.flatnonzero(np.isin(classes, members))
            instances = np.flatnonzero(np.isin(record.gt_class, members))
            for k in points:
                row = _keypoint_row(record, pairs, prefix + names[k], k, spec)
                self.rows.append(row | _pixel_columns(errors.select(instances, k)))

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[Row]:
        """Return one dict per keypoint; NaN where nothing was measured.

        Keys: `Keypoint`; `Labeled`, number of labeled keypoints; `OKS`, mean keypoint similarity; `PCK@0.05` …, the
        share within that share of the box diagonal, and `PCK-torso@0.05` … of the torso (shoulder to opposite hip)
        if known; `Visibility`, accuracy of a keypoint confidence of .5 or more as a classifier of labeled keypoints;
        `Inverted`, the share near the mirrored keypoint; `Mean` and `Median` distance from the ground truth, pixels of
        the original image, `Mean-share` and `Median-share` as shares of the box diagonal; `PCK@2px` …, the share
        within that distance; `Undetected`, number of labeled keypoints without detection.

        Args:
            normalize: without effect.
            decimals: digits after the decimal point.
        """
        return _rounded(self.rows, decimals)


def classes_by_keypoints(spec: PoseSpec) -> dict[tuple[tuple[str, ...], tuple[int, ...]], list[int]]:
    """Group the class indices by the names of all K keypoints and the indices of those that the class has."""
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[int]] = {}
    for index in range(spec.nc):
        key = spec.keypoints.keypoint_names(index), spec.keypoints.class_points(index)
        groups.setdefault(key, []).append(index)
    return groups


def _keypoint_row(record: RunRecord, pairs: Int64, name: str, k: int, spec: PoseSpec) -> Row:
    flags = record.pair_outcome[pairs, k]
    labeled = ~np.isnan(record.pair_distance[pairs, k])
    rows = pairs[labeled]
    distance = record.pair_distance[rows, k].astype(np.float64)
    share = distance / np.maximum(record.pair_diagonal[rows], 1e-9)
    torso = distance / record.pair_torso[rows]
    torso = torso[np.isfinite(torso)]
    area = record.gt_box_area[record.pair_gt[rows]] * INSTANCE_AREA_SHARE
    sigmas = spec.keypoints.sigmas_by_class(spec.nc)
    sigma = sigmas[k] if sigmas.ndim == 1 else sigmas[record.gt_class[record.pair_gt[rows]], k]
    similarity = np.exp(-(distance**2) / (2 * (2 * sigma) ** 2 * (area + 1e-7)))
    has_visibility = (flags & _PREDICTED_EITHER) != 0  # not for a network that predicts no visibility
    visibility_correct = ((flags & _PREDICTED_VISIBLE) != 0) == labeled
    flip_idx = spec.keypoints.flip_idx
    has_mirror = flip_idx is not None and flip_idx[k] != k
    inverted = flags[labeled] & OUTCOME_MASK == KeypointOutcome.INVERSION
    row: Row = {"Keypoint": name, "Labeled": int(labeled.sum()), "OKS": _mean(similarity)}
    row |= {f"PCK@{limit:g}": _mean(share <= limit) for limit in PCK_LIMITS}
    if np.isfinite(record.pair_torso).any():
        row |= {f"PCK-torso@{limit:g}": _mean(torso <= limit) for limit in PCK_LIMITS}
    return {
        **row,
        "Visibility": _mean(visibility_correct[has_visibility]),
        "Inverted": _mean(inverted) if has_mirror else float("nan"),
    }


def _pixel_columns(errors: PixelErrors) -> Row:
    return {
        "Mean": errors.mean,
        "Median": errors.median,
        "Mean-share": errors.mean_share,
        "Median-share": errors.median_share,
        **{f"PCK@{limit}px": share for limit, share in errors.pck.items()},
        "Undetected": errors.undetected,
    }


class ErrorTable(TableMixin):
    """Number of keypoints with each kind of error, and the mAP gained if all errors of a kind were corrected.

    Attributes:
        points: outcome → number of labeled keypoints of matched ground truths: `good` and the four errors.
        cost: error → gain in mAP50-95 of poses by correcting it.
        cost50: the same for mAP50.
    """

    def __init__(self, record: RunRecord) -> None:
        counts = np.bincount((record.pair_outcome & OUTCOME_MASK).reshape(-1), minlength=len(KeypointOutcome))
        self.points = {
            outcome.name.lower(): int(counts[outcome])
            for outcome in KeypointOutcome
            if outcome != KeypointOutcome.UNLABELED
        }
        threshold_bits = 1 << np.arange(record.det_pose_match.shape[1], dtype=np.int16)
        uncorrected = mean_ap(record, record.hits("pose"))
        self.cost: dict[str, float] = {}
        self.cost50: dict[str, float] = {}
        for column, kind in enumerate(ERROR_KINDS):
            corrected = mean_ap(record, (record.det_corrected[:, column, None] & threshold_bits) != 0)
            gain = corrected - uncorrected
            self.cost[kind.name.lower()] = float(gain.mean())
            self.cost50[kind.name.lower()] = float(gain[0])

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[Row]:
        """Return one dict per error: `Error`, `Points`, `Share` of all labeled keypoints, gain in `mAP50-95`, `mAP50`.

        Args:
            normalize: without effect.
            decimals: digits after the decimal point.
        """
        total = max(sum(self.points.values()), 1)
        rows = [
            {
                "Error": name,
                "Points": self.points[name],
                "Share": self.points[name] / total,
                "mAP50-95": self.cost[name],
                "mAP50": self.cost50[name],
            }
            for name in self.cost
        ]
        return _rounded(rows, decimals)


class SliceTable(TableMixin):
    """mAP50-95 of boxes and poses on slices of the ground truth: by size, crowding and number of labeled keypoints.

    False positives are weighted by the slice's share of the ground truth (see `mean_ap`), so that slices are comparable
    with each other and with the whole.

    Args:
        record: the run.
        keypoints: K.

    Attributes:
        rows: the unrounded `summary`.
    """

    def __init__(self, record: RunRecord, keypoints: int) -> None:
        self.rows: list[Row] = []
        for group, name, selected in _slices(record, keypoints):
            row: Row = {"By": group, "Slice": name, "Instances": int(selected.sum())}
            for kind in ("box", "pose"):
                ap = mean_ap(record, record.hits(kind), kind, selected).mean() if selected.any() else np.nan
                row[f"{kind.capitalize()}-mAP50-95"] = float(ap)
            self.rows.append(row)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[Row]:
        """Return one dict per slice: `By`, `Slice`, `Instances`, `Box-mAP50-95`, `Pose-mAP50-95` (NaN if empty).

        Args:
            normalize: without effect.
            decimals: digits after the decimal point.
        """
        return _rounded(self.rows, decimals)


def _slices(record: RunRecord, keypoints: int) -> Iterator[tuple[str, str, BoolArray]]:
    area, crowding, labeled = record.gt_box_area, record.gt_crowding, record.gt_labeled
    low, high = CROWDING_LIMITS
    yield "size", "small (< 32²)", area < SMALL_AREA
    yield "size", "medium", (area >= SMALL_AREA) & (area < LARGE_AREA)
    yield "size", "large (≥ 96²)", area >= LARGE_AREA
    yield "crowding", f"low (IoU < {low})", crowding < low
    yield "crowding", "medium", (crowding >= low) & (crowding < high)
    yield "crowding", f"high (IoU ≥ {high})", crowding >= high
    yield "labeled keypoints", "none", labeled == 0
    # three ranges of near-equal width; fewer for very few keypoints
    edges = np.unique(np.linspace(0, keypoints, 4).round().astype(int))
    for first, last in zip(edges[:-1] + 1, edges[1:], strict=True):
        name = f"{first} to {last}" if first < last else str(first)
        yield "labeled keypoints", name, (labeled >= first) & (labeled <= last)


def _rounded(rows: list[Row], decimals: int) -> list[Row]:
    return [
        {key: round(value, decimals) if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
