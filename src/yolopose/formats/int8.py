"""8-bit quantization: calibration images, the layers that stay in float32, and the quantizers of ONNX and OpenVINO."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.config import ExportSettings
from yolopose.data import load_dataset
from yolopose.data.dataset import Split
from yolopose.data.images import letterbox_batch, read_channels
from yolopose.geometry import Letterbox
from yolopose.schema import ModelMetadata

MAX_IMAGES = 300
"""Largest number of calibration images; more images no longer change the ranges."""
_FEW_IMAGES = 32
# ranges are moving averages over the images, so that a single bright spot does not widen them
_MOVING_AVERAGE = 0.05


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration images as network inputs.

    Attributes:
        files: image files.
        imgsz: (height, width) of the input.
        batch: images per input; the last input is filled up with the first images.
        description: their origin, for the log.
        channels: C, channels of the input.
    """

    files: tuple[Path, ...]
    imgsz: tuple[int, int]
    batch: int
    description: str
    channels: int = 3

    def __len__(self) -> int:
        """Return the number of inputs."""
        return -(-len(self.files) // self.batch)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield inputs, (batch, C, H, W) float32 0…1.

        Raises:
            SourceError: an image cannot be read.
        """
        for start in range(0, len(self.files), self.batch):
            indices = [(start + offset) % len(self.files) for offset in range(self.batch)]
            images = [read_channels(self.files[index], self.channels) for index in indices]
            fits = [Letterbox.fit((image.shape[0], image.shape[1]), self.imgsz) for image in images]
            yield np.divide(letterbox_batch(images, fits, self.channels), np.float32(255), dtype=np.float32)


def load_calibration(settings: ExportSettings, metadata: ModelMetadata, train_data: str | None) -> Calibration:
    """Choose the images that `data=`, `split=` and `fraction=` name, spread over the whole split.

    Args:
        settings: settings of the export.
        metadata: metadata of the file.
        train_data: data YAML of the network's training, used if `data=` is not given.

    Raises:
        UsageError: no data set is given, and that of the training is not on this machine.
        NotFoundError: the data YAML does not exist.
        DataError: the split has no images.
    """
    name, files = _image_files(settings, train_data)
    count = min(MAX_IMAGES, max(1, round(settings.fraction * len(files))))
    selected = tuple(files[index * len(files) // count] for index in range(count))
    if count < _FEW_IMAGES:
        LOGGER.warning(
            f"8-bit ranges come from only {count} images ({settings.split} of {name}): a hundred or more, similar "
            "to those that the network will see, give better ranges (data=, split=, fraction=)."
        )
    description = f"{count} images, {settings.split} of {Path(name).name}"
    return Calibration(selected, metadata.imgsz, max(1, metadata.batch), description, metadata.spec.channels)


def _image_files(settings: ExportSettings, train_data: str | None) -> tuple[str, list[Path]]:
    """Return name and images of the data set of `data=`, or of that of the training."""
    split = cast(Split, settings.split)
    if settings.data:
        return settings.data, load_dataset(settings.data, download=None, splits=[split]).image_files(split)
    if train_data:
        try:
            return train_data, load_dataset(train_data).image_files(split)
        except (YoloposeError, OSError):  # moved, or on another machine; the user did not name it
            pass
    moved = f" (that of the training, {train_data}, is not on this machine)" if train_data else ""
    raise UsageError(
        "The ranges of 8-bit values are calibrated on images like those that the network will see: name a data set "
        f"that has them, data=my-data.yaml{moved}; a hundred images are enough, and fraction= takes a part of many. "
        "For a first try, data=coco8-pose.yaml downloads 8 images (1 MB)."
    )


def float_nodes(nodes: Sequence[tuple[str, bool, Iterable[str], Iterable[str]]]) -> list[str]:
    """Return the nodes of a graph that stay in float32: everything outside the first and last convolutions.

    Decoding mixes pixels up to 640 and scores up to 1: with 255 steps, boxes would be off by several pixels and scores
    would be 0 or 1.

    Args:
        nodes: in topological order: name, whether it is a convolution, names of the values that it reads and writes.
    """
    outer: dict[str, None] = {}
    after_conv: set[str] = set()  # values that depend on a convolution
    for name, is_conv, reads, writes in nodes:
        depends = bool(after_conv.intersection(reads))
        if is_conv or depends:
            after_conv.update(writes)
        if not depends:
            outer[name] = None
    before_conv: set[str] = set()  # values that a convolution depends on
    for name, is_conv, reads, writes in reversed(nodes):
        feeds = bool(before_conv.intersection(writes))
        if is_conv or feeds:
            before_conv.update(reads)
        if not feeds:
            outer[name] = None
    return list(outer)


def quantize_onnx(model: Any, calibration: Calibration) -> Any:
    """Return an ONNX graph with 8-bit integers between quantize and dequantize operators (QDQ).

    Args:
        model: float32 `onnx.ModelProto`; nodes without a name get one.
        calibration: images that the ranges are taken from.
    """
    quantization: Any = import_module("onnxruntime.quantization")
    graph = model.graph
    for index, node in enumerate(graph.node):
        node.name = node.name or f"node_{index}"
    # marks the graph as simplified, else onnxruntime logs two warnings
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    nodes = [(node.name, node.op_type == "Conv", node.input, node.output) for node in graph.node]
    with TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            str(target),
            _calibration_reader(quantization, calibration, graph.input[0].name),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=float_nodes(nodes),
            extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": _MOVING_AVERAGE},
        )
        return import_module("onnx").load(str(target))


def _calibration_reader(quantization: Any, calibration: Calibration, name: str) -> Any:
    """Return the images as an onnxruntime `CalibrationDataReader`."""
    inputs = iter(calibration)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            batch = next(inputs, None)
            return None if batch is None else {name: batch}

    return Reader()


@cache
def import_nncf() -> Any:
    """Import NNCF without its telemetry; see `yolopose.formats.openvino`."""
    from yolopose.formats.openvino import telemetry_disabled

    with telemetry_disabled():
        nncf = import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def quantize_openvino(model: Any, calibration: Calibration) -> Any:
    """Return an 8-bit OpenVINO graph.

    Args:
        model: float32 `openvino.Model`.
        calibration: images that the ranges are taken from.
    """

    def name(node: Any) -> str:
        return str(node.get_friendly_name())

    nodes = [
        (
            name(node),
            node.get_type_name() in ("Convolution", "GroupConvolution"),
            [name(port.get_source_output().get_node()) for port in node.inputs()],
            [name(node)],
        )
        for node in model.get_ordered_ops()
    ]
    nncf = import_nncf()
    return nncf.quantize(
        model,
        nncf.Dataset(calibration),
        preset=nncf.QuantizationPreset.MIXED,  # asymmetric activations: SiLU is at least -0.28
        subset_size=len(calibration),
        ignored_scope=nncf.IgnoredScope(names=float_nodes(nodes), validate=False),
    )
