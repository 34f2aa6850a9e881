"""What training says about its results: a line after each epoch, a table and plain words at the end."""

from __future__ import annotations

from yolopose.base.progress import in_words
from yolopose.evaluate import PoseMetrics
from yolopose.evaluate.report import table_head, table_rows

HEAD_EVERY = 10
"""Epochs after which the head lines stand once more."""
_NOTHING = 0.005  # an mAP50 that small is chance


def epoch_lines(metrics: PoseMetrics | None, pictures: int, left: float, *, head: bool) -> str:
    """Returns what is said after an epoch: the row for all classes, and how long the rest will take.

    Args:
        metrics: of this epoch; None when it was not measured.
        pictures: how many were measured on.
        left: seconds that the epochs to come will take, as far as one can tell; 0 after the last.
        head: whether the head line comes first.
    """
    words = f"about {in_words(left)} left" if left > 0 else ""
    if metrics is None:
        return words
    row = f"{table_rows(metrics, pictures)[0]}{words and '   ' + words}"
    return f"{table_head()}\n{row}" if head else row


def final_lines(metrics: PoseMetrics, pictures: int, steps: int) -> str:
    """Returns the table of the best network, and what it usually means when there is nothing in it.

    Args:
        metrics: of the best network.
        pictures: how many were measured on.
        steps: of the optimiser in the whole run.
    """
    return "\n".join([table_head(), *table_rows(metrics, pictures), *_plain_words(metrics, steps)])


def _plain_words(metrics: PoseMetrics, steps: int) -> list[str]:
    boxes, poses = (part.map50 >= _NOTHING for part in (metrics.box, metrics.pose))
    if boxes and poses:
        return []
    if boxes:
        what = "Boxes are found, but no pose fits yet (mAP of poses is 0): points are learned after boxes."
    else:
        what = "Nothing was learned yet (mAP is 0)."
    return [
        f"{what} That is usual after few steps of the optimiser (here {steps}; thousands are the rule), above all from "
        "fresh weights (a .yaml): train longer (epochs=100 and more), and start from trained weights "
        "(model=yolo11n-pose.pt). If it stays so, look at train_batch0.jpg in the run folder: boxes and points must "
        "lie where they belong."
    ]
