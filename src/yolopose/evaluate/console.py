"""The table that validation prints: one row for all classes, one for each when there are several."""

from __future__ import annotations

from yolopose.evaluate.metrics import PoseMetrics

_KEYPOINTS = 40  # more make no short table
_HEADS = ("Class", "Images", "Instances", "Box(P", "R", "mAP50", "mAP50-95)", "Pose(P", "R", "mAP50", "mAP50-95)")


def table_head() -> str:
    """Return the head line: `Class Images Instances Box(P R mAP50 mAP50-95) Pose(P R mAP50 mAP50-95)`."""
    return f"{_HEADS[0]:>22}" + "".join(f"{head:>11}" for head in _HEADS[1:])


def table_rows(metrics: PoseMetrics, imgs: int) -> list[str]:
    """Return the lines below the head.

    Args:
        metrics: the scored run.
        imgs: how many images it saw.
    """
    rows = [_row("all", imgs, int(metrics.nt_per_class.sum()), metrics.mean_results())]
    if len(metrics.names) > 1:
        for i, index in enumerate(metrics.ap_class_index):
            images, instances = int(metrics.nt_per_image[index]), int(metrics.nt_per_class[index])
            rows.append(_row(metrics.names[int(index)], images, instances, metrics.class_result(i)))
    return rows


def detail_lines(metrics: PoseMetrics) -> list[str]:
    """Return what stands below the table: intervals, errors, each keypoint (up to 40 of them), the best confidence."""
    found = metrics.intervals
    shown = ", ".join(f"{name} {found[name]}" for name in ("mAP50-95(B)", "mAP50-95(P)"))
    first = next(iter(found.values()))
    lines = [f"Intervals ({first.level:.0%}, {first.draws} draws of the images): {shown}"]
    if len(metrics.keypoints.rows) <= _KEYPOINTS:
        lines += metrics.keypoints.lines()
    errors = metrics.errors
    parts = (f"{name} {errors.points[name]} ({cost:+.3f})" for name, cost in errors.cost.items())
    lines.append(f"Errors of points (pose mAP50-95 if mended): {', '.join(parts)}")
    best = metrics.reliability("pose")
    lines.append(
        f"Confidence: best F1 of poses {best.best_f1:.3f} from conf={best.best_conf:.3f} on; calibration error "
        f"{best.ece:.3f}"
    )
    return lines


def speed_line(metrics: PoseMetrics) -> str:
    """Return the line of milliseconds per image."""
    parts = (f"{value:.1f}ms {name}" for name, value in metrics.speed.items())
    return f"Speed: {', '.join(parts)} per image"


def _row(name: str, images: int, instances: int, values: list[float] | tuple[float, ...]) -> str:
    return f"{name[:22]:>22}{images:>11}{instances:>11}" + "".join(f"{value:>11.3g}" for value in values)
