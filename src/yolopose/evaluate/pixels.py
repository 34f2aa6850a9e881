"""Distance of keypoints from their labels in pixels of the original image, counted as heat-map toolkits do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.matching import BoolArray
from yolopose.evaluate.record import RunRecord

PIXEL_LIMITS = (2, 5, 10)
"""Distances, pixels of the original image, within which a keypoint counts as correct in `PCK@2px` …"""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PixelErrors:
    """Distances of N instances with K keypoints, as DeepLabCut reports them.

    One detection counts for each labeled instance. In an image with one instance it is the detection of the highest
    confidence, wherever it is. In an image with several it is the detection that matches the instance by class and box
    IoU .50. Labeled keypoints count, visible and hidden ones alike. Keypoints of instances without detection have no
    distance: `undetected` counts them, and in `pck` they are wrong.

    Attributes:
        labeled: (N, K) which keypoints are labeled.
        distance: (N, K) pixels of the original image; NaN if not labeled or without detection.
        diagonal: (N,) diagonal of the ground-truth box, pixels of the original image.

    Examples:
        >>> import numpy as np
        >>> from yolopose.evaluate import PixelErrors
        >>> distance = np.array([[1.0, 3.0], [2.0, np.nan]])  # NaN: not labeled
        >>> errors = PixelErrors(~np.isnan(distance), distance, diagonal=np.array([100.0, 100.0]))
        >>> errors.mean, errors.median, errors.num_labeled
        (2.0, 2.0, 3)
    """

    labeled: BoolArray
    distance: Float64
    diagonal: Float64

    @classmethod
    def from_record(cls, record: RunRecord) -> PixelErrors:
        """Compute the distances of a run.

        A detection that does not match its instance by IoU is read from the stored coordinates of the record, so that
        keypoints outside the image count at its border.
        """
        sides = record.image_size[record.gt_image][:, ::-1].astype(np.float64)  # width, height
        box = record.gt_box.astype(np.float64) / np.iinfo(record.gt_box.dtype).max
        labeled = record.gt_visibility != 0
        distance = np.full(labeled.shape, np.nan)
        distance[record.pair_gt] = record.pair_distance
        _use_best_detections(record, distance, sides)
        distance[~labeled] = np.nan
        return cls(labeled, distance, np.linalg.norm((box[:, 2:] - box[:, :2]) * sides, axis=1))

    def select(self, instances: npt.NDArray[Any], keypoint: int) -> PixelErrors:
        """Return the distances of one keypoint, of some instances."""
        columns = slice(keypoint, keypoint + 1)
        return PixelErrors(
            self.labeled[instances, columns], self.distance[instances, columns], self.diagonal[instances]
        )

    @property
    def num_labeled(self) -> int:
        """Labeled keypoints."""
        return int(self.labeled.sum())

    @property
    def undetected(self) -> int:
        """Labeled keypoints of instances without detection."""
        return self.num_labeled - len(self._measured)

    @property
    def mean(self) -> float:
        """Mean distance; NaN without a measured keypoint, as the other distances."""
        return _mean(self._measured)

    @property
    def median(self) -> float:
        """Median distance."""
        return _median(self._measured)

    @property
    def rmse(self) -> float:
        """Root of the mean squared distance."""
        return _mean(self._measured**2) ** 0.5

    @property
    def mean_share(self) -> float:
        """Mean distance as a share of the box diagonal."""
        return _mean(self._shares)

    @property
    def median_share(self) -> float:
        """Median distance as a share of the box diagonal."""
        return _median(self._shares)

    @property
    def pck(self) -> dict[int, float]:
        """Limit in pixels → share of the labeled keypoints within it; NaN if none is labeled."""
        count = self.num_labeled
        return {limit: float((self._measured <= limit).sum()) / count if count else np.nan for limit in PIXEL_LIMITS}

    def to_dict(self) -> dict[str, float]:
        """Return the values by their columns in results.csv, without those that are NaN."""
        values = {"pixels/mean": self.mean, "pixels/median": self.median}
        values |= {f"pixels/PCK@{limit}px": share for limit, share in self.pck.items()}
        return {name: value for name, value in values.items() if not np.isnan(value)}

    @property
    def _measured(self) -> Float64:
        return self.distance[~np.isnan(self.distance)]

    @property
    def _shares(self) -> Float64:
        shares = self.distance / np.maximum(self.diagonal, 1e-9)[:, None]
        return shares[~np.isnan(shares)]

    def __str__(self) -> str:
        pck = ", ".join(f"@{limit}px {share:.3f}" for limit, share in self.pck.items())
        return (
            f"mean {self.mean:.2f} px ({self.mean_share:.1%} of the box diagonal), median {self.median:.2f} px; PCK"
            f"{pck}; {self.undetected} of {self.num_labeled} keypoints undetected"
        )


PIXEL_KEYS = ("pixels/mean", "pixels/median", *(f"pixels/PCK@{limit}px" for limit in PIXEL_LIMITS))
"""Names of the values of `PixelErrors.to_dict`."""


def _use_best_detections(record: RunRecord, distance: Float64, sides: Float64) -> None:
    """Replace the distances of instances that are the only ones of their image, unless they are of the best detection.

    Args:
        record: the run.
        distance: (N, K) distances of the pairs; changed in place.
        sides: (N, 2) width and height of the image of each ground truth, pixels.
    """
    num_gt = np.bincount(record.gt_image, minlength=len(record.image_names))
    # the first stored detection of an image is the most confident one
    images, stored = np.unique(record.det_image[record.stored_det], return_index=True)
    best = np.full(len(num_gt), -1)
    best[images] = stored
    rows = np.flatnonzero((num_gt[record.gt_image] == 1) & (best[record.gt_image] >= 0))
    stored = best[record.gt_image[rows]]
    paired = np.full(len(distance), -1)
    paired[record.pair_gt] = record.pair_det
    other = paired[rows] != record.stored_det[stored]
    rows, stored = rows[other], stored[other]
    shift = record.stored_keypoints[stored].astype(np.float64) - record.gt_keypoints[rows]
    scale = sides[rows, None] / np.iinfo(record.gt_keypoints.dtype).max
    distance[rows] = np.linalg.norm(shift * scale, axis=2)


def resampled_pixels(record: RunRecord, weights: npt.NDArray[np.integer[Any]]) -> dict[str, Float64]:
    """Compute the mean distance and the PCK on each resample of the images.

    Args:
        record: the run.
        weights: (D, I) how often each image counts.

    Returns:
        Name in results.csv → (D,) values; NaN for a resample in which nothing is measured.
    """
    errors = PixelErrors.from_record(record)
    measured = ~np.isnan(errors.distance)
    correct = [(errors.distance <= limit).sum(axis=1) for limit in PIXEL_LIMITS]
    per_instance = [np.nansum(errors.distance, axis=1), measured.sum(axis=1), *correct, errors.labeled.sum(axis=1)]
    images = weights.shape[1]
    per_image = np.stack([np.bincount(record.gt_image, values, minlength=images) for values in per_instance], axis=1)
    total, count, *correct, labeled = (weights @ per_image).T
    with np.errstate(divide="ignore", invalid="ignore"):
        pck = {f"pixels/PCK@{limit}px": row / labeled for limit, row in zip(PIXEL_LIMITS, correct, strict=True)}
        return {"pixels/mean": total / count, **pck}


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _median(values: Float64) -> float:
    return float(np.median(values)) if len(values) else float("nan")
