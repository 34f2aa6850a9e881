"""What training says about its results: a line after each epoch, a table and plain words at the end."""

from __future__ import annotations

from yolopose.base.progress import format_duration
from yolopose.evaluate import PoseMetrics
from yolopose.evaluate.console import table_head, table_rows

HEADER_EVERY = 10
"""Epochs after which the head lines stand once more."""
_NOTHING = 0.005  # an mAP50 that small is chance


def epoch_summary(metrics: PoseMetrics | None, images: int, left: float, *, head: bool) -> str:
    """Return what is said after an epoch: the row for all classes, and how long the rest will take.

    Args:
        metrics: of this epoch; None when it was not measured.
        images: how many were measured on.
        left: seconds that the epochs to come will take, as far as one can tell; 0 after the last.
        head: whether the head line comes first.
    """
    words = f"about {format_duration(left)} left" if left > 0 else ""
    if metrics is None:
        return words
    row = f"{table_rows(metrics, images)[0]}{words and '   ' + words}"
    return f"{table_head()}\n{row}" if head else row


def final_report(metrics: PoseMetrics, images: int, steps: int, *, fresh: bool = True) -> str:
    """Return the table of the best network, and what it usually means when there is nothing in it.

    Args:
        metrics: of the best network.
        images: how many were measured on.
        steps: of the optimizer in the whole run.
        fresh: whether the run began from fresh weights.
    """
    return "\n".join([table_head(), *table_rows(metrics, images), *_plain_words(metrics, steps, fresh)])


def _plain_words(metrics: PoseMetrics, steps: int, fresh: bool) -> list[str]:
    boxes, poses = (part.map50 >= _NOTHING for part in (metrics.box, metrics.pose))
    if boxes and poses:
        return []
    if boxes:
        what = "Boxes are found, but no pose fits yet (mAP of poses is 0): points are learned after boxes."
    else:
        what = "Nothing of this data set is found yet (mAP is 0)."
    above_all, start = "", ""
    if fresh:
        above_all = ", above all from fresh weights (a .yaml)"
        start = ", and start from trained weights (model=yolo11n-pose.pt)"
    return [
        f"{what} That is usual after few steps of the optimizer (here {steps}; thousands are the rule){above_all}: "
        f"train longer (epochs=100 and more){start}. If it stays so, look at train_batch0.jpg in the run folder: boxes "
        "and points must lie where they belong."
    ]
