"""What a run says about itself beside its record: network, data, options; all that a report needs to be made later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from yolopose._version import __version__
from yolopose.config import ValOptions
from yolopose.data.dataset import Dataset
from yolopose.data.labels import Annotations
from yolopose.runtime import Runtime
from yolopose.schema import PoseSpec

_NAMED = 5  # of the images that are refused
_OPTIONS = ("imgsz", "batch", "conf", "iou", "max_det", "rect", "half", "augment", "single_cls", "classes")


def about_run(
    runtime: Runtime, dataset: Dataset, labels: Annotations, options: ValOptions, names: Mapping[int, str]
) -> dict[str, Any]:
    """Return plain values, as JSON can hold them.

    Args:
        runtime: the network.
        dataset: the data set.
        labels: labels of the split.
        options: of the run.
        names: the classes that were told apart.
    """
    given = {name: getattr(options, name) for name in _OPTIONS}
    return {
        "version": __version__,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": runtime.metadata.name,
        "device": str(runtime.device),
        "data": dataset.yaml_path.name,
        "root": str(dataset.root),
        "split": options.split,
        "names": [names[index] for index in sorted(names)],
        "spec": {**dataset.spec.to_dict(), "names": list(dataset.spec.classes)},
        "options": {name: _plain(value) for name, value in given.items()},
        "refused": len(labels.issues),
        "refused_names": sorted({one.file.name for one in labels.issues})[:_NAMED],
    }


def spec_of(about: Mapping[str, Any]) -> PoseSpec:
    """Return the classes and keypoints that `about_run` noted."""
    return PoseSpec.from_dict(about["spec"])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
