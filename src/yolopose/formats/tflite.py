"""TFLite (LiteRT): one file for Android and small boards, converted from torch. Loading does not import torch."""

from __future__ import annotations

import threading
import warnings
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.archives import open_zip, read_zip_member
from yolopose.base.cpu import physical_cores
from yolopose.base.errors import DataError, ExportError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer, require_cpu, warn_half_is_fixed
from yolopose.formats.metadata import (
    LEVELS,
    UnknownNetworkError,
    first_line,
    metadata_json,
    output_layout,
    parse_metadata,
    read_metadata,
)
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.registry import require_packages
from yolopose.runtime import Batch
from yolopose.schema import MAX_IMAGE_CHANNELS

METADATA_MEMBER = "metadata.json"
_MAX_METADATA = 16 << 20
"""Member of the zip archive that is appended to the graph, where other tools look for metadata."""


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> GraphRuntime:
    """Open a TFLite file; see `Format.load`."""
    require_cpu(device, "TFLite")
    warn_half_is_fixed(half, path)
    values = read_appended_metadata(path)
    if output_layout(values) == LEVELS:
        from yolopose.formats.toolchain.tflite_int8 import load_int8

        return load_int8(path, values)
    require_packages(("ai_edge_litert",), str(path))
    return TfliteRuntime(path, values)


class TfliteRuntime(GraphRuntime):
    """Inference with LiteRT; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.
        values: its stored metadata.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        super().__init__()
        self._path = path
        self._buffer = InputBuffer()
        self._open(physical_cores())
        ports = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        shapes = [[int(side) for side in port["shape"]] for port in ports]
        dtypes = [port["dtype"] for port in ports]
        channels = shapes[0][1] if len(shapes[0]) == 4 else 0
        if [len(shape) for shape in shapes] != [4, 3] or channels > MAX_IMAGE_CHANNELS or {*dtypes} != {np.float32}:
            raise UnknownNetworkError(
                f"{path} is not a pose network that can be run: its input is {dtypes[0].__name__} {shapes[0]}, its "
                f"output {dtypes[1].__name__} {shapes[1]}. Expected: float32, images (B, C, H, W) and "
                "(B, 4+nc+K·D, A), as exported by yolopose."
            )
        self._input, self._output = (port["index"] for port in ports)
        self.metadata = read_metadata(path, values, *shapes)

    def _open(self, threads: int) -> None:
        """Open the file for a number of threads; an interpreter computes for one caller at a time."""
        try:
            with quiet_libraries():  # it prints that it uses the CPU
                interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter
                self._interpreter = interpreter(model_path=str(self._path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{self._path} cannot be opened by LiteRT: {first_line(error)} The file may be truncated or damaged "
                "(export or copy it again), or need a newer ai-edge-litert."
            ) from error
        self._lock = threading.Lock()

    def _replica(self, threads: int) -> TfliteRuntime:
        replica = self.clone()
        replica._open(threads)
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = self._buffer.fill(batch, size)
        with self._lock:
            self._interpreter.set_tensor(self._input, values)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output)[: len(batch)]


def read_appended_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata that is appended to the graph; empty if there is none."""
    try:
        with open_zip(path) as archive:
            member = archive.getinfo(METADATA_MEMBER)
            return parse_metadata(read_zip_member(path, archive, member, _MAX_METADATA))
    except (DataError, KeyError, OSError):  # no archive, or of another kind
        return {}


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as TFLite; see `Format.export`. `half` stores the weights in 16 bits."""
    if job.calibration:
        from yolopose.formats.toolchain.tflite_int8 import export_int8

        return export_int8(job, path)
    try:
        _convert(replace(job, half=False), path)
        if job.half:
            _store_half(path)
    except Exception as error:  # the converter may raise anything
        raise ExportError(f"Converting the network to TFLite failed: {first_line(error)}") from error
    append_metadata(path, metadata_json(job))
    return ExportReport(f"weights {job.precision}")


def append_metadata(path: Path, text: str | bytes) -> None:
    """Append metadata to the graph."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_MEMBER, text)


def _convert(job: ExportJob, path: Path) -> None:
    converter: Any = import_module("litert_torch")
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")
        converter.convert(job.build_module(), (job.example_input(),)).export(str(path))


def _store_half(path: Path) -> None:
    """Store the weights in 16 bits; the graph widens them when it is opened."""
    weights = {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"}
    config = {"weight_tensor_config": weights, "compute_precision": "FLOAT", "explicit_dequantize": True}
    recipe = [{"regex": ".*", "operation": "*", "algorithm_key": "float_casting", "op_config": config}]
    with quiet_libraries():
        quantizer = import_module("ai_edge_quantizer.quantizer").Quantizer(str(path))
        quantizer.load_quantization_recipe(recipe)
        content = quantizer.quantize(enable_progress_report=False).quantized_model
    path.write_bytes(content)
