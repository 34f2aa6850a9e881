"""The recipe of a run: values of the training options that the user does not set.

`recipe=reference` takes the defaults of the options, which suit sets of 100 000 images. `recipe=auto` chooses from what
is known before the first step: the number of images, the length of the run, and what the initial weights can do. The
constants were chosen on several small data sets with several seeds each; docs/few-images.md has the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from yolopose.base.log import LOGGER
from yolopose.config import TrainOptions
from yolopose.schema import PoseSpec
from yolopose.train.data import TrainData

_MANY_STEPS = 10_000
"""Optimizer steps after which accumulated gradients and a slow average cost nothing."""
_SMALL_SET = 400
"""Images below which small batches are used: steps count more than the precision of a gradient."""
_SMALL_BATCH = 8
_MIN_STEPS = 1500
"""Optimizer steps of a run without a given length, where 100 epochs are fewer."""
_MAX_EPOCHS = 300
_WARMUP_SHARE = 0.05
_EMA_SHARE = 0.06
_KPT_L1 = 1.0


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
    values = _auto_values(options, given, len(data.train), _is_known_task(start, data.spec))
    chosen = {name: value for name, value in values.items() if name not in given}
    result = replace(options, **chosen)
    changed = {name: value for name, value in chosen.items() if value != getattr(options, name)}
    LOGGER.info(f"recipe=auto, {_reason(data, start)}: {_describe(changed)}.")
    return result


def _auto_values(options: TrainOptions, given: Collection[str], images: int, known_task: bool) -> dict[str, Any]:
    """Return the values that suit a run, by option."""
    batch = options.batch if "batch" in given or images >= _SMALL_SET else _SMALL_BATCH
    if batch < 1:  # as many images as fit the memory: known later
        return {}
    per_epoch = math.ceil(images / batch)
    epochs = options.epochs
    if not {"epochs", "time"} & set(given):
        epochs = min(max(options.epochs, math.ceil(_MIN_STEPS / per_epoch)), _MAX_EPOCHS)
    steps = per_epoch * epochs
    values: dict[str, Any] = {"batch": batch, "epochs": epochs, "kpt_l1": _KPT_L1, "val_initial": known_task}
    if steps * batch / max(options.nbs, batch) >= _MANY_STEPS:
        return values
    return values | {
        # steps instead of accumulation: Adam's step does not grow with the gradient
        "nbs": int(batch),
        "warmup_epochs": round(min(options.warmup_epochs, _WARMUP_SHARE * epochs), 2),
        "ema_decay": round(min(options.ema_decay, 1 - 1 / max(_EMA_SHARE * steps, 2)), 5),
        "ema_tau": round(min(options.ema_tau, max(_EMA_SHARE * steps, 1.0)), 1),
    }


def _is_known_task(start: PoseSpec | None, spec: PoseSpec) -> bool:
    """Return whether the initial weights already predict the classes and keypoints of the data."""
    if start is None or start.classes != spec.classes:
        return False
    own, known = spec.keypoints, start.keypoints
    unnamed = not own.names or not known.names  # as in public weights
    return own.shape == known.shape and (unnamed or own.names == known.names)


def _reason(data: TrainData, start: PoseSpec | None) -> str:
    count = data.spec.keypoints.count
    if start is None:
        knowledge = "random weights"
    elif _is_known_task(start, data.spec):
        knowledge = "weights that know these keypoints"
    else:
        knowledge = f"weights of other keypoints ({start.keypoints.count}, the data has {count})"
    return f"{len(data.train)} images, {knowledge}"


def _describe(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "the defaults of all options"
