"""Options of training that suit a data set: input size, batch, recipe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolopose.config import option_specs
from yolopose.data.doctor.findings import plural
from yolopose.data.doctor.row_checks import box_sides
from yolopose.data.doctor.survey import Survey

_STRIDE = 32
_WANTED = 32.0  # pixels that the side of the smaller instances should have in the input
_SMALL = 0.1  # quantile of sides that counts as the smaller instances
_LOW, _HIGH = 320, 1280
_FEW_IMAGES = 1000
_BATCHES = 16  # of an epoch, at least


@dataclass(frozen=True, slots=True)
class Advice:
    """A suggested option of training, with the reason."""

    option: str
    value: str
    reason: str


def training_advice(survey: Survey) -> list[Advice]:
    """Suggest imgsz, batch and recipe from the sizes and the number of training instances."""
    split = survey.split("train") or (survey.splits[0] if survey.splits else None)
    if split is None or not len(split.classes):
        return []
    advice: list[Advice] = []
    sides = box_sides(split)
    sides = sides[sides > 0]
    if len(sides):
        small = float(np.quantile(sides, _SMALL))
        longest = float(np.median(split.sizes.max(axis=1)))
        ideal = _WANTED / small
        side = int(np.clip(np.ceil(min(ideal, longest) / _STRIDE) * _STRIDE, _LOW, _HIGH))
        reason = f"nine of ten instances then have a side of at least {small * side:.0f} pixels"
        if ideal > longest:
            reason += f"; the images have {longest:.0f} pixels, so that more adds nothing"
        advice.append(Advice("imgsz", str(side), reason))
    images = len(split.files)
    batch = int(2 ** np.clip(np.floor(np.log2(max(images / _BATCHES, 1))), 2, 4))
    reason = (
        f"{plural(images, 'training image')} make {plural(-(-images // batch), 'batch', 'batches')} per epoch; "
        "on a GPU, batch=-1 uses its memory"
    )
    advice.append(Advice("batch", str(batch), reason))
    if "recipe" in option_specs("train"):
        reason = (
            f"with {images} images, options tuned for small data sets do better than those of COCO"
            if images < _FEW_IMAGES
            else f"{images} images: chooses between the recipes by size"
        )
        advice.append(Advice("recipe", "auto", reason))
    elif images < _FEW_IMAGES:
        advice.append(
            Advice("model", "pretrained weights", f"{images} training images are too few to start from random weights")
        )
    return advice
