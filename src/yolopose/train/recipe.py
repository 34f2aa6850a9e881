"""The recipe of a run: values of the training options that the user does not set.

`recipe=reference` takes the defaults of the options, which suit sets of 100 000 images. `recipe=auto` chooses from what
is known before the first step: the number of images, the length of the run, and what the initial weights can do. The
constants come from runs of one to three seeds on small data sets, which benchmarks/RESULTS.md lists (screening).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions
from yolopose.data.labels import FloatArray
from yolopose.schema import COCO_PERSON_NAMES, PoseSpec
from yolopose.train.data import TrainData

_ENOUGH_STEPS = 10_000
"""Optimizer steps, with accumulated gradients, above which the schedule of large sets is kept."""
_STEPS_OF_BATCHES = {8: 200, 4: 80, 2: 0}
"""Smaller batches, tried in this order where the default batch gives too few steps, and the least steps of each."""
_WANTED_STEPS = 400
"""Optimizer steps that are enough for the default batch."""
_HEAD_STEPS = 300
"""Steps of the keypoint branch alone, where the initial weights know other keypoints."""
_DEFAULT_STEPS = 1500
"""Optimizer steps of a run without a given length, where 100 epochs have fewer."""
_MAX_EPOCHS = 300
_WARMUP_SHARE = 0.05
_SHORT_STEPS = 1000
"""Optimizer steps up to which a run has no mosaic. A mosaic cuts instances, which a short run cannot afford."""
_PLAIN_SHARE = 0.2
_PLAIN_STEPS = 500
"""The end of a longer run without mosaic: a share of its epochs, and at least so many steps."""
_PLAIN_SCALE = 0.25
"""Scale augmentation of a run without mosaic."""
_AVERAGED_SHARE = 0.06
"""Share of the steps over which the weights are averaged."""
_FILLS_IMAGE = 0.6
"""Median side of instances, as a share of the image, above which a mosaic would cut most of them."""
_ONE_SIDED = 3.0
"""Distance of the keypoints from their mirrored places, in standard deviations, above which no image is mirrored."""
_MAX_SEPARATION = 10.0
_MIN_SPREAD = 0.05
"""Least standard deviation of a keypoint, as a share of the box width."""
_MIN_INSTANCES = 10
"""Instances of a class that show whether it always faces one side."""


def choose_options(
    options: TrainOptions, given: Collection[str], data: TrainData, start: PoseSpec | None
) -> TrainOptions:
    """Complete the options of a run by its recipe, and log what was chosen.

    Args:
        options: of the caller.
        given: names of the options that the caller set; they are kept.
        data: data of the run.
        start: classes and keypoints of the initial weights; None for random weights.
    """
    if options.recipe == "reference":
        return options
    images = len(data.train)
    values = _auto_values(options, given, images, data.spec, start)
    if _median_side(data) > _FILLS_IMAGE:
        values["mosaic"] = 0.0
    if "mosaic" in values and "mosaic" not in given:
        values["scale"] = _PLAIN_SCALE
    if _is_one_sided(data):
        values["fliplr"] = 0.0
    chosen = {name: value for name, value in values.items() if name not in given and value != getattr(options, name)}
    text = ", ".join(f"{name}={value}" for name, value in chosen.items()) or "the defaults of all options"
    LOGGER.info(f"recipe=auto for {images} images and {_describe_start(data.spec, start)}: {text}.")
    if "fliplr" in chosen:
        LOGGER.info("fliplr=0, since all instances face one side and `flip_idx` exchanges no keypoints.")
    return replace(options, **chosen)


def _auto_values(
    options: TrainOptions, given: Collection[str], images: int, spec: PoseSpec, start: PoseSpec | None
) -> dict[str, Any]:
    """Return the values that suit a run, by option."""
    known = has_same_keypoints(start, spec)
    values: dict[str, Any] = {"kpt_l1": 1.0, "kpt_prior": not known, "val_initial": _is_known_task(start, spec)}
    if start is not None and not known:
        values["head_steps"] = _HEAD_STEPS
    if options.batch < 1:  # as many images as fit the memory, which is measured later
        return values
    values["epochs"] = epochs = _choose_epochs(options, given, images)
    if _steps(images, max(options.batch, options.nbs), epochs) >= _ENOUGH_STEPS:
        return values
    values["batch"] = batch = options.batch if "batch" in given else _choose_batch(int(options.batch), images, epochs)
    steps = _steps(images, batch, epochs)
    averaged = max(_AVERAGED_SHARE * steps, 2.0)
    values |= {
        "nbs": int(batch),  # one step per batch: with Adam, a sum of gradients is not a longer step
        "warmup_epochs": round(min(options.warmup_epochs, _WARMUP_SHARE * epochs), 2),
        "ema_decay": round(min(options.ema_decay, 1 - 1 / averaged), 5),
        "ema_tau": round(min(options.ema_tau, averaged), 1),
    }
    if steps <= _SHORT_STEPS and "close_mosaic" not in given:
        values["mosaic"] = 0.0
    else:
        values["close_mosaic"] = max(round(_PLAIN_SHARE * epochs), math.ceil(_PLAIN_STEPS * epochs / steps))
    if not {"optimizer", "lr0", "momentum"} & set(given):
        values |= {"optimizer": "AdamW", "lr0": round(0.01 / (4 + spec.nc), 6), "momentum": 0.9, "warmup_bias_lr": 0.0}
    return values


def _choose_epochs(options: TrainOptions, given: Collection[str], images: int) -> int:
    """Return the epochs; more than the default for a tiny set, unless the length is given."""
    if {"epochs", "time"} & set(given):
        return options.epochs
    per_epoch = math.ceil(images / max(options.batch, 1))
    return min(max(options.epochs, math.ceil(_DEFAULT_STEPS / per_epoch)), max(_MAX_EPOCHS, options.epochs))


def _choose_batch(default: int, images: int, epochs: int) -> int:
    """Return the default batch if it gives enough steps, else the largest smaller one that does."""
    if _steps(images, default, epochs) >= _WANTED_STEPS:
        return default
    smaller = {batch: steps for batch, steps in _STEPS_OF_BATCHES.items() if batch < default}
    return next((batch for batch, steps in smaller.items() if _steps(images, batch, epochs) >= steps), default)


def _steps(images: int, batch: float, epochs: int) -> int:
    return math.ceil(images / batch) * epochs


def _median_side(data: TrainData) -> float:
    """Return the median of the root of the box areas, as a share of the image."""
    boxes = data.train.boxes
    return float(np.median(np.sqrt(boxes[:, 2] * boxes[:, 3]))) if len(boxes) else 0.0


def _is_one_sided(data: TrainData) -> bool:
    """Return whether mirrored images would show what the data never contains.

    That is so where `flip_idx` exchanges no keypoints, so that a mirrored left paw stays a left paw, and the instances
    of every class face one side, as an animal in front of a fixed camera.
    """
    flip_idx = data.spec.keypoints.flip_idx
    if flip_idx is None or tuple(flip_idx) != tuple(range(data.spec.keypoints.count)):
        return False
    labels = data.train
    classes, counts = np.unique(labels.classes, return_counts=True)
    enough = [labels.classes == index for index in classes[counts >= _MIN_INSTANCES]]
    return bool(enough) and all(
        _mirror_separation(labels.boxes[rows], labels.keypoints[rows]) > _ONE_SIDED for rows in enough
    )


def _mirror_separation(boxes: FloatArray, keypoints: FloatArray) -> float:
    """Return the distance of the keypoints from their mirrored places, in standard deviations (RMS over keypoints).

    Args:
        boxes: (N, 4) normalized cx, cy, w, h.
        keypoints: (N, K, 3) normalized x, y, v.
    """
    is_labeled = keypoints[..., 2] > 0
    usable = is_labeled.sum(0) >= _MIN_INSTANCES
    if not usable.any():
        return 0.0
    offsets = (keypoints[..., 0] - boxes[:, None, 0]) / boxes[:, None, 2]
    offsets = np.where(is_labeled, offsets, np.nan)[:, usable]
    separation = 2 * np.abs(np.nanmean(offsets, 0)) / np.maximum(np.nanstd(offsets, 0), _MIN_SPREAD)
    return float(np.sqrt(np.mean(np.minimum(separation, _MAX_SEPARATION) ** 2)))


def _is_known_task(start: PoseSpec | None, spec: PoseSpec) -> bool:
    """Return whether the initial weights already predict the classes and keypoints of the data."""
    return start is not None and start.classes == spec.classes and has_same_keypoints(start, spec)


def has_same_keypoints(start: PoseSpec | None, spec: PoseSpec) -> bool:
    """Return whether the initial weights predict the keypoints of the data; the names of the classes may differ."""
    if start is None or start.keypoints.shape != spec.keypoints.shape:
        return False
    own, known = _keypoint_names(spec), _keypoint_names(start)
    return not own or not known or own == known  # without names, the same number means the same keypoints


def _keypoint_names(spec: PoseSpec) -> tuple[str, ...]:
    """Return the names of the keypoints in a comparable spelling; () if there are none."""
    names = next(iter(spec.keypoints.names.values()), ())
    if not names and spec.classes == ("person",) and spec.keypoints.count == len(COCO_PERSON_NAMES):
        names = COCO_PERSON_NAMES  # public weights do not store them
    return tuple(name.lower().replace(" ", "").replace("_", "").replace("-", "") for name in names)


def _describe_start(spec: PoseSpec, start: PoseSpec | None) -> str:
    if start is None:
        return "random weights"
    return "weights of the same keypoints" if has_same_keypoints(start, spec) else "weights of other keypoints"
