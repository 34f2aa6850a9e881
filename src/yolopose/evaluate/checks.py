"""Checks of a validation run: network and data set match, outputs are finite, and what the scores do not cover."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, WeightsError
from yolopose.base.log import LOGGER
from yolopose.data.dataset import Dataset
from yolopose.data.labels import Annotations
from yolopose.runtime import Candidates, Runtime
from yolopose.schema import PoseSpec

_MAX_LISTED = 5
_NAN_HINT = "Its weights are damaged, or its training diverged; with half=True, try half=False."


def check_compatible(runtime: Runtime, dataset: Dataset, single_cls: bool = False) -> None:
    """Check that network and data set have the same keypoints and number of classes.

    Args:
        runtime: the network.
        dataset: the data set.
        single_cls: all classes count as one, so that their number may differ.

    Raises:
        DataError: they differ.
    """
    network_spec, data_spec = runtime.metadata.spec, dataset.spec
    name = runtime.metadata.name or "network"
    if network_spec.keypoints.shape != data_spec.keypoints.shape:
        raise DataError(
            f"The {name} was made for kpt_shape {list(network_spec.keypoints.shape)} (keypoints, values each), but the "
            f"data set {dataset.yaml_path} has kpt_shape {list(data_spec.keypoints.shape)}. Use the data set that the "
            "network was trained on, or a network trained on this one."
        )
    if single_cls:
        return
    if network_spec.nc != data_spec.nc:
        raise DataError(
            f"The {name} has {_describe_classes(network_spec)}, but the data set {dataset.yaml_path} has "
            f"{_describe_classes(data_spec)}. Use the data set that the network was trained on, a network trained on "
            "this one, or single_cls=True, which merges all classes into one."
        )
    if network_spec.nc > 1 and network_spec.classes != data_spec.classes:
        LOGGER.warning(
            f"The classes of the {name} ({', '.join(network_spec.classes)}) and of {dataset.yaml_path} "
            f"({', '.join(data_spec.classes)}) differ by name or order; they are matched by index."
        )


def _describe_classes(spec: PoseSpec) -> str:
    names = ", ".join(spec.classes[:_MAX_LISTED]) + (", …" if spec.nc > _MAX_LISTED else "")
    return f"{spec.nc} {'class' if spec.nc == 1 else 'classes'} ({names})"


def check_finite(candidates: Candidates, files: Sequence[Path]) -> None:
    """Check that the outputs of the network are finite.

    Args:
        candidates: of a batch.
        files: the images of the batch.

    Raises:
        WeightsError: a box, score or keypoint is NaN or infinite.
    """
    for values in (candidates.boxes, candidates.scores, candidates.points):
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if not finite.all():
            file = files[int(candidates.batch_idx[int(np.argmin(finite))])]
            raise WeightsError(f"The network returns NaN or infinite values for {file}. {_NAN_HINT}")


def check_scores_not_nan(runtime: Runtime, images: npt.NDArray[np.uint8]) -> None:
    """Check a network without any detection for NaN scores, which exceed no threshold and so reach no other check.

    Args:
        runtime: the network.
        images: (B, C, H, W) a batch of the run.

    Raises:
        WeightsError: no score exceeds -1.
    """
    if not len(runtime.infer(images, conf=-1.0).scores):
        raise WeightsError(f"The network returns NaN scores. {_NAN_HINT}")


def warn_about_results(labels: Annotations, num_detections: int) -> None:
    """Warn if images are missing in the scores, or if the network detected nothing.

    Args:
        labels: labels of the split.
        num_detections: detections of the run.
    """
    if labels.issues:
        names = sorted({issue.file.name for issue in labels.issues})
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        LOGGER.warning(
            f"{len(labels.issues)} of {len(labels) + len(labels.issues)} images were refused and do not count in the "
            f"scores: {', '.join(names[:_MAX_LISTED])}{more}. The reasons are logged above; strict=True stops at the "
            "first."
        )
    if not num_detections:
        LOGGER.warning(
            "The network detected nothing in any image, so that every score is 0: it is not trained, or conf= is too "
            "high."
        )
