"""TFLite (LiteRT): one file for Android and small boards, converted from torch directly. Running it takes no torch."""

from __future__ import annotations

import copy
import threading
import warnings
import zipfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.capture import example
from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.graph_runtime import GraphRuntime, InputMemory
from yolopose.formats.levels import LEVELS
from yolopose.formats.metadata import first_line, outputs_of, read_record, record_in_text, record_text
from yolopose.formats.registry import require_packages
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_RECORD = "metadata.json"  # in a zip archive that stands behind the graph, where other tools look for it


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> GraphRuntime:
    """Open a TFLite file.

    Args:
        path: the file.
        device: `cpu`.
        half: has no effect: the file's numbers are what they were exported as.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    cpu_only(device, "TFLite")
    say_half_is_settled(half, path)
    found = record_behind(path)
    if outputs_of(found) == LEVELS:
        return import_module("yolopose.formats.toolchain.tflite_int8").load(path, found)
    require_packages(("ai_edge_litert",), str(path))
    return TfliteRuntime(path)


class TfliteRuntime(GraphRuntime):
    """Inference with LiteRT; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.

    Attributes:
        metadata: classes, keypoints, stride, the one input size and batch.
        device: `cpu`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._memory = path, InputMemory()
        self._use(physical_cores())
        given, output = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        shapes = [[int(side) for side in port["shape"]] for port in (given, output)]
        numbers = {port["dtype"] for port in (given, output)}
        if [len(shape) for shape in shapes] != [4, 3] or shapes[0][1] != 3 or numbers != {np.float32}:
            raise WeightsError(
                f"{path} is no pose network that can be run: its input is {given['dtype'].__name__} {shapes[0]}, its "
                f"output {output['dtype'].__name__} {shapes[1]}. Expected: float32, images (B, 3, H, W) and "
                "(B, 4+nc+K·D, A), as yolopose writes them."
            )
        self._input, self._output = given["index"], output["index"]
        self.metadata = read_record(path, record_behind(path), *shapes)

    def _use(self, threads: int) -> None:
        """Open the file for so many threads; an interpreter computes for one caller at a time."""
        try:
            with quiet_libraries():  # it tells that it computes on the CPU
                interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter
                self._interpreter = interpreter(model_path=str(self._path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{self._path} cannot be run: LiteRT says: {first_line(error)} The file may be cut off or damaged "
                "(export or copy it again), or need a newer ai-edge-litert."
            ) from error
        self._alone = threading.Lock()

    def _replica(self, threads: int) -> TfliteRuntime:
        replica = copy.copy(self)
        replica._use(threads)
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = self._memory.filled(batch, size)
        with self._alone:
            self._interpreter.set_tensor(self._input, values)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output)[: len(batch)]


def record_behind(path: Path) -> dict[str, Any]:
    """Return the keys of the record that stands behind the graph; none where there is no record."""
    try:
        with zipfile.ZipFile(path) as archive:
            return record_in_text(archive.read(_RECORD))
    except (zipfile.BadZipFile, KeyError, RuntimeError, OSError):  # nothing stands behind the graph
        return {}


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as TFLite.

    Args:
        job: the network and what is asked for; half stores the weights in 16 bits.
        path: the file to write.

    Returns:
        A few words on the file, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    if job.calibration:
        return import_module("yolopose.formats.toolchain.tflite_int8").export(job, path)
    try:
        _convert(replace(job, half=False), path)
        if job.half:
            _halve(path)
    except Exception as error:  # whatever the converter meets
        raise ExportError(f"The network cannot be written as TFLite: {first_line(error)}") from error
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_RECORD, record_text(job))
    return f"weights {job.precision}"


def _convert(job: ExportJob, path: Path) -> None:
    converter: Any = import_module("litert_torch")
    with warnings.catch_warnings(), quiet_libraries():
        warnings.simplefilter("ignore")
        converter.convert(job.module(), (example(job),)).export(str(path))


def _halve(path: Path) -> None:
    """Store the weights in 16 bits; the graph widens them when it is opened."""
    weights = {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"}
    how = {"weight_tensor_config": weights, "compute_precision": "FLOAT", "explicit_dequantize": True}
    recipe = [{"regex": ".*", "operation": "*", "algorithm_key": "float_casting", "op_config": how}]
    with quiet_libraries():
        found = import_module("ai_edge_quantizer.quantizer").Quantizer(str(path))
        found.load_quantization_recipe(recipe)
        content = found.quantize(enable_progress_report=False).quantized_model
    path.write_bytes(content)
