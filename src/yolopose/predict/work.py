"""From images read to their results: input, network, suppression, the way back to image pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter

import numpy as np

from yolopose.config import PredictOptions
from yolopose.data.images import read_image
from yolopose.geometry import Letterbox
from yolopose.predict.items import Item
from yolopose.predict.plan import Plan
from yolopose.results import Results
from yolopose.runtime import Batch, Runtime
from yolopose.runtime.letterbox import letterbox_batch
from yolopose.runtime.nms import Detections, nms
from yolopose.schema import PoseSpec

Pair = tuple[Results, tuple[int, int]]
"""A result, and the (height, width) of its input; (0, 0) for an image that could not be read."""


def predict_items(runtime: Runtime, items: Sequence[Item], plan: Plan, options: PredictOptions) -> list[Pair]:
    """Predict some images: those of one input size go through the network together, at most `plan.batch` of them.

    Returns:
        One pair for each item, in their order.
    """
    pairs: list[Pair | None] = [_unreadable(item, runtime.metadata.spec) if item.error else None for item in items]
    fits = {index: plan.fit(item) for index, item in enumerate(items) if item.error is None}
    groups: dict[tuple[bool, tuple[int, int]], list[int]] = {}
    for index, fit in fits.items():
        groups.setdefault((items[index].planes is None, fit.out), []).append(index)
    for members in groups.values():
        for start in range(0, len(members), plan.batch):
            some = members[start : start + plan.batch]
            found = _predict_group(
                runtime, [items[index] for index in some], [fits[index] for index in some], plan, options
            )
            for index, result in zip(some, found, strict=True):
                pairs[index] = result, fits[index].out
    return [pair for pair in pairs if pair is not None]


def _unreadable(item: Item, spec: PoseSpec) -> Pair:
    error = item.error or ""
    return Results.unreadable(item.path, spec.names, error, schema=spec.keypoints, frame=item.frame), (0, 0)


def _predict_group(
    runtime: Runtime, items: list[Item], fits: list[Letterbox], plan: Plan, options: PredictOptions
) -> list[Results]:
    """The results of images that share an input size."""
    start = perf_counter()
    batch = _input(items, fits)
    ready = perf_counter()
    candidates = runtime.infer(batch, conf=plan.conf, classes=plan.classes)
    inferred = perf_counter()
    found = nms(candidates, len(items), iou=options.iou, max_det=options.max_det, agnostic=options.agnostic_nms)
    results = [_result(runtime, *parts) for parts in zip(items, fits, found, strict=True)]
    times = (ready - start, inferred - ready, perf_counter() - inferred)
    names = ("preprocess", "inference", "postprocess")
    for result in results:
        result.speed = {name: 1000 * value / len(items) for name, value in zip(names, times, strict=True)}
    return results


def _input(items: list[Item], fits: list[Letterbox]) -> Batch:
    planes = [item.planes for item in items if item.planes is not None]
    return np.stack(planes) if planes else letterbox_batch([item.image for item in items], fits)


def _result(runtime: Runtime, item: Item, fit: Letterbox, found: Detections) -> Results:
    spec = runtime.metadata.spec
    boxes = fit.boxes_to_source(found.boxes)
    rows = np.column_stack((boxes, found.scores, found.classes)).astype(np.float32)
    # an image decoded at a smaller scale is read whole when somebody wants its pixels
    image = item.image if item.full is None else partial(read_image, item.path)
    return Results(
        image,
        item.path,
        spec.names,
        orig_shape=fit.source,
        boxes=runtime.to_array(rows),
        keypoints=runtime.to_array(fit.points_to_source(found.points).astype(np.float32)),
        schema=spec.keypoints,
        frame=item.frame,
        sigmas=None if found.sigmas is None else runtime.to_array(fit.lengths_to_source(found.sigmas)),
    )
