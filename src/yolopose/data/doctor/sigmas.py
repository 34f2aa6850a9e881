"""σ of each keypoint for OKS: suggested from repeated annotations or from the scatter of shapes, and its effect.

COCO measures σ² = E[d²/s²] with d the distance of an annotation from the true position and s² the area of the instance
(cocodataset.org/#keypoints-eval). The difference between two annotators has twice that variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.shapes import point_deviations
from yolopose.geometry import INSTANCE_AREA_SHARE
from yolopose.schema import COCO_PERSON_SIGMAS

FloatArray = npt.NDArray[np.float64]
MIN_REPEATS = 10
"""Fewest repeated annotations of a keypoint from which its σ is measured."""

_MIN_SCATTER = 30  # instances
_MAX_INSTANCES = 400
_RANGE = (min(COCO_PERSON_SIGMAS), max(COCO_PERSON_SIGMAS))
_MEAN = float(np.mean(COCO_PERSON_SIGMAS))
ERRORS = (0.02, 0.05, 0.1)
"""Localization errors for which the effect of σ is shown, as a share of the root of the instance's area."""


@dataclass(frozen=True, slots=True)
class SigmaSuggestion:
    """σ of each keypoint and where it comes from (`repeated annotations` or `scatter`).

    Attributes:
        sigmas: (K,) values; those of keypoints without data are the mean of the others.
        source: `repeated` or `scatter`.
        count: annotations, or instances, that were compared.
    """

    sigmas: tuple[float, ...]
    source: str
    count: int


def suggest_from_repeats(distances: FloatArray) -> SigmaSuggestion | None:
    """Measure σ from repeated annotations.

    Args:
        distances: (n, K) distance between two annotations of one keypoint, divided by the root of the instance's area;
            NaN where one of them is missing.
    """
    counts = np.isfinite(distances).sum(axis=0) if len(distances) else np.zeros(0)
    enough = counts >= MIN_REPEATS
    if not enough.any():
        return None
    squared = np.where(np.isfinite(distances), distances, 0.0) ** 2
    sigmas = np.sqrt(squared.sum(axis=0) / np.maximum(counts, 1) / 2)
    sigmas = np.where(enough, sigmas, sigmas[enough].mean())
    return SigmaSuggestion(_rounded(np.clip(sigmas, 0.005, 0.3)), "repeated", int(counts.sum()))


def suggest_from_scatter(
    shapes: npt.NDArray[np.complex128], labeled: npt.NDArray[np.bool_], scales: FloatArray
) -> SigmaSuggestion | None:
    """Estimate the relative precision of keypoints from their scatter around similar instances.

    Each shape is aligned with its most similar ones; the deviation of a keypoint from their median is an upper bound
    of its annotation noise. Since the real variation of poses is included, only the ratios between keypoints are used:
    the values are scaled to the mean of the COCO person σ and limited to their range.

    Args:
        shapes: (N, K) points in pixels.
        labeled: (N, K).
        scales: (N,) root of the instances' areas, pixels.
    """
    rows = np.flatnonzero((labeled.sum(axis=1) >= 3) & (scales > 0))
    if len(rows) < _MIN_SCATTER:
        return None
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_INSTANCES)).astype(np.int64)]
    table = point_deviations(shapes[rows], labeled[rows], scales[rows])
    compared = int(np.isfinite(table).any(axis=1).sum())
    known = np.isfinite(table).sum(axis=0) >= _MIN_SCATTER // 2
    if compared < _MIN_SCATTER or not known.any():
        return None
    values = np.array([np.nanmedian(table[:, k]) if known[k] else np.nan for k in range(table.shape[1])])
    values = np.where(known, values, np.nanmean(values))
    sigmas = np.clip(values * _MEAN / max(float(values.mean()), 1e-9), *_RANGE)
    return SigmaSuggestion(_rounded(sigmas), "scatter", compared)


def _rounded(sigmas: FloatArray) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in sigmas)


def instance_scale(width: FloatArray, height: FloatArray) -> FloatArray:
    """Return the root of the area that OKS uses for a box in pixels."""
    return np.sqrt(INSTANCE_AREA_SHARE * width * height)


def map_at_error(sigmas: Sequence[float] | FloatArray, error: float) -> float:
    """Return the pose mAP50-95 of a network that detects everything and whose keypoints are all off by one distance.

    Args:
        sigmas: (K,) σ.
        error: the distance as a share of the root of the instance's area.
    """
    similarity = np.exp(-(error**2) / (2 * (2 * np.asarray(sigmas)) ** 2)).mean()
    thresholds = np.arange(0.5, 0.96, 0.05)
    return float((similarity >= thresholds - 1e-9).mean())


def effect_table(sigmas: Sequence[float] | FloatArray) -> dict[str, float]:
    """Return `map_at_error` for the errors of `ERRORS`: `{"2 %": 1.0, …}`."""
    return {f"{100 * error:g} %": round(map_at_error(sigmas, error), 2) for error in ERRORS}
