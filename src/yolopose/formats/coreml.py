"""CoreML: a package for iOS and macOS. It is written on any system, and run on macOS alone."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.capture import program
from yolopose.formats.devices import say_half_is_settled
from yolopose.formats.graph_runtime import GraphRuntime
from yolopose.formats.metadata import RECORD, first_line, own_record, public_record, read_record
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_INPUT, _OUTPUT = "image", "output0"


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> CoremlRuntime:
    """Open a CoreML package.

    Args:
        path: the package, a folder.
        device: left to macOS.
        half: has no effect: the package's numbers are what they were exported as.

    Raises:
        UsageError: this system is not macOS.
        WeightsError: the package is damaged, or no pose network that can be understood.
    """
    del device
    if sys.platform != "darwin":
        raise UsageError(
            f"{path} is a CoreML package, which macOS and iOS alone can run; this system is {sys.platform}. Export to "
            "another format for it: format=onnx or openvino."
        )
    say_half_is_settled(half, path)
    return CoremlRuntime(path)


class CoremlRuntime(GraphRuntime):
    """Inference with CoreML, image by image; implements `yolopose.runtime.Runtime`. Never run by its authors.

    Args:
        path: the package.

    Attributes:
        metadata: classes, keypoints, stride, the one input size.
        device: `coreml`.
    """

    device = "coreml"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._model, self.metadata = _read(path, run=True)

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        image: Any = import_module("PIL.Image")
        pixels = batch[0] if np.issubdtype(batch.dtype, np.integer) else np.rint(batch[0] * 255)
        given = image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.uint8))
        return np.asarray(self._model.predict({_INPUT: given})[_OUTPUT], dtype=np.float32)


def inspect(job: ExportJob, path: Path) -> str:
    """Check what a written package says of itself, on systems that cannot run it.

    Returns:
        A sentence on what was checked, and what was not.

    Raises:
        ExportError: it is not what was asked for.
    """
    _, found = _read(path, run=False)
    if found.spec != job.metadata.spec or found.imgsz != job.metadata.imgsz:
        raise ExportError("The package does not describe the network that it was made of; it was removed.")
    return (
        f"Not compared with torch: macOS alone runs CoreML packages, this system is {sys.platform}. What it says of "
        "its input, output, classes and keypoints was checked."
    )


def _read(path: Path, *, run: bool) -> tuple[Any, ModelMetadata]:
    """The package and its record.

    Raises:
        WeightsError: it is damaged, or no pose network that can be understood.
    """
    models: Any = _coremltools().models
    try:
        model = models.MLModel(str(path), skip_model_load=not run)
        about = model.get_spec().description
        given, output = about.input[0], about.output[0]
        sides = [1, 3, given.type.imageType.height, given.type.imageType.width]
        names, shape = (given.name, output.name), [int(side) for side in output.type.multiArrayType.shape]
    except Exception as error:  # whatever its reader meets
        raise WeightsError(
            f"{path} cannot be read: coremltools says: {first_line(error)} The package may be incomplete or damaged: "
            "export or copy it again."
        ) from error
    if names != (_INPUT, _OUTPUT) or not sides[2] or len(shape) != 3:
        raise WeightsError(
            f"{path} is no pose network as yolopose writes it: its input is {names[0]} {sides}, its output {names[1]} "
            f"{shape}. Expected: an image {_INPUT}, and {_OUTPUT} of shape (1, 4+nc+K·D, A)."
        )
    return model, read_record(path, dict(about.metadata.userDefined), sides, shape)


def _coremltools() -> Any:
    """Import coremltools, which warns of every library that is newer than itself."""
    logger = logging.getLogger("coremltools")
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")
        return import_module("coremltools")


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as a CoreML package that takes an image.

    Args:
        job: the network and what is asked for; half computes in 16 bits.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    try:
        model = _convert(job)
    except Exception as error:  # whatever the converter meets
        raise ExportError(f"The network cannot be written for CoreML: {first_line(error)}") from error
    public = public_record(job)
    model.short_description, model.license = public["description"], public["license"]
    model.version, model.author = public["version"], "yolopose"
    for key, value in {RECORD: own_record(job.metadata), **public}.items():
        model.user_defined_metadata[key] = str(value)
    model.save(str(path))
    return f"iOS 16 and macOS 13 or newer, {job.precision}"


def _convert(job: ExportJob) -> Any:
    tools, (height, width) = _coremltools(), job.metadata.imgsz
    img = tools.ImageType(name=_INPUT, shape=(1, 3, height, width), scale=1 / 255, color_layout="RGB")
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")
        return tools.convert(
            _plain(program(replace(job, half=False))),
            inputs=[img],
            outputs=[tools.TensorType(name=_OUTPUT)],
            convert_to="mlprogram",
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT16 if job.half else tools.precision.FLOAT32,
            skip_model_load=True,
        )


def _plain(graph: Any) -> Any:
    """An exported program in words that coremltools knows: nothing to train, no conversion of like to like."""
    import torch

    found = graph.run_decompositions({})
    nodes = found.graph_module.graph
    for node in list(nodes.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            nodes.erase_node(node)
        elif node.target is torch.ops.aten.__and__.Tensor:
            node.target = torch.ops.aten.logical_and.default
    return found
