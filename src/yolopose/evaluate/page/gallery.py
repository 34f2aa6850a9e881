"""The images of the page: ranking by F1, selection of the worst and best, thumbnails and poses."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.data.images import read_reduced
from yolopose.data.paths import resolve_under
from yolopose.evaluate.diagnostics import OUTCOME_MASK
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page.content import Json, embedded_json, figure_schema
from yolopose.evaluate.record import RunRecord, dequantize
from yolopose.evaluate.record_builder import STORED_CONF

SIDE = 640
"""Longer side of the thumbnails, pixels."""
_JPEG_QUALITY = 72
_BEST_INTERVAL = 3  # every third image is one of the best, the others are of the worst
_MAX_LIST_CHARACTERS = 1_200_000  # of the list of all images


@dataclass(frozen=True, slots=True, eq=False)
class ImageRanking:
    """Pose scores of each of I images at a confidence threshold.

    Attributes:
        conf: the threshold.
        num_gt: (I,) ground truths.
        num_detections: (I,) detections.
        tp: (I,) true positives at OKS .50.
        f1: (I,) mean F1 over OKS .50:.05:.95; 1 without ground truth and detections.
        order: (I,) images, the worst first.
    """

    conf: float
    num_gt: npt.NDArray[np.int64]
    num_detections: npt.NDArray[np.int64]
    tp: npt.NDArray[np.int64]
    f1: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]


def rank_images(record: RunRecord, conf: float) -> ImageRanking:
    """Rank the images of a run by the F1 of their poses, counting detections with a confidence of at least `conf`."""
    num_images = len(record.image_names)
    keep = record.det_score.astype(np.float64) >= conf
    num_gt = np.bincount(record.gt_image, minlength=num_images)
    num_detections = np.bincount(record.det_image[keep], minlength=num_images)
    hits = record.hits("pose") & keep[:, None]
    tp = np.stack([np.bincount(record.det_image[level], minlength=num_images) for level in hits.T])
    total = num_detections + num_gt
    f1 = (2 * tp / np.maximum(total, 1)).mean(axis=0)
    f1[total == 0] = 1.0
    num_errors = total - 2 * tp[0]
    # ties: the worst have the most errors, the best the most ground truths
    order = np.lexsort((np.arange(num_images), num_gt, -num_errors, f1))
    return ImageRanking(conf, num_gt, num_detections, tp[0], f1, order)


def select_images(ranking: ImageRanking, count: int) -> list[tuple[int, str]]:
    """Return images to show, each `worst` or `best`, by descending priority."""
    nonempty = [int(i) for i in ranking.order if ranking.num_gt[i] + ranking.num_detections[i]]
    best = [i for i in reversed(nonempty) if ranking.f1[i] > 0][: min(count, len(nonempty)) // _BEST_INTERVAL]
    worst = [i for i in nonempty if i not in set(best)][: count - len(best)]
    selected: list[tuple[int, str]] = []
    for number in range(max(len(worst), len(best))):
        selected += [(i, "worst" if ranking.f1[i] < 1 else "best") for i in worst[number * 2 : number * 2 + 2]]
        selected += [(i, "best") for i in best[number : number + 1]]
    return selected


def make_gallery(metrics: PoseMetrics, ranking: ImageRanking) -> Json:
    """Return the data of the section of images, without cards."""
    spec = metrics.spec
    return {
        "conf": ranking.conf,
        "stored_conf": STORED_CONF,
        "all": _image_list(metrics.record, ranking),
        "num_images": len(metrics.record.image_names),
        "edges": [list(edge) for edge in figure_schema(spec.keypoints, spec.names, 0)[0].skeleton],
        "keypoint_names": [spec.keypoints.keypoint_names(index) for index in range(spec.nc)],
        "class_names": [metrics.names[index] for index in sorted(metrics.names)],
        "cards": [],
        "num_missing": 0,
        "num_omitted": 0,
    }


def add_cards(
    gallery: Json, record: RunRecord, ranking: ImageRanking, count: int, max_bytes: int, *, foreign: bool = False
) -> None:
    """Add the worst and the best images to a gallery, as many as fit.

    Args:
        gallery: from `make_gallery`.
        record: the run.
        ranking: its images.
        count: number of images at most.
        max_bytes: size of all cards at most.
        foreign: whether the record comes from a file, whose names must not leave the root of the data set.
    """
    root = Path(record.run_info["root"])
    rank_of = {index: rank for rank, index in enumerate(ranking.order.tolist())}
    selected = select_images(ranking, count)
    for index, label in selected:
        height, width = record.image_size[index].tolist()
        card: Json = {
            "rank": rank_of[index],
            "name": record.image_names[index],
            "label": label,
            "width": width,
            "height": height,
            "jpeg": _thumbnail(root, record.image_names[index], (height, width), foreign),
            "gt": list(_gt_entries(record, index)),
            "detections": list(_stored_detections(record, index)),
        }
        max_bytes -= len(embedded_json(card)) + 1
        if max_bytes < 0:
            gallery["num_omitted"] = len(selected) - len(gallery["cards"])
            break
        gallery["num_missing"] += card["jpeg"] is None
        gallery["cards"].append(card)
    if gallery["num_missing"]:
        LOGGER.warning(
            f"{gallery['num_missing']} of the {len(gallery['cards'])} images of the report are missing under {root}, "
            "unreadable, or changed since the run. The report shows their poses without the image."
        )


def _thumbnail(root: Path, name: str, size: tuple[int, int], foreign: bool) -> str | None:
    try:
        path = resolve_under(root, name) if foreign else root / name
    except DataError:
        return None
    return thumbnail(path, size)


def _image_list(record: RunRecord, ranking: ImageRanking) -> list[list[Any]]:
    """Return name, ground truths, detections, true positives and F1 of images, the worst first, up to a size limit."""
    rows: list[list[Any]] = []
    remaining = _MAX_LIST_CHARACTERS
    for index in ranking.order.tolist():
        name = record.image_names[index]
        counts = (int(column[index]) for column in (ranking.num_gt, ranking.num_detections, ranking.tp))
        rows.append([name, *counts, round(float(ranking.f1[index]), 3)])
        remaining -= len(name) + 24
        if remaining < 0:
            break
    return rows


def thumbnail(path: Path, size: tuple[int, int]) -> str | None:
    """Return a small copy of an image as base64 JPEG; None if it is missing, unreadable, or not of `size` any more.

    Args:
        path: the image.
        size: (height, width) at the time of the run.
    """
    try:
        image, original_size = read_reduced(path, SIDE)
    except (YoloposeError, OSError, ValueError):
        return None
    if tuple(original_size or image.shape[:2]) != size:
        return None
    scale = min(SIDE / max(size), 1.0)
    width, height = (max(round(side * scale), 1) for side in (size[1], size[0]))
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return base64.b64encode(data.tobytes()).decode() if ok else None


def _gt_entries(record: RunRecord, image: int) -> Iterator[Json]:
    size = record.image_size[image]
    for row in np.flatnonzero(record.gt_image == image).tolist():
        yield {
            "cls": int(record.gt_class[row]),
            "box": _pixels(record.gt_box[row], size),
            "points": _pixels(record.gt_keypoints[row], size),
            "conf": record.gt_visibility[row].tolist(),
        }


def _stored_detections(record: RunRecord, image: int) -> Iterator[Json]:
    size = record.image_size[image]
    for stored in np.flatnonzero(record.det_image[record.stored_det] == image).tolist():
        row = int(record.stored_det[stored])
        pairs = np.flatnonzero(record.pair_det == row)  # at most one
        yield {
            "score": float(record.det_score[row]),  # unrounded, since it is compared with thresholds
            "cls": int(record.det_class[row]),
            "box": _pixels(record.stored_box[stored], size),
            "points": _pixels(record.stored_keypoints[stored], size),
            "conf": (record.stored_conf[stored] / 255).round(2).tolist(),
            "box_match": int(record.det_box_match[row, 0]),
            "pose_match": int(record.det_pose_match[row, 0]),
            "outcomes": (record.pair_outcome[pairs[0]] & OUTCOME_MASK).tolist() if len(pairs) else None,
        }


def _pixels(shares: npt.NDArray[np.uint16], size: npt.NDArray[np.int32]) -> list[float]:
    return dequantize(shares, size).reshape(-1).astype(float).round(1).tolist()
