"""Calibration of confidences: factor and offset on their logits, fitted to which detections and keypoints are correct.

Temperature scaling divides a logit by a temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML
2017); `affine` also adds an offset (Platt, 1999). Both minimize the cross entropy with Platt's smoothed targets, which
keeps the fit finite where all or none are correct.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError
from yolopose.evaluate.matching import BoolArray, KeypointOutcome
from yolopose.evaluate.metric import Float64, Int64
from yolopose.evaluate.plots import new_figure, save_figure
from yolopose.evaluate.predictions import PREDICTIONS_FILE
from yolopose.evaluate.record import RunRecord, run_spec
from yolopose.results.tables import TableMixin
from yolopose.schema import ConfidenceScale, ScalePair

BINS = 10
MIN_SAMPLES = 30
"""Fewest samples of a class or keypoint for a fit; with fewer, that of all together is used."""
_PARTS = 5  # of the images, each measured with the fit to the others
_MIN_FACTOR, _MAX_FACTOR = 0.05, 20.0
_EPS = 1e-6
_OUTCOME_MASK = 7
_CORRECT = (KeypointOutcome.GOOD, KeypointOutcome.JITTER)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Confidences of detections or keypoints, and which of them are correct.

    Attributes:
        conf: (n,) confidence 0…1.
        correct: (n,) bool.
        group: (n,) class or keypoint.
        image: (n,) image, for cross-fitting.
    """

    conf: Float64
    correct: BoolArray
    group: Int64
    image: Int64

    def select(self, rows: BoolArray) -> Samples:
        """Return some of the samples."""
        return Samples(self.conf[rows], self.correct[rows], self.group[rows], self.image[rows])


@dataclass(frozen=True, slots=True, eq=False)
class PartCalibration:
    """Calibration of boxes or of keypoints.

    Attributes:
        kind: `box` or `keypoint`.
        names: of the classes or keypoints.
        pairs: factor and offset of each; all 1 and 0 if calibration does not help.
        counts: number of samples of each.
        before: the samples.
        after: their calibrated confidences, each by a fit to other images.
        helps: whether the cross entropy of `after` is lower; otherwise nothing is changed.
    """

    kind: str
    names: tuple[str, ...]
    pairs: tuple[ScalePair, ...]
    counts: tuple[int, ...]
    before: Samples
    after: Float64
    helps: bool


class CalibrationResult(TableMixin):
    """Calibration of a network: factors, offsets, and errors before and after.

    Attributes:
        scale: what inference applies; None if it would change nothing.
        parts: boxes, and keypoints where the network predicts their confidence.
        save_dir: the run folder.
        weights: the written weights file.
    """

    def __init__(self, scale: ConfidenceScale | None, parts: Sequence[PartCalibration]) -> None:
        self.scale = scale
        self.parts = tuple(parts)
        self.save_dir: Path | None = None
        self.weights: Path | None = None

    @property
    def ece_before(self) -> dict[str, float]:
        """Expected calibration error of `box` and `keypoint` confidences."""
        return {part.kind: expected_error(part.before.conf, part.before.correct) for part in self.parts}

    @property
    def ece(self) -> dict[str, float]:
        """The same after calibration, on images that the fit did not use."""
        return {part.kind: expected_error(part.after, part.before.correct) for part in self.parts}

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return a row for all boxes, each class, all keypoints and each keypoint.

        Args:
            normalize: without effect.
            decimals: digits after the decimal point.
        """
        rows: list[dict[str, Any]] = []
        for part in self.parts:
            samples = part.before
            everything = np.ones(len(samples.conf), np.bool_)
            selections = [("all", everything, None), *_groups(part)]
            for name, selected, pair in selections:
                count = int(selected.sum())
                rows.append(
                    {
                        "Confidence": part.kind,
                        "Of": name,
                        "Samples": count,
                        "Correct": round(float(samples.correct[selected].mean()), decimals) if count else float("nan"),
                        "Temperature": "" if pair is None else round(1 / pair[0], decimals),
                        "Offset": "" if pair is None else round(pair[1], decimals),
                        "ECE-before": _rounded_error(samples.conf[selected], samples.correct[selected], decimals),
                        "ECE-after": _rounded_error(part.after[selected], samples.correct[selected], decimals),
                    }
                )
        return rows

    def reliability(self, kind: str) -> list[dict[str, float]]:
        """Return the reliability table of `box` or `keypoint`: one row per bin of confidence and state."""
        part = next(part for part in self.parts if part.kind == kind)
        rows: list[dict[str, float]] = []
        for state, conf in (("before", part.before.conf), ("after", part.after)):
            for index, (count, mean, share) in enumerate(
                zip(*reliability_bins(conf, part.before.correct), strict=True)
            ):
                row: dict[str, Any] = {"State": state, "From": index / BINS, "To": (index + 1) / BINS}
                rows.append({**row, "Samples": int(count), "Confidence": float(mean), "Correct": float(share)})
        return rows


def _groups(part: PartCalibration) -> list[tuple[str, BoolArray, ScalePair]]:
    pairs = zip(part.names, part.pairs, strict=True)
    return [(name, part.before.group == index, pair) for index, (name, pair) in enumerate(pairs)]


def calibrate_record(
    record: RunRecord, keypoint_conf: Float64 | None, *, method: str, conf: float, end2end: bool
) -> CalibrationResult:
    """Fit the calibration of a network to the detections of a run.

    A box is correct if it matches a ground truth of its class by IoU .50. A keypoint of such a box is correct if it is
    labeled and its similarity with the label, as in OKS, is at least .50.

    Args:
        record: the run.
        keypoint_conf: (M, K) confidence of the keypoints of each detection; None where the network predicts none.
        method: `temperature` or `affine`.
        conf: lowest confidence of the detections that are used.
        end2end: whether the detections are those of the NMS-free output.

    Raises:
        DataError: too few detections.
    """
    spec = run_spec(record)
    names = tuple(record.run_info["names"])
    used = record.det_score > conf
    boxes = Samples(
        record.det_score.astype(np.float64),
        record.hits("box")[:, 0],
        record.det_class.astype(np.int64),
        record.det_image.astype(np.int64),
    ).select(used)
    if len(boxes.conf) < MIN_SAMPLES or len(np.unique(boxes.image)) < 2:
        raise DataError(
            f"Calibration needs at least {MIN_SAMPLES} detections in two images with a confidence above {conf:g}, and "
            f"there are {len(boxes.conf)}: use more images (split=), or a lower min_conf=."
        )
    parts = [_calibrate("box", names, boxes, method)]
    if keypoint_conf is not None:
        samples = _keypoint_samples(record, keypoint_conf, used)
        if len(samples.conf) >= MIN_SAMPLES and len(np.unique(samples.image)) > 1:
            parts.append(_calibrate("keypoint", spec.keypoints.keypoint_names(0), samples, method))
    box = parts[0].pairs if len(names) == spec.nc else parts[0].pairs * spec.nc  # single_cls measures one class
    points = parts[1].pairs if len(parts) > 1 and parts[1].helps else ()
    scale = ConfidenceScale(classes=box, keypoints=points, end2end=end2end)
    return CalibrationResult(scale if any(part.helps for part in parts) else None, parts)


def _keypoint_samples(record: RunRecord, keypoint_conf: Float64, used: BoolArray) -> Samples:
    """Return the keypoints of the detections that match a ground truth."""
    pairs = used[record.pair_det]
    conf = keypoint_conf[record.pair_det[pairs]]
    outcome = record.pair_outcome[pairs] & _OUTCOME_MASK
    keypoint = np.broadcast_to(np.arange(conf.shape[1]), conf.shape)
    image = np.broadcast_to(record.det_image[record.pair_det[pairs]][:, None], conf.shape)
    known = np.isfinite(conf)
    return Samples(
        conf[known].astype(np.float64),
        np.isin(outcome, _CORRECT)[known],
        keypoint[known].astype(np.int64),
        image[known].astype(np.int64),
    )


def _calibrate(kind: str, names: Sequence[str], samples: Samples, method: str) -> PartCalibration:
    count = len(names)
    images = np.unique(samples.image, return_inverse=True)[1]
    part_idx = images % min(_PARTS, int(images.max()) + 1)
    after = samples.conf.copy()
    for part in np.unique(part_idx):
        pairs = fit_groups(samples.select(part_idx != part), count, method)
        rows = part_idx == part
        after[rows] = apply_pairs(samples.conf[rows], samples.group[rows], pairs)
    helps = cross_entropy(after, samples.correct) < cross_entropy(samples.conf, samples.correct)
    pairs = fit_groups(samples, count, method) if helps else ((1.0, 0.0),) * count
    counts = np.bincount(samples.group, minlength=count)
    return PartCalibration(
        kind, tuple(names), pairs, tuple(counts.tolist()), samples, after if helps else samples.conf, helps
    )


def fit_groups(samples: Samples, count: int, method: str) -> tuple[ScalePair, ...]:
    """Fit factor and offset of each of `count` classes or keypoints; those with few samples share one fit.

    Args:
        samples: at least one.
        count: number of classes or keypoints.
        method: `temperature` or `affine`.
    """
    shared = fit_pair(samples.conf, samples.correct, method)
    pairs: list[ScalePair] = []
    for index in range(count):
        rows = samples.group == index
        enough = int(rows.sum()) >= MIN_SAMPLES
        pairs.append(fit_pair(samples.conf[rows], samples.correct[rows], method) if enough else shared)
    return tuple(pairs)


def fit_pair(conf: Float64, correct: BoolArray, method: str) -> ScalePair:
    """Return the factor and offset on the logits that minimize the cross entropy.

    Args:
        conf: (n,) confidences 0…1.
        correct: (n,) bool.
        method: `temperature` (the offset is 0) or `affine`.
    """
    z = logits(conf)
    positives = int(correct.sum())
    negatives = len(correct) - positives
    target = np.where(correct, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    factor, offset = _fit_factor(z, target, 0.0), 0.0
    if method == "affine":
        for _ in range(100):  # the loss is convex in both, so that alternating converges
            previous = factor, offset
            offset = _bisect(lambda value, a=factor: float((_sigmoid(a * z + value) - target).mean()), -20.0, 20.0)
            factor = _fit_factor(z, target, offset)
            if abs(factor - previous[0]) + abs(offset - previous[1]) < 1e-6:
                break
    return factor, offset


def _fit_factor(z: Float64, target: Float64, offset: float) -> float:
    def slope(log_factor: float) -> float:
        return float(((_sigmoid(np.exp(log_factor) * z + offset) - target) * z).mean())

    return float(np.exp(_bisect(slope, float(np.log(_MIN_FACTOR)), float(np.log(_MAX_FACTOR)))))


def _bisect(slope: Any, low: float, high: float) -> float:
    """Return where an ascending function is 0, or the end that is nearer to it."""
    for _ in range(60):
        middle = (low + high) / 2
        if slope(middle) > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def logits(conf: Float64) -> Float64:
    """Return log(p / (1 - p)) of confidences, which are first limited to [1e-6, 1 - 1e-6]."""
    limited = np.clip(conf, _EPS, 1 - _EPS)
    return np.log(limited / (1 - limited))


def apply_pairs(conf: Float64, group: Int64, pairs: Sequence[ScalePair]) -> Float64:
    """Return the calibrated confidences of samples of these classes or keypoints."""
    factor, offset = np.array(pairs, dtype=np.float64)[group].T
    return _sigmoid(factor * logits(conf) + offset)


def _sigmoid(z: Float64) -> Float64:
    return 0.5 * (1 + np.tanh(z / 2))


def cross_entropy(conf: Float64, correct: BoolArray) -> float:
    """Return the mean cross entropy, in nats."""
    limited = np.clip(conf, _EPS, 1 - _EPS)
    return float(-np.where(correct, np.log(limited), np.log(1 - limited)).mean())


def reliability_bins(conf: Float64, correct: BoolArray) -> tuple[Int64, Float64, Float64]:
    """Return count, mean confidence and share of correct samples in `BINS` equal bins of confidence; NaN if empty."""
    bin_idx = np.clip((conf * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(bin_idx, minlength=BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(bin_idx, conf, BINS) / count
        share = np.bincount(bin_idx, correct, BINS) / count
    return count, mean, share


def expected_error(conf: Float64, correct: BoolArray) -> float:
    """Return the expected calibration error 0…1: the mean of |share of correct - confidence| over the samples' bins."""
    count, mean, share = reliability_bins(conf, correct)
    return float(np.nansum(count * np.abs(share - mean)) / max(len(conf), 1))


def _rounded_error(conf: Float64, correct: BoolArray, decimals: int) -> float:
    return round(expected_error(conf, correct), decimals) if len(conf) else float("nan")


def stored_keypoint_conf(run: Path, record: RunRecord) -> Float64 | None:
    """Return (M, K) keypoint confidences that a run folder stores; NaN where unknown, None if there are none.

    They are those of `predictions.json` (4 digits) if it belongs to the record, else those of the record (8 bits).
    """
    if run_spec(record).keypoints.dims != 3:
        return None
    keypoints = record.gt_visibility.shape[1]
    path = run / PREDICTIONS_FILE
    if path.is_file():
        rows = json.loads(path.read_text(encoding="utf-8"))
        if len(rows) == len(record.det_score):
            values = np.array([row["keypoints"][2::3] for row in rows], np.float64).reshape(-1, keypoints)
            scores = np.array([row["score"] for row in rows])
            if np.allclose(scores, record.det_score, atol=2e-5):
                return np.clip(values, 5e-5, 1 - 5e-5)
    conf = np.full((len(record.det_score), keypoints), np.nan)
    conf[record.stored_det] = np.clip(record.stored_conf / 255, 1 / 1020, 1 - 1 / 1020)
    return conf


def plot_reliability(result: CalibrationResult, path: Path) -> None:
    """Draw the share of correct detections and keypoints over their confidence, before and after."""
    figure = new_figure(5 * len(result.parts), 4.5)
    if figure is None:
        return
    axes_list: npt.NDArray[Any] = np.atleast_1d(figure.subplots(1, len(result.parts)))
    for axes, part in zip(axes_list, result.parts, strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
        for label, conf, color in (("before", part.before.conf, "#b3541e"), ("after", part.after, "#0b2a6f")):
            _, mean, share = reliability_bins(conf, part.before.correct)
            error = expected_error(conf, part.before.correct)
            axes.plot(mean, share, marker="o", color=color, label=f"{label}, ECE {error:.3f}")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct", title=f"{part.kind} confidence")
        axes.legend()
    save_figure(figure, path)
