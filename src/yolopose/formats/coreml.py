"""CoreML: a package for iOS and macOS. Exported on any system, run on macOS only."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.graph_runtime import GraphRuntime, warn_half_is_fixed
from yolopose.formats.metadata import file_metadata, first_line, read_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata

_INPUT = "image"
_OUTPUT = "output0"


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> CoremlRuntime:
    """Open a CoreML package; see `Format.load`. `device` is chosen by macOS.

    Raises:
        UsageError: this system is not macOS.
    """
    del device
    if sys.platform != "darwin":
        raise UsageError(
            f"{path} is a CoreML package, which runs on macOS and iOS only; this system is {sys.platform}. Export to "
            "another format for it: format=onnx or openvino."
        )
    warn_half_is_fixed(half, path)
    return CoremlRuntime(path)


class CoremlRuntime(GraphRuntime):
    """Inference with CoreML, image by image; implements `yolopose.runtime.Runtime`. Never run by the maintainers.

    Args:
        path: the package.
    """

    device = "coreml"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._model, self.metadata = _read_package(path, run=True)

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        image: Any = import_module("PIL.Image")
        pixels = batch[0] if np.issubdtype(batch.dtype, np.integer) else np.rint(batch[0] * 255)
        value = image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0), dtype=np.uint8))
        return np.asarray(self._model.predict({_INPUT: value})[_OUTPUT], dtype=np.float32)


def _read_package(path: Path, *, run: bool) -> tuple[Any, ModelMetadata]:
    """Return a package, loaded for inference with `run`, and its metadata.

    Raises:
        WeightsError: it is damaged, or not a pose network.
    """
    models: Any = _import_coremltools().models
    try:
        model = models.MLModel(str(path), skip_model_load=not run)
        description = model.get_spec().description
        image, output = description.input[0], description.output[0]
        input_shape = [1, 3, image.type.imageType.height, image.type.imageType.width]
        output_shape = [int(side) for side in output.type.multiArrayType.shape]
    except Exception as error:  # the reader may raise anything
        raise WeightsError(
            f"{path} cannot be opened by coremltools: {first_line(error)} The package may be incomplete or damaged: "
            "export or copy it again."
        ) from error
    if (image.name, output.name) != (_INPUT, _OUTPUT) or not input_shape[2] or len(output_shape) != 3:
        raise WeightsError(
            f"{path} is not a pose network of yolopose: its input is {image.name} {input_shape}, its output "
            f"{output.name} {output_shape}. Expected: an image {_INPUT}, and {_OUTPUT} of shape (1, 4+nc+K·D, A)."
        )
    return model, read_metadata(path, dict(description.metadata.userDefined), input_shape, output_shape)


def _import_coremltools() -> Any:
    """Import coremltools without its warnings about each library that is newer than itself."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")
        return import_module("coremltools")


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as a CoreML package that takes an image; see `Format.export`."""
    try:
        model = _convert(job)
    except Exception as error:  # the converter may raise anything
        raise ExportError(f"Converting the network to CoreML failed: {first_line(error)}") from error
    values = file_metadata(job)
    model.short_description = values["description"]
    model.license = values["license"]
    model.version = values["version"]
    model.author = "yolopose"
    for key, value in values.items():
        model.user_defined_metadata[key] = str(value)
    model.save(str(path))
    summary = f"iOS 16 and macOS 13 or newer, {job.precision}"
    return ExportReport(summary, "" if sys.platform == "darwin" else _check_description(job, path))


def _check_description(job: ExportJob, path: Path) -> str:
    """Check the metadata of a package on a system that cannot run it; return what was checked.

    Raises:
        ExportError: it does not describe the network.
    """
    _, metadata = _read_package(path, run=False)
    if metadata.spec != job.metadata.spec or metadata.imgsz != job.metadata.imgsz:
        raise ExportError("The package does not describe the exported network and was removed.")
    return (
        f"Not compared with torch: CoreML packages run on macOS only, this system is {sys.platform}. The description "
        "of input, output, classes and keypoints was checked."
    )


def _convert(job: ExportJob) -> Any:
    coremltools = _import_coremltools()
    height, width = job.metadata.imgsz
    image = coremltools.ImageType(name=_INPUT, shape=(1, 3, height, width), scale=1 / 255, color_layout="RGB")
    precision = coremltools.precision.FLOAT16 if job.half else coremltools.precision.FLOAT32
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")
        return coremltools.convert(
            _replace_unsupported(replace(job, half=False).export_program()),
            inputs=[image],
            outputs=[coremltools.TensorType(name=_OUTPUT)],
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS16,
            compute_precision=precision,
            skip_model_load=True,
        )


def _replace_unsupported(program: Any) -> Any:
    """Replace operators of an exported program that coremltools does not support."""
    import torch

    program = program.run_decompositions({})
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is torch.ops.aten.__and__.Tensor:
            node.target = torch.ops.aten.logical_and.default
    return program
