"""Whether network, data set and options fit each other, before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, UsageError, WeightsError
from yolopose.base.log import LOGGER
from yolopose.config import limit_workers
from yolopose.data.dataset import Dataset
from yolopose.data.labels import Annotations
from yolopose.runtime import Candidates, Runtime
from yolopose.schema import ModelMetadata, PoseSpec


def check_fit(runtime: Runtime, dataset: Dataset, single_cls: bool = False) -> None:
    """Raise an error when network and data set differ in keypoints or number of classes.

    Args:
        runtime: the network.
        dataset: the data set.
        single_cls: the classes are not told apart, so their number may differ.

    Raises:
        DataError: they differ; the text names both.
    """
    ours, theirs = runtime.metadata.spec, dataset.spec
    name = runtime.metadata.name or "network"
    if ours.keypoints.shape != theirs.keypoints.shape:
        raise DataError(
            f"The {name} was made for kpt_shape {list(ours.keypoints.shape)} (keypoints, values each), but the data "
            f"set {dataset.yaml_path} has kpt_shape {list(theirs.keypoints.shape)}. Use the data set that the network "
            "was trained on, or a network trained on this one."
        )
    if single_cls:
        return
    if ours.nc != theirs.nc:
        raise DataError(
            f"The {name} knows {_classes(ours)}, but the data set {dataset.yaml_path} has {_classes(theirs)}. Use the "
            "data set that the network was trained on, a network trained on this one, or single_cls=True, which "
            "takes all classes for one."
        )
    if ours.nc > 1 and ours.classes != theirs.classes:
        LOGGER.warning(
            f"The classes of the {name} ({', '.join(ours.classes)}) and of {dataset.yaml_path} "
            f"({', '.join(theirs.classes)}) differ by name or order; class 0 is compared with class 0, and so on."
        )


def check_numbers(candidates: Candidates, files: Sequence[Path]) -> None:
    """Raise an error when the network gives something that is no number.

    Args:
        candidates: of a batch.
        files: the images of the batch.

    Raises:
        WeightsError: a box, score or point is NaN or infinite; names the image.
    """
    for values in (candidates.boxes, candidates.scores, candidates.points):
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not finite.all():
            first = files[int(candidates.batch_idx[int(np.argmin(finite))])]
            raise WeightsError(
                f"The network gives values that are no numbers (NaN or infinite) for {first}, so that nothing can be "
                "measured. Its weights are damaged, or its training went astray; with half=True, try half=False."
            )


def check_scores(runtime: Runtime, images: npt.NDArray[np.uint8]) -> None:
    """Raise an error when a network that found nothing gives scores that are no numbers, which exceed no threshold.

    Args:
        runtime: the network.
        images: (B, 3, H, W) a batch that it saw.

    Raises:
        WeightsError: not one score exceeds -1.
    """
    if not len(runtime.infer(images, conf=-1.0).scores):
        raise WeightsError(
            "The network gives scores that are no numbers (NaN), so that nothing can be measured. Its weights are "
            "damaged, or its training went astray; with half=True, try half=False."
        )


def warn_about_results(labels: Annotations, detections: int) -> None:
    """Warn of what makes numbers other than they look: images left out, a network that finds nothing at all.

    Args:
        labels: labels of the split.
        detections: how many detections the run had.
    """
    if labels.issues:
        names = sorted({one.file.name for one in labels.issues})
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        LOGGER.warning(
            f"{len(labels.issues)} of {len(labels) + len(labels.issues)} images were refused and are not in these "
            f"numbers: {', '.join(names[:5])}{more}. The reasons stand above; strict=True stops at the first."
        )
    if not detections:
        LOGGER.warning(
            "The network found nothing in any image, so every number is 0: it has not learned yet, or conf= is too "
            "high."
        )


def data_path(data: str | None) -> str:
    """Return the data set that the options name.

    Raises:
        UsageError: they name none.
    """
    if not data:
        raise UsageError("Validation needs a data set: give data=… (a data YAML, such as coco8-pose.yaml).")
    return data


def class_filter(classes: int | Sequence[int] | None, dataset: Dataset) -> list[int] | None:
    """Return the class indices that count, None for all.

    Raises:
        UsageError: the data set has no class of such an index.
    """
    if classes is None:
        return None
    chosen = [classes] if isinstance(classes, int) else list(classes)
    unknown = [index for index in chosen if not 0 <= index < dataset.spec.nc]
    if unknown or not chosen:
        known = ", ".join(f"{index} ({name})" for index, name in dataset.spec.names.items())
        raise UsageError(f"classes={chosen} must be class indices of {dataset.yaml_path}; these are: {known}.")
    return chosen


def input_size(imgsz: int | Sequence[int], metadata: ModelMetadata) -> int | tuple[int, int]:
    """Return the side of loaded images, or the (height, width) that every input shall have, pixels.

    A network of fixed size decides for itself; other sizes are rounded up to its stride.

    Raises:
        UsageError: the size is no whole number nor a pair of them.
    """
    sides = (imgsz,) if isinstance(imgsz, int) else tuple(imgsz)
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise UsageError(f"imgsz must be a number of pixels or [height, width], got {imgsz!r}.")
    if not metadata.dynamic:
        if set(sides) != set(metadata.imgsz):
            LOGGER.warning(f"imgsz={imgsz} is not used: this network takes {list(metadata.imgsz)} alone.")
        return metadata.imgsz
    stride = metadata.stride
    rounded = tuple(-(-side // stride) * stride for side in sides)
    if rounded != sides:
        LOGGER.warning(f"imgsz={imgsz} is rounded up to {list(rounded)}: sides are multiples of the stride {stride}.")
    return rounded[0] if rounded[0] == rounded[-1] else (rounded[0], rounded[-1])


def threads(workers: int | None) -> int:
    """Return the threads for decoding: at most one per CPU; 0 leaves the choice open."""
    return limit_workers(workers)


def _classes(spec: PoseSpec) -> str:
    shown = ", ".join(spec.classes[:5]) + (", …" if spec.nc > 5 else "")
    return f"{spec.nc} {'class' if spec.nc == 1 else 'classes'} ({shown})"
