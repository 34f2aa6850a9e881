"""The images of the page: which are the worst and the best, small copies of them, and where everything lies."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import YoloposeError
from yolopose.data.images import read_reduced
from yolopose.evaluate.errors import Kind
from yolopose.evaluate.places import unpacked
from yolopose.evaluate.record import Record

SIDE = 640
"""Longer side of the copies, pixels."""
_QUALITY = 72
_BEST = 3  # every so many-th image is one of the best, the others are of the worst


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How each of I images went, for poses, from a confidence on.

    Attributes:
        conf: the confidence.
        truths: (I,) objects.
        found: (I,) detections.
        hits: (I,) hits at OKS .50.
        f1: (I,) F1, the mean over OKS .50:.05:.95; 1 where there is nothing and nothing is found.
        order: (I,) images, the worst first.
    """

    conf: float
    truths: npt.NDArray[np.int64]
    found: npt.NDArray[np.int64]
    hits: npt.NDArray[np.int64]
    f1: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]


def rank(record: Record, conf: float) -> Ranking:
    """Rank the images of a run by their poses.

    Args:
        record: the run.
        conf: detections of less confidence do not count.
    """
    count = len(record.names)
    sure = record.score.astype(np.float64) >= conf
    truths = np.bincount(record.truth_image, minlength=count)
    found = np.bincount(record.image[sure], minlength=count)
    hit = record.hits("pose") & sure[:, None]
    each = np.stack([np.bincount(record.image[hit[:, level]], minlength=count) for level in range(hit.shape[1])])
    f1 = (2 * each / np.maximum(found + truths, 1)).mean(axis=0)
    f1[found + truths == 0] = 1.0
    wrong = found + truths - 2 * each[0]
    # among equals, the worst is where most is wrong, and the best where most is right
    order = np.lexsort((np.arange(count), truths, -wrong, f1))
    return Ranking(conf, truths, found, each[0], f1, order)


def chosen(ranking: Ranking, count: int) -> list[tuple[int, str]]:
    """Return images to show and what they are, `worst` or `best`, in the order in which they are to be kept."""
    telling = [int(i) for i in ranking.order if ranking.truths[i] + ranking.found[i]]
    best = [i for i in reversed(telling) if ranking.f1[i] > 0][: min(count, len(telling)) // _BEST]
    worst = [i for i in telling if i not in set(best)][: count - len(best)]
    shown: list[tuple[int, str]] = []
    for number in range(max(len(worst), len(best))):
        shown += [(i, "worst" if ranking.f1[i] < 1 else "best") for i in worst[number * 2 : number * 2 + 2]]
        shown += [(i, "best") for i in best[number : number + 1]]
    return shown


def table(record: Record, ranking: Ranking, limit: int) -> list[list[Any]]:
    """Return name, objects, detections, hits and F1 of images, the worst first, in `limit` characters or so."""
    rows: list[list[Any]] = []
    for index in ranking.order.tolist():
        numbers = (int(column[index]) for column in (ranking.truths, ranking.found, ranking.hits))
        rows.append([record.names[index], *numbers, round(float(ranking.f1[index]), 3)])
        limit -= len(record.names[index]) + 24
        if limit < 0:
            break
    return rows


def jpeg(root: Path, name: str, size: tuple[int, int]) -> str | None:
    """Return a small copy of an image as the text of a JPEG, or None where it is gone, broken, or another one.

    Args:
        root: folder of the data set.
        name: the image, as a path below it.
        size: the (height, width) that it had.
    """
    try:
        image, whole = read_reduced(root / name, SIDE)
    except (YoloposeError, OSError, ValueError):
        return None
    if tuple(whole or image.shape[:2]) != size:
        return None
    scale = min(SIDE / max(size), 1.0)
    small = cv2.resize(
        image, (max(round(size[1] * scale), 1), max(round(size[0] * scale), 1)), interpolation=cv2.INTER_AREA
    )
    fine, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return base64.b64encode(data.tobytes()).decode() if fine else None


def poses(record: Record, index: int) -> dict[str, Any]:
    """Return what is drawn on an image: its size, truths and detections, in pixels.

    A truth has its class `c`, box `b`, points `p` and their visibility `v`; a detection score `s`, the same, which
    truth it hits by IoU (`h`) and by OKS (`k`) of .50, and what became of its points (`e`) where it is paired.
    """
    height, width = record.size[index].tolist()
    return {
        "width": width,
        "height": height,
        "truth": list(_truths(record, index)),
        "found": list(_detections(record, index)),
    }


def _truths(record: Record, index: int) -> Iterator[dict[str, Any]]:
    for row in np.flatnonzero(record.truth_image == index).tolist():
        yield {
            "c": int(record.truth_cls[row]),
            "b": _pixels(record.truth_box[row], record.size[index]),
            "p": _pixels(record.truth_place[row], record.size[index]),
            "v": record.truth_seen[row].tolist(),
        }


def _detections(record: Record, index: int) -> Iterator[dict[str, Any]]:
    for place in np.flatnonzero(record.image[record.drawn] == index).tolist():
        row = int(record.drawn[place])
        pair = np.flatnonzero(record.pair_detection == row)
        kinds = (record.pair_kind[pair[0]] & 7).tolist() if len(pair) else None
        yield {
            "s": float(record.score[row]),  # not rounded: it is compared with thresholds
            "c": int(record.cls[row]),
            "b": _pixels(record.drawn_box[place], record.size[index]),
            "p": _pixels(record.drawn_place[place], record.size[index]),
            "v": (record.drawn_seen[place] / 255).round(2).tolist(),
            "h": int(record.box_hit[row, 0]),
            "k": int(record.pose_hit[row, 0]),
            "e": None if kinds is None else [0 if kind == Kind.UNLABELED else kind for kind in kinds],
        }


def _pixels(shares: npt.NDArray[np.uint16], size: npt.NDArray[np.int32]) -> list[float]:
    return unpacked(shares, size).reshape(-1).round(1).astype(float).round(1).tolist()
