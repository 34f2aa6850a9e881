"""Bootstrap over images: confidence intervals of mAP and pixel errors, and the paired comparison of two runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError
from yolopose.evaluate.matching import BoolArray
from yolopose.evaluate.metric import Float64, Int64, average_precision
from yolopose.evaluate.pixels import PixelErrors, resampled_pixels
from yolopose.evaluate.record import Int32, RunRecord, load_record
from yolopose.results.tables import TableMixin

MAP_NAMES = ("mAP50(B)", "mAP50-95(B)", "mAP50(P)", "mAP50-95(P)")
"""Mean average precisions: B of boxes, P of poses."""
MAX_RESAMPLES = 1000
MIN_RESAMPLES = 200
_WORK_LIMIT = 60_000_000  # detections times resamples, about two seconds; larger sets get fewer resamples
_BLOCK = 2_000_000  # counts in memory at once


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its bootstrap confidence interval.

    Attributes:
        value: the value on the data set itself.
        low: lower end.
        high: upper end.
        level: share of the resamples between the ends.
        draws: number of resamples.
    """

    value: float
    low: float
    high: float
    level: float
    draws: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def num_resamples(record: RunRecord, draws: int | None = None) -> int:
    """Return `draws`, or by default 1000, and fewer (at least 200) for very many detections."""
    return draws or int(np.clip(_WORK_LIMIT // max(len(record.det_image), 1), MIN_RESAMPLES, MAX_RESAMPLES))


def resample_images(images: int, draws: int, seed: int) -> Int32:
    """Return (draws, images) how often each image occurs in resamples with replacement of the same size."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, max(images, 1), (draws, images), dtype=np.int32)
    flat = drawn + np.arange(draws)[:, None] * images
    return np.bincount(flat.reshape(-1), minlength=draws * images).reshape(draws, images).astype(np.int32)


def intervals(record: RunRecord, draws: int | None = None, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
    """Compute bootstrap intervals of the four `MAP_NAMES`, and of `pixels/mean` and `pixels/PCK@2px` … if measured.

    Args:
        record: the run.
        draws: number of resamples; None chooses by the number of detections.
        seed: of the resampling.
        level: share of the resamples within the interval.
    """
    images = len(record.image_names)
    resampled = resampled_scores(record, resample_images(images, num_resamples(record, draws), seed))
    original = resampled_scores(record, np.ones((1, images), np.int32))
    return {
        name: make_interval(float(value[0]), resampled[name], level, 0, _maximum(name))
        for name, value in original.items()
        if not np.isnan(value[0])
    }


def _maximum(name: str) -> float:
    """Return the largest possible value of a score."""
    return np.inf if name == "pixels/mean" else 1.0


def make_interval(
    value: float, resampled: Float64, level: float, minimum: float = -1.0, maximum: float = 1.0
) -> Interval:
    """Return the percentile interval of the resampled values, shifted so that their median is the value itself.

    The shift removes the bias of resampled APs: copies of an image agree with each other, which raises AP a little.

    Args:
        value: the value on the data set itself.
        resampled: (D,) the value on each resample; resamples with NaN are ignored.
        level: share of the resamples between the ends.
        minimum: smallest possible value.
        maximum: largest possible value.
    """
    tail = 50 * (1 - level)
    low, median, high = np.nanpercentile(resampled, [tail, 50, 100 - tail])
    ends = np.clip([value + low - median, value + high - median], minimum, maximum)
    return Interval(float(value), float(ends[0]), float(ends[1]), level, len(resampled))


def resampled_scores(record: RunRecord, weights: Int32) -> dict[str, Float64]:
    """Compute the four `MAP_NAMES` and the pixel errors on each resample; for the arguments see `resampled_maps`."""
    return {**resampled_maps(record, weights), **resampled_pixels(record, weights)}


def resampled_maps(record: RunRecord, weights: Int32) -> dict[str, Float64]:
    """Compute the four `MAP_NAMES` on each resample.

    Args:
        record: the run.
        weights: (D, I) how often each image counts.

    Returns:
        Name → (D,) mean over the classes that occur in the ground truth of the resample.
    """
    hits = np.concatenate((record.hits("box"), record.hits("pose")), axis=1)
    sums = np.zeros((hits.shape[1], len(weights)))
    num_classes = np.zeros(len(weights))
    for cls, rows in record.ranked.items():
        num_gt = weights[:, record.gt_image[record.gt_class == cls]].sum(axis=1)
        num_classes += num_gt > 0
        sums += _resampled_class_ap(weights, record.det_image[rows], hits[rows], num_gt)
    mean = (sums / np.maximum(num_classes, 1)).reshape(2, -1, len(weights))
    return {
        "mAP50(B)": mean[0, 0],
        "mAP50-95(B)": mean[0].mean(axis=0),
        "mAP50(P)": mean[1, 0],
        "mAP50-95(P)": mean[1].mean(axis=0),
    }


def _resampled_class_ap(weights: Int32, image: Int32, hits: BoolArray, num_gt: Int64) -> Float64:
    """Return (L, D) AP of one class by each of L kinds of hits; its detections are sorted by descending confidence."""
    result = np.zeros((hits.shape[1], len(weights)))
    hit_rows = np.flatnonzero(hits.any(axis=1))
    if not len(hit_rows):
        return result
    # detections below the last hit do not change AP
    image = image[: hit_rows[-1] + 1]
    hits = hits[hit_rows]
    step = max(1, _BLOCK // len(image))
    for start in range(0, len(weights), step):
        block = slice(start, start + step)
        # one row per detection, so that cumsum adds contiguous rows
        counts = np.ascontiguousarray(weights[block].T)[image]
        detections = np.cumsum(counts, axis=0, dtype=np.int32)[hit_rows]
        counts = counts[hit_rows]
        for level in range(hits.shape[1]):
            rows = np.flatnonzero(hits[:, level])
            tp = np.cumsum(counts[rows], axis=0, dtype=np.int32)
            result[level, block] = average_precision(tp, detections[rows], num_gt[block])
    return result


@dataclass(frozen=True, slots=True)
class Difference:
    """One score of two runs.

    Attributes:
        a: of the first run.
        b: of the second run.
        interval: of b - a, over the same resamples of images for both.
    """

    a: float
    b: float
    interval: Interval

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.interval.low > 0 or self.interval.high < 0


class Comparison(TableMixin):
    """The mean APs and pixel errors of two runs, and their paired differences.

    Attributes:
        differences: name in `MAP_NAMES`, `pixels/mean`, `pixels/PCK@2px` … → `Difference`; scores that only one run
            has are omitted.
        images: number of images.
        pixels: pixel errors of both runs.

    Examples:
        >>> from yolopose.evaluate import compare_runs
        >>> comparison = compare_runs("runs/pose/val", "runs/pose/val2")  # doctest: +SKIP
        >>> from yolopose.evaluate import Comparison, PixelErrors
        >>> import numpy as np
        >>> errors = PixelErrors(np.ones((1, 1), bool), np.ones((1, 1)), np.ones(1))
        >>> Comparison({}, images=1, pixels=(errors, errors)).summary()
        []
    """

    def __init__(
        self, differences: dict[str, Difference], images: int, pixels: tuple[PixelErrors, PixelErrors]
    ) -> None:
        self.differences = differences
        self.images = images
        self.pixels = pixels

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict per score: `Metric`, `A`, `B`, `Difference`, `Low`, `High`, `Significant`.

        Args:
            normalize: without effect.
            decimals: digits after the decimal point.
        """
        return [
            {
                "Metric": name,
                "A": round(difference.a, decimals),
                "B": round(difference.b, decimals),
                "Difference": round(difference.interval.value, decimals),
                "Low": round(difference.interval.low, decimals),
                "High": round(difference.interval.high, decimals),
                "Significant": difference.significant,
            }
            for name, difference in self.differences.items()
        ]

    def __str__(self) -> str:
        first = next(iter(self.differences.values())).interval
        lines = [
            f"{self.images} images; B - A with its {first.level:.0%} interval from {first.draws} paired resamples of "
            "the images:",
            f"{'Metric':>15}{'A':>9}{'B':>9}{'B - A':>10}   interval",
        ]
        for name, difference in self.differences.items():
            interval = difference.interval
            note = "" if difference.significant else "   (not significant)"
            lines.append(
                f"{name:>15}{difference.a:>9.4f}{difference.b:>9.4f}{interval.value:>+10.4f}   "
                f"[{interval.low:+.4f}, {interval.high:+.4f}]{note}"
            )
        if "pixels/mean" in self.differences:
            a, b = self.pixels
            lines += [
                "pixels/mean is the mean distance of keypoints from their labels: lower is better.",
                f"Of {a.num_labeled} labeled keypoints, {a.undetected} (A) and {b.undetected} (B) are undetected and "
                "have no distance.",
            ]
        return "\n".join(lines)


def compare_runs(a: str | Path, b: str | Path) -> Comparison:
    """Compare two runs of `val` on the same images by their run folders.

    Raises:
        NotFoundError: a folder has no record.
        DataError: a record is damaged, or the runs measured different sets.
    """
    return compare(load_record(a), load_record(b))


def compare(a: RunRecord, b: RunRecord, draws: int | None = None, seed: int = 0, level: float = 0.95) -> Comparison:
    """Compare two runs on the same resamples of images.

    Args:
        a: the first run.
        b: the second run.
        draws: number of resamples; None chooses by the number of detections.
        seed: of the resampling.
        level: share of the resamples within an interval.

    Raises:
        DataError: the runs measured different sets.
    """
    order = _align_images(a, b)
    draws = min(num_resamples(a, draws), num_resamples(b, draws))
    images = len(a.image_names)
    weights = resample_images(images, draws, seed)
    once = np.ones((1, images), np.int32)
    original_a, original_b = resampled_scores(a, once), resampled_scores(b, once)
    # images of b are resampled by the weights of the same images of a
    resampled_a, resampled_b = resampled_scores(a, weights), resampled_scores(b, weights[:, order])
    differences: dict[str, Difference] = {}
    for name in original_a:
        value_a, value_b = float(original_a[name][0]), float(original_b[name][0])
        if np.isnan(value_a + value_b):
            continue
        limit = _maximum(name)
        interval = make_interval(value_b - value_a, resampled_b[name] - resampled_a[name], level, -limit, limit)
        differences[name] = Difference(value_a, value_b, interval)
    return Comparison(differences, images, (PixelErrors.from_record(a), PixelErrors.from_record(b)))


def _align_images(a: RunRecord, b: RunRecord) -> Int32:
    """Return the index in `a` of each image of `b`.

    Raises:
        DataError: images or ground truth differ.
    """
    index_of = {name: index for index, name in enumerate(a.image_names)}
    common = sum(name in index_of for name in b.image_names)
    if not len(index_of) == len(a.image_names) == len(b.image_names) == common:
        raise DataError(
            f"The runs measured different sets: {len(a.image_names)} and {len(b.image_names)} images, {common} of them "
            "in both. Only runs on the same images can be compared: run val with the same data= and split= for both."
        )
    order = np.array([index_of[name] for name in b.image_names], dtype=np.int32)
    if _gt_keys(a, np.arange(len(a.image_names), dtype=np.int32)) != _gt_keys(b, order):
        raise DataError(
            "The runs measured the same images with different labels (or classes=…). Run val again for both."
        )
    return order


def _gt_keys(record: RunRecord, order: Int32) -> list[tuple[int, int, int]]:
    images = order[record.gt_image].tolist()
    return sorted(zip(images, record.gt_class.tolist(), record.gt_labeled.tolist(), strict=True))
