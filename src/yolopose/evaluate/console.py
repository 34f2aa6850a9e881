"""Lines that validation logs: the table of scores, the details below it, and the COCO table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolopose.evaluate.coco import BOX_SCORES, KEYPOINT_SCORES
from yolopose.evaluate.diagnostics import PCK_LIMITS, KeypointTable
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.visibility import STATES

_HEADER = ("Class", "Images", "Instances", "Box(P", "R", "mAP50", "mAP50-95)", "Pose(P", "R", "mAP50", "mAP50-95)")
_KEYPOINT_COLUMNS = ("OKS", *(f"PCK@{limit:g}" for limit in PCK_LIMITS), "Mean", "Median", "Visibility", "Inverted")
_MAX_KEYPOINT_ROWS = 40
_SHOWN_INTERVALS = ("mAP50-95(B)", "mAP50-95(P)", "pixels/mean")


def table_head() -> str:
    """Return the header: `Class Images Instances Box(P R mAP50 mAP50-95) Pose(P R mAP50 mAP50-95)`."""
    return f"{_HEADER[0]:>22}" + "".join(f"{name:>11}" for name in _HEADER[1:])


def table_rows(metrics: PoseMetrics, num_images: int) -> list[str]:
    """Return the row of all classes, and one per class if there are several.

    Args:
        metrics: the scores.
        num_images: number of measured images.
    """
    rows = [_table_row("all", num_images, int(metrics.nt_per_class.sum()), metrics.mean_results())]
    if len(metrics.names) > 1:
        for i, cls in enumerate(metrics.ap_class_index.tolist()):
            images, instances = int(metrics.nt_per_image[cls]), int(metrics.nt_per_class[cls])
            rows.append(_table_row(metrics.names[cls], images, instances, metrics.class_result(i)))
    return rows


def _table_row(name: str, images: int, instances: int, values: Sequence[float]) -> str:
    return f"{name[:22]:>22}{images:>11}{instances:>11}" + "".join(f"{value:>11.3g}" for value in values)


def pixel_lines(metrics: PoseMetrics) -> list[str]:
    """Return the line of keypoint errors in pixels; nothing if no keypoint is labeled."""
    return [f"Keypoint error: {metrics.pixels}"] if metrics.pixels.num_labeled else []


def visibility_lines(metrics: PoseMetrics) -> list[str]:
    """Return the table of the states of keypoints; nothing if the network distinguishes two states only."""
    scores = metrics.visibility
    if scores is None:
        return []
    lines = [
        f"Visibility, mean accuracy {scores.mean:.3f}; keypoints of detected instances, rows as labeled:",
        f"{'':>10}{'Keypoints':>11}{'Accuracy':>11}" + "".join(f"{name:>11}" for name in STATES),
    ]
    for row in scores.summary():
        counts = "".join(f"{row[name]:>11}" for name in STATES)
        lines.append(f"{row['State']:>10}{row['Keypoints']:>11}{row['Accuracy']:>11.3f}{counts}")
    return lines


def speed_line(metrics: PoseMetrics) -> str:
    """Return the line of milliseconds per image."""
    phases = (f"{value:.1f}ms {name}" for name, value in metrics.speed.items())
    return f"Speed: {', '.join(phases)} per image"


def detail_lines(metrics: PoseMetrics) -> list[str]:
    """Return intervals, scores of each keypoint (up to 40), keypoint errors and the best confidence threshold."""
    intervals = metrics.intervals
    values = ", ".join(f"{name} {intervals[name]}" for name in _SHOWN_INTERVALS if name in intervals)
    first = next(iter(intervals.values()))
    lines = [f"{first.level:.0%} intervals ({first.draws} bootstrap resamples of the images): {values}"]
    if len(metrics.keypoints.rows) <= _MAX_KEYPOINT_ROWS:
        lines += _keypoint_lines(metrics.keypoints)
    errors = metrics.errors
    counts = (f"{name} {errors.points[name]} ({cost:+.3f})" for name, cost in errors.cost.items())
    lines.append(f"Keypoint errors (gain in pose mAP50-95 if corrected): {', '.join(counts)}")
    calibration = metrics.reliability("pose")
    lines.append(
        f"Confidence: best pose F1 {calibration.best_f1:.3f} at conf={calibration.best_conf:.3f}; expected calibration "
        f"error {calibration.ece:.3f}"
    )
    return lines


def _keypoint_lines(table: KeypointTable) -> list[str]:
    width = max([8, *(len(row["Keypoint"]) for row in table.rows)])
    share = table.num_pairs / max(table.num_gt, 1)
    lines = [
        f"Keypoints of the {table.num_pairs} instances ({share:.0%}) whose box was detected; "
        "Mean and Median in pixels, counted as above:",
        f"{'Keypoint':>{width}}{'Labeled':>10}" + "".join(f"{name:>12}" for name in _KEYPOINT_COLUMNS),
    ]
    for row in table.rows:
        # x == x is False for NaN
        values = (f"{row[name]:>12.3g}" if row[name] == row[name] else f"{'-':>12}" for name in _KEYPOINT_COLUMNS)
        lines.append(f"{row['Keypoint']:>{width}}{row['Labeled']:>10}{''.join(values)}")
    return lines


def coco_lines(scores: Mapping[str, float], source: str) -> list[str]:
    """Return the table of the COCO protocol.

    Args:
        scores: from `score_coco`.
        source: where the ground truth comes from.
    """
    lines = [f"COCO protocol, ground truth from {source}:"]
    for title, names, letter in (("boxes", BOX_SCORES, "B"), ("keypoints", KEYPOINT_SCORES, "P")):
        values = (scores[f"{name}({letter})"] for name in names)
        lines.append(" " * 10 + "".join(f"{name:>8}" for name in names))
        lines.append(f"{title:>10}" + "".join(f"{value:>8.3f}" if value >= 0 else f"{'-':>8}" for value in values))
    return lines
