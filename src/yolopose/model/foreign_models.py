"""Networks of other packages behind `YOLO`: find their files, open them, and connect a detector to top-down ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.foreign import SUFFIXES, ForeignRuntime, find_foreign, foreign_file, open_foreign
from yolopose.foreign.engine import BoxSource, whole_image
from yolopose.model.hub import complete_suffix, find_weights, is_url

if TYPE_CHECKING:
    from yolopose.foreign.layout import Float32, Image
    from yolopose.model.runtimes import RuntimeConfig

_ENGINES = {None: None, "auto": None, "onnx": "onnx", "openvino": "openvino"}
_WHOLE_IMAGE = "image"


def foreign_path(path: Path) -> Path | None:
    """Return the file of a network of another package; None if the model is not certain to be one.

    Args:
        path: as given to `YOLO`: a name of the table (`rtmo-s`, also with the suffix of its file), or a file.

    Raises:
        NotFoundError: the table has this name, but no graph of the network is published.
        DownloadError: the file cannot be downloaded.
    """
    if path.exists():
        return path if path.suffix == ".task" or _is_foreign_tflite(path) else None
    suffix = path.suffix if path.suffix in SUFFIXES else ""
    if path.suffix != suffix:
        return None
    if path.parent == Path() and (row := find_foreign(path)) and path.name in (row.name, f"{row.name}{suffix}"):
        return foreign_file(row)
    return path if path.suffix == ".task" else None  # opening it reports that it does not exist


def find_network(model: str) -> Path:
    """Return the local file of a network of yolopose or of another package, as `YOLO` would open it.

    Args:
        model: path, name (`yolo11n-pose`, `rtmo-s`) or http(s) address.

    Raises:
        NotFoundError, DownloadError, WeightsError: see `find_weights` and `foreign_path`.
    """
    if is_url(model):
        return find_weights(model)
    path = complete_suffix(Path(model))
    return foreign_path(path) or find_weights(path)


def open_foreign_file(file: Path, config: RuntimeConfig) -> ForeignRuntime:
    """Open a network of another package.

    Raises:
        UsageError: an option does not apply to such a network, or the device is not available.
        WeightsError: the file is damaged or of an unknown layout.
    """
    if config.name not in _ENGINES:
        raise UsageError(f"runtime={config.name} does not run {file}: use onnx, openvino or auto, or omit it.")
    if config.end2end or config.uncertainty:
        option = "end2end" if config.end2end else "uncertainty"
        raise UsageError(f"{option}=True is not available in {file}, which is a network of another package: omit it.")
    detector = _box_source(config.detector) if config.detector else None
    runtime = open_foreign(
        file, device=config.device, half=config.half, engine=_ENGINES[config.name], detector=detector
    )
    if config.detector and not runtime.needs_boxes:
        raise UsageError(
            f"detector={config.detector} is for top-down networks, such as rtmpose-m; {runtime.metadata.name} finds "
            "the instances itself: omit detector=."
        )
    return runtime


def _box_source(name: str) -> BoxSource:
    """Return a function that finds boxes with a model, opened at its first call."""
    if name == _WHOLE_IMAGE:
        return whole_image
    models: list[Any] = []

    def detect(image: Image, conf: float) -> Float32:
        from yolopose.model.yolo import YOLO  # imports this module

        if not models:
            models.append(YOLO(name))
        boxes = models[0].predict(image, conf=conf, verbose=False)[0].cpu().numpy().boxes
        return np.column_stack((boxes.xyxy, boxes.conf)).astype(np.float32).reshape(-1, 5)

    return detect


def _is_foreign_tflite(path: Path) -> bool:
    """Return whether a file is a TFLite graph without the metadata that yolopose and the reference package append."""
    if path.suffix != ".tflite" or not path.is_file():
        return False
    from yolopose.formats.tflite import read_appended_metadata

    return not read_appended_metadata(path)


def describe_foreign(name: str) -> str:
    """Return the error text for what a network of another package cannot do."""
    return (
        f"{name} is a network of another package, which is run as it is: it can predict, track, label, validate and be "
        "benchmarked, but not be trained, exported or modified. To train a network of your own on its predictions, "
        f"write them as labels (`yolo label model={name} source=images/`) and train a model YAML on them, such as "
        "yolo11n-pose.yaml."
    )
