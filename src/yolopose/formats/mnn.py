"""MNN: one small file for phones, converted from ONNX. Loading does not import torch.

Importing `MNN.tools` installs another package and reports to a web service, so this module does not: the converter is
called in the extension module `_tools`.
"""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer, require_cpu, warn_half_is_fixed
from yolopose.formats.metadata import first_line, metadata_json, parse_metadata, read_metadata
from yolopose.formats.onnx import LEGACY_OPSET, write_graph
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> MnnRuntime:
    """Open an MNN file of yolopose or the reference package; see `Format.load`. It computes in float32."""
    require_cpu(device, "MNN")
    warn_half_is_fixed(half, path)
    return MnnRuntime(path)


class MnnRuntime(GraphRuntime):
    """Inference with MNN; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._buffer = InputBuffer()
        self._open(physical_cores())
        info = self._module.get_info()
        shape = [int(side) for side in info["inputs"][0].shape]
        is_fixed = len(shape) == 4 and min(shape) > 0  # MNN reports a free batch as 1
        self.metadata = read_metadata(path, parse_metadata(info["bizCode"]), shape if is_fixed else None)
        self.check_runs(path)

    def _open(self, threads: int) -> None:
        """Open the file for a number of threads; a module computes for one caller at a time."""
        # without high precision, an Arm CPU may compute in 16 bits at any precision of the file
        settings = {"backend": 0, "precision": "high", "numThread": threads}
        try:
            with quiet_libraries():
                nn: Any = import_module("MNN").nn
                manager = nn.create_runtime_manager((settings,))
                self._module = nn.load_module_from_file(str(self._path), [], [], runtime_manager=manager)
        except SystemError as error:  # raised by MNN for a file that is not an MNN file
            raise WeightsError(
                f"{self._path} cannot be opened by MNN {import_module('MNN').version()}. The file may be truncated or "
                "damaged (export or copy it again), or need a newer MNN."
            ) from error
        self._lock = threading.Lock()

    def _replica(self, threads: int) -> MnnRuntime:
        replica = self.clone()
        replica._open(threads)
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        expr: Any = import_module("MNN").expr
        values = self._buffer.fill(batch, size)
        with self._lock:
            value = expr.const(values, list(values.shape), expr.data_format.NCHW)
            output = self._module.forward([value])[0]
            return np.array(expr.convert(output, expr.data_format.NCHW).read(), copy=True)[: len(batch)]


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as MNN; see `Format.export`. `half` stores the weights in 16 bits."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "network.onnx"
        try:
            # the graph computes in float32; `half` only changes how weights are stored
            write_graph(replace(job, half=False), source, LEGACY_OPSET)
        except Exception as error:  # the converter may raise anything
            raise ExportError(f"Converting the network to MNN failed: {first_line(error)}") from error
        command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(path)]
        command += ["--bizCode", metadata_json(job), *["--fp16"] * job.half]
        with quiet_libraries():
            import_module("_tools").mnnconvert(command)
    if not path.is_file() or not path.stat().st_size:
        raise ExportError("Converting the network to MNN failed: its converter wrote no file.")
    return ExportReport(f"weights {job.precision}")
